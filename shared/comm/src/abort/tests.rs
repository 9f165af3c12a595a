use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn the_first_cause_wins_and_is_seen_by_every_handle() {
    let abort = Abort::new();
    let other = abort.clone();
    assert_eq!(other.cause(), None);
    abort.raise("first");
    other.raise("second");
    assert_eq!(other.cause().as_deref(), Some("first"));
    assert!(abort.is_raised());
}

#[test]
fn wakers_run_once_whether_they_come_before_or_after() {
    let count = Arc::new(AtomicUsize::new(0));
    let abort = Abort::new();
    let bump = |count: &Arc<AtomicUsize>| {
        let count = count.clone();
        move || {
            count.fetch_add(1, Ordering::SeqCst);
        }
    };
    abort.on_raise(bump(&count));
    assert_eq!(count.load(Ordering::SeqCst), 0);
    abort.raise("x");
    abort.raise("y");
    assert_eq!(count.load(Ordering::SeqCst), 1);
    abort.on_raise(bump(&count));
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[test]
fn a_sleeper_is_woken() {
    let abort = Abort::new();
    assert_eq!(abort.wait(Duration::from_millis(1)), None);
    let sleeper = std::thread::spawn({
        let abort = abort.clone();
        move || abort.wait(Duration::MAX)
    });
    abort.raise("enough");
    assert_eq!(sleeper.join().unwrap().as_deref(), Some("enough"));
}
