use super::*;
use tch::Kind;

#[test]
#[should_panic(expected = "not contiguous")]
fn one_number_seen_a_thousand_times_is_refused() {
    bytes(&Tensor::ones([1], (Kind::Float, Device::Cpu)).expand([1000], false));
}
