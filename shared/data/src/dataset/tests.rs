use super::*;

/// Beside the text, without a word.
const QUIET: TokenCache = TokenCache { dir: None, say: &|_| {} };

fn open(name: &str, bytes: &[u8], vocab_size: usize, seq_len: usize) -> Result<Dataset> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    Dataset::open(&path, &Tokenizer::Bytes, QUIET, vocab_size, seq_len)
}

fn le(tokens: &[u16]) -> Vec<u8> {
    tokens.iter().flat_map(|t| t.to_le_bytes()).collect()
}

#[test]
fn samples_overlap_by_the_one_token_that_is_only_a_target() {
    for len in [9, 10, 11] {
        let dataset = Dataset::from_tokens((0..len).collect(), 100, 3).unwrap();
        assert_eq!(dataset.samples(), if len == 9 { 2 } else { 3 });
        assert_eq!(dataset.sample(0).unwrap(), [0, 1, 2, 3]);
        assert_eq!(dataset.sample(1).unwrap(), [3, 4, 5, 6]);
    }
}

#[test]
fn text_and_token_files_are_read_alike() {
    let text = open("a.txt", "caf\u{e9}!".as_bytes(), 256, 2).unwrap();
    let tokens = open("a.bin", &le(&[0x63, 0x61, 0x66, 0xC3, 0xA9, 0x21]), 256, 2).unwrap();
    assert_eq!((text.tokens(), text.samples()), (6, 2));
    for i in 0..2 {
        assert_eq!(text.sample(i).unwrap(), tokens.sample(i).unwrap());
    }
    let big = open("b.bin", &le(&[65535, 1, 258]), 65536, 2).unwrap();
    assert_eq!(big.sample(0).unwrap(), [65535, 1, 258]);
    let wide: Vec<u8> = [128_255_u32, 1, 70_000].into_iter().flat_map(u32::to_le_bytes).collect();
    let numbers = open("c.u32", &wide, 128_256, 2).unwrap();
    assert_eq!(numbers.sample(0).unwrap(), [128_255, 1, 70_000]);
    let error = format!("{:#}", open("c.u32", &wide, 128_000, 2).unwrap_err());
    assert!(error.ends_with("token 128255 at position 0 is outside the vocabulary of 128000"));
}

#[test]
fn a_token_that_opening_does_not_look_at_is_found_when_it_is_read() {
    // Of 511 samples of 2 tokens, opening looks at every other one: 0, 2, 4 … 510.
    for sample in [0, 1, 254, 255, 509, 510] {
        let mut tokens = vec![7; 2 * 511 + 1];
        let position = 2 * sample + 1; // in no other sample
        tokens[position] = 190;
        let error = match open("x.bin", &le(&tokens), 190, 2) {
            Err(error) => {
                assert!(sample % 2 == 0, "opening has looked at sample {sample}");
                error
            }
            Ok(dataset) => {
                assert!(sample % 2 == 1, "opening has not looked at sample {sample}");
                assert_eq!(dataset.sample(sample - 1).unwrap(), [7; 3]);
                assert_eq!(dataset.sample(sample + 1).unwrap(), [7; 3]);
                dataset.sample(sample).unwrap_err()
            }
        };
        let error = format!("{error:#}");
        let id = format!("token 190 at position {position} is outside the vocabulary of 190");
        assert!(error.starts_with("data file /") && error.ends_with(&id), "{error}");
    }
}

#[test]
fn other_data_of_the_same_length_have_another_fingerprint() {
    let of = |tokens: Vec<u32>| Dataset::from_tokens(tokens, 9, 2).unwrap().fingerprint();
    let plain = of(vec![1, 2, 3, 4, 5]);
    assert_eq!(plain, of(vec![1, 2, 3, 4, 5]));
    let others = [vec![0, 2, 3, 4, 5], vec![1, 2, 3, 4, 6], vec![2, 1, 3, 4, 5]].map(of);
    assert!(!others.contains(&plain), "{plain} {others:?}");
    assert_eq!(of(vec![1; 3]), of(vec![1; 3]), "one sample");
    assert_ne!(of(vec![1; 4001]), of(vec![2; 4001]), "more samples than are looked at");
}

#[test]
fn the_tales_fit_their_byte_vocabulary() {
    let dataset = Dataset::tales(&Tokenizer::Bytes, 256, 128).unwrap();
    assert_eq!(dataset.tokens(), corpus::SIZE);
}

#[test]
fn refusals_name_what_is_wrong() {
    let cases: [(&str, Vec<u8>, &str); 7] = [
        ("x.bin", vec![1, 0, 2], "it has 3 bytes, but its tokens have 2 each, and one is cut off"),
        ("x.bin", le(&[1, 2, 3]), "it has 3 tokens, but one sample of seq-len 3 needs 4"),
        ("x.bin", vec![], "it has 0 tokens, but one sample of seq-len 3 needs 4"),
        ("x.txt", vec![], "it has 0 tokens, but one sample of seq-len 3 needs 4"),
        (
            "x.bin",
            le(&[1, 2, 3, 189, 5, 6, 190]),
            "token 190 at position 6 is outside the vocabulary of 190",
        ),
        (
            "x.txt",
            b"abcd\xC3\xA9".to_vec(),
            "token 195 at position 4 is outside the vocabulary of 190",
        ),
        (
            "x.txt",
            b"ab\nc\xFFd".to_vec(),
            "it is not UTF-8 text: byte 0xff at position 4, line 2 (files of tokens end in .bin or .u32)",
        ),
    ];
    for (name, bytes, expected) in cases {
        let error = format!("{:#}", open(name, &bytes, 190, 3).err().unwrap());
        assert!(error.starts_with("data file /") && error.ends_with(expected), "{error}");
    }
    let missing = Dataset::open(Path::new("/no/x.bin"), &Tokenizer::Bytes, QUIET, 190, 3);
    let error = format!("{:#}", missing.err().unwrap());
    assert_eq!(
        error,
        "data file /no/x.bin: cannot be read: No such file or directory (os error 2)"
    );
}
