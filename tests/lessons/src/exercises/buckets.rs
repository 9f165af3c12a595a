//! Buckets in the order in which gradients become ready.

use anyhow::Result;

/// The function to be written: (sizes, ready, first, most) to buckets of parameters.
pub type Assign = fn(&[usize], &[usize], usize, usize) -> Result<Vec<Vec<usize>>>;

/// Sizes, the order of readiness, and the buckets that they should get.
type Case = (&'static [usize], &'static [usize], &'static [&'static [usize]]);

#[track_caller]
fn assigned(
    assign: Assign,
    sizes: &[usize],
    ready: &[usize],
    first: usize,
    most: usize,
) -> Vec<Vec<usize>> {
    match assign(sizes, ready, first, most) {
        Ok(buckets) => buckets,
        Err(error) => panic!("sizes {sizes:?}, ready {ready:?} is refused: {error}"),
    }
}

/// Every parameter is in one bucket, in the order of readiness.
pub fn every_parameter_once_and_in_order(assign: Assign) {
    let cases: [(&[usize], &[usize]); 4] = [
        (&[], &[]),
        (&[4], &[0]),
        (&[4, 4, 4, 4], &[3, 2, 1, 0]),
        (&[1, 9, 2, 5, 3], &[4, 1, 3, 0, 2]),
    ];
    for (sizes, ready) in cases {
        let buckets = assigned(assign, sizes, ready, 4, 8);
        assert_eq!(
            buckets.concat(),
            ready,
            "sizes {sizes:?}: the parameters of all buckets, in order"
        );
        assert!(buckets.iter().all(|bucket| !bucket.is_empty()), "an empty bucket is never full");
    }
}

/// No bucket is over-full, and none could take the next parameter too.
pub fn buckets_are_as_full_as_they_may_be(assign: Assign) {
    let cases: [Case; 5] = [
        (&[4, 4, 4, 4], &[3, 2, 1, 0], &[&[3], &[2, 1], &[0]]),
        (&[1, 1, 1, 1, 1, 1], &[5, 4, 3, 2, 1, 0], &[&[5, 4, 3, 2], &[1, 0]]),
        (&[2, 3, 3, 2, 2], &[4, 3, 2, 1, 0], &[&[4, 3], &[2, 1, 0]]),
        (&[8, 4, 4], &[1, 2, 0], &[&[1], &[2], &[0]]),
        (&[3, 3, 3], &[0, 1, 2], &[&[0], &[1, 2]]),
    ];
    for (sizes, ready, expected) in cases {
        let buckets = assigned(assign, sizes, ready, 4, 8);
        assert_eq!(buckets, expected, "sizes {sizes:?}, ready {ready:?}, at most 4 first, then 8");
    }
}

/// One that is larger than a bucket stands alone, first or not.
pub fn a_large_parameter_has_its_own_bucket(assign: Assign) {
    let cases: [Case; 3] = [
        (&[20, 1, 1], &[0, 1, 2], &[&[0], &[1, 2]]),
        (&[1, 20, 1], &[0, 1, 2], &[&[0], &[1], &[2]]),
        (&[1, 1, 20], &[0, 1, 2], &[&[0, 1], &[2]]),
    ];
    for (sizes, ready, expected) in cases {
        let buckets = assigned(assign, sizes, ready, 4, 8);
        assert_eq!(buckets, expected, "sizes {sizes:?}, ready {ready:?}, at most 4 first, then 8");
    }
}

/// The sentence names the parameter.
pub fn what_cannot_be_is_refused(assign: Assign) {
    let cases: [(&[usize], &str, &str); 3] = [
        (&[0, 1, 2, 7], "7", "a parameter that is not there"),
        (&[0, 1, 2, 1], "1", "a parameter that is ready twice"),
        (&[0, 2], "1", "a parameter that the backward pass does not reach"),
    ];
    for (ready, number, why) in cases {
        match assign(&[4, 4, 4], ready, 4, 8) {
            Ok(buckets) => panic!("{why}, ready {ready:?}, is not refused: {buckets:?}"),
            Err(error) => {
                let text = format!("{error:#}");
                assert!(
                    text.contains(number),
                    "{why}: the sentence must name it, {number}: {text}"
                );
            }
        }
    }
}
