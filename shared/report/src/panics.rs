//! A panic as a part of a sentence: where, and why.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

/// What is known of a panic.
#[derive(Default)]
pub struct Panic {
    /// Place and message: `at src/model.rs:7: index out of bounds`.
    pub text: String,
    /// Where `RUST_BACKTRACE` asks for one.
    pub backtrace: Option<Backtrace>,
}

thread_local! {
    /// While [`catch`] runs on a thread: where its panic hook leaves what it saw.
    static CAPTURE: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

/// Runs `f`. Its panic is not printed: of many ranks' messages one is worth showing.
///
/// # Errors
/// If `f` panicked.
pub fn catch<T>(f: impl FnOnce() -> T) -> Result<T, Panic> {
    static HOOK: Once = Once::new();
    // The hook belongs to the whole process, so ours leaves all other threads to the one before.
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let ours = CAPTURE.with_borrow_mut(|capture| {
                capture.as_mut().map(|panic| *panic = describe(info)).is_some()
            });
            if !ours {
                previous(info);
            }
        }));
    });
    // Calls may be nested.
    let outer = CAPTURE.replace(Some(Panic::default()));
    // Whatever `f` left half-done is not looked at again: the run is over.
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    let panic = CAPTURE.replace(outer).unwrap_or_default();
    result.map_err(|_| panic)
}

/// `message` without the call stack that libtorch appends: its first part is what a reader can use.
/// In a panic's message the line break is an escaped one.
pub fn without_cpp_trace(message: &str) -> &str {
    // If memory ran out, there is no word of an exception before the first frame.
    let starts = ["Exception raised from", "frame #0: "];
    let end = starts.iter().filter_map(|start| message.find(start)).min().unwrap_or(message.len());
    let message = message[..end].trim_end();
    message.strip_suffix("\\n").unwrap_or(message)
}

fn describe(info: &PanicHookInfo) -> Panic {
    let text = without_cpp_trace(text(info.payload()));
    let text = match info.location() {
        Some(at) => format!("at {}:{}: {text}", at.file(), at.line()),
        None => format!("with: {text}"),
    };
    let backtrace = Backtrace::capture();
    let wanted = backtrace.status() == BacktraceStatus::Captured;
    Panic { text, backtrace: wanted.then_some(backtrace) }
}

fn text(payload: &dyn Any) -> &str {
    match payload.downcast_ref::<String>() {
        Some(text) => text,
        None => payload.downcast_ref::<&str>().copied().unwrap_or("(a panic without a message)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_says_where_and_what_however_deep() {
        let panic = catch(|| {
            let inner = catch(|| panic!("first")).err().unwrap();
            assert!(inner.text.ends_with(": first"), "{}", inner.text);
            panic!("second, {}\nException raised from somewhere", 2)
        });
        let text = panic.map(|()| String::new()).map_err(|panic| panic.text).unwrap_err();
        assert!(text.starts_with("at ") && text.contains("panics.rs:"), "{text}");
        assert!(text.ends_with(": second, 2"), "{text}");
        assert_eq!(catch(|| 7).ok(), Some(7));
    }
}
