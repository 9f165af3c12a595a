use super::*;

#[test]
fn a_process_that_was_stopped_has_not_waited_meanwhile() {
    let waited = Waited::from_now();
    std::thread::sleep(Duration::from_millis(50));
    assert!(waited.so_far() >= Duration::from_millis(50));
    std::thread::sleep(2 * NAP); // as if stopped: nobody looks
    assert!(waited.so_far() < 2 * NAP);
}
