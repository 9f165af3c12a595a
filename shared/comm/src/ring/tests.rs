use super::chunk;

/// Longer than 32 bits count, and with products of length and rank that 53 bits do not hold.
#[test]
fn chunks_of_any_length_follow_each_other_and_are_nearly_equal() {
    let lengths = [0, 1, 5, (1 << 32) - 1, 1 << 32, (1 << 32) + 7, 405_853_388_800, (1 << 45) + 3];
    for len in lengths {
        for n in [1, 2, 3, 7, 8, 1000, 16_384] {
            let mut end = 0;
            for c in 0..n {
                let chunk = chunk(len, c, n);
                assert_eq!(chunk.start, end, "chunk {c} of {n}, of {len} elements");
                let exact = (len as u128 * (c as u128 + 1) / n as u128) as usize;
                assert_eq!(chunk.end, exact, "chunk {c} of {n}, of {len} elements");
                assert!((len / n..=len.div_ceil(n)).contains(&chunk.len()));
                end = chunk.end;
            }
            assert_eq!(end, len);
        }
    }
}
