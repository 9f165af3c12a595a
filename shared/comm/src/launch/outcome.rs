//! How a rank's own code ended, in one sentence, and whether the fault is its own.

use crate::abort::Abort;
use crate::error::{ABORTED, CommError};
use crate::signals::Stopped;
use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

/// Whose fault a failure is, as far as the rank that reports it can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Fault {
    /// This rank's.
    Own,
    /// A peer's, probably: its connection broke. Others may know more.
    Suspect,
    /// Another's: this rank only stopped because the run was over.
    Echo,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    pub fault: Fault,
    /// Names the rank by coordinates.
    pub sentence: String,
}

/// Runs one rank's code and turns an error or a panic into a [`Failure`]. `name` is the rank's
/// coordinates. The panic is not printed: of many ranks' messages one is worth showing.
pub(super) fn attempt<T>(
    name: &str,
    abort: &Abort,
    rank_main: impl FnOnce() -> anyhow::Result<T>,
) -> Result<T, Failure> {
    let error = match catch(rank_main) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error,
        Err(panic) => {
            // Code that unwraps what a group returned panics because of another rank.
            let fault = if abort.is_raised() { Fault::Suspect } else { Fault::Own };
            let sentence = format!("rank {name} panicked {}", without_cpp_trace(&panic.text));
            if let (Fault::Own, Some(backtrace)) = (fault, panic.backtrace) {
                eprintln!("rank {name}:\n{backtrace}");
            }
            return Err(Failure { fault, sentence });
        }
    };
    let text = format!("{error:#}");
    let text = without_cpp_trace(&text);
    let ours = format!("rank {name} ");
    // Another thread of this rank may have found the cause, which is then no other's.
    let found = text.split_once(ABORTED).map(|(_, cause)| cause.trim_start_matches(": "));
    if let Some(cause) = found.filter(|cause| cause.starts_with(&ours)) {
        return Err(Failure { fault: Fault::Own, sentence: cause.to_owned() });
    }
    let comm = error.chain().find_map(|e| e.downcast_ref::<CommError>());
    let fault = match comm {
        Some(CommError::Aborted { .. }) => Fault::Echo,
        Some(CommError::Lost { .. }) => Fault::Suspect,
        None if text.contains(ABORTED) => Fault::Echo, // it came through autograd, which keeps the text alone
        None if abort.is_raised() => Fault::Suspect,
        _ => Fault::Own,
    };
    let sentence =
        if text.starts_with(&ours) { text.into() } else { format!("rank {name} failed: {text}") };
    Err(Failure { fault, sentence })
}

/// Runs code outside any rank, and makes one sentence of its error or panic, as
/// [`launch`](super::launch) does for a rank.
///
/// # Errors
/// What went wrong in `run`, or where it panicked and why; [`Stopped`] as it is.
pub fn in_one_sentence<T>(run: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    match catch(run) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) if error.is::<Stopped>() => Err(error),
        Ok(Err(error)) => Err(anyhow!(without_cpp_trace(&format!("{error:#}")).to_owned())),
        Err(Panic { text, backtrace }) => {
            if let Some(backtrace) = backtrace {
                eprintln!("{backtrace}");
            }
            Err(anyhow!("the run panicked {}", without_cpp_trace(&text)))
        }
    }
}

/// What `f` returns, or where it panicked and why.
pub(crate) fn caught<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch(f).map_err(|panic| without_cpp_trace(&panic.text).to_owned())
}

/// libtorch appends its own call stack to a message; the first part is what a reader can use. In
/// a panic's message the line break is an escaped one.
fn without_cpp_trace(message: &str) -> &str {
    // If memory ran out, there is no word of an exception before the first frame.
    let starts = ["Exception raised from", "frame #0: "];
    let end = starts.iter().filter_map(|start| message.find(start)).min().unwrap_or(message.len());
    let message = message[..end].trim_end();
    message.strip_suffix("\\n").unwrap_or(message)
}

thread_local! {
    /// On a rank's thread: where its panic hook leaves what it saw.
    static CAPTURE: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

#[derive(Default)]
struct Panic {
    /// Place and message.
    text: String,
    /// Where RUST_BACKTRACE asks for one.
    backtrace: Option<Backtrace>,
}

/// What `f` returns, or how it panicked.
fn catch<T>(f: impl FnOnce() -> T) -> Result<T, Panic> {
    static HOOK: Once = Once::new();
    // The hook belongs to the whole process, so ours leaves threads that are not ranks to the one
    // before.
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

fn describe(info: &PanicHookInfo) -> Panic {
    let text = text(info.payload());
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
    use anyhow::Context;

    fn fail(error: anyhow::Error, abort: &Abort) -> Failure {
        attempt("dp0 pp0 cp0 tp1", abort, || Err::<(), _>(error)).unwrap_err()
    }

    #[test]
    fn an_error_becomes_one_sentence_with_its_context() {
        let error = Err::<(), _>(anyhow!("no such file")).context("cannot read a.txt").unwrap_err();
        let failure = fail(error, &Abort::new());
        assert_eq!(
            failure.sentence,
            "rank dp0 pp0 cp0 tp1 failed: cannot read a.txt: no such file"
        );
        assert_eq!(failure.fault, Fault::Own);
    }

    #[test]
    fn a_name_is_not_said_twice() {
        let failure = fail(anyhow!("rank dp0 pp0 cp0 tp1 waited 3 s"), &Abort::new());
        assert_eq!(failure.sentence, "rank dp0 pp0 cp0 tp1 waited 3 s");
    }

    #[test]
    fn a_panic_says_where_and_what() {
        let failure =
            attempt("dp0", &Abort::new(), || -> anyhow::Result<()> { panic!("at {}", 7) });
        let Failure { fault, sentence } = failure.unwrap_err();
        assert!(sentence.starts_with("rank dp0 panicked at "), "{sentence}");
        assert!(sentence.ends_with(": at 7"), "{sentence}");
        assert!(sentence.contains("outcome.rs:"), "{sentence}");
        assert_eq!(fault, Fault::Own);
    }

    #[test]
    fn libtorch_keeps_its_call_stack_to_itself() {
        let add = || {
            let a = tch::Tensor::zeros([2], (tch::Kind::Float, tch::Device::Cpu));
            let b = tch::Tensor::zeros([3], (tch::Kind::Float, tch::Device::Cpu));
            Ok(a + b)
        };
        let of_a_rank = attempt("dp0", &Abort::new(), add).unwrap_err().sentence;
        let panic = in_one_sentence(add).unwrap_err().to_string();
        assert!(panic.starts_with("the run panicked at "), "{panic}");
        let returned = in_one_sentence(|| {
            let a = tch::Tensor::zeros([2], (tch::Kind::Float, tch::Device::Cpu));
            Ok(a.f_add(&tch::Tensor::zeros([3], (tch::Kind::Float, tch::Device::Cpu)))?)
        });
        for sentence in [of_a_rank, panic, returned.unwrap_err().to_string()] {
            assert!(sentence.contains("must match the size"), "{sentence}");
            assert!(!sentence.contains("frame #0") && !sentence.contains('\n'), "{sentence}");
        }
    }

    #[test]
    fn what_another_thread_of_a_rank_has_found_is_the_rank_s_own() {
        let cause = "rank dp0 pp0 cp0 tp1 waited 3 s";
        let error = anyhow::Error::from(CommError::Aborted { cause: cause.into() });
        let failure = fail(error.context("step 3"), &Abort::new());
        assert_eq!((failure.fault, failure.sentence.as_str()), (Fault::Own, cause));
    }

    #[test]
    fn who_is_at_fault() {
        let (calm, raised) = (Abort::new(), Abort::new());
        raised.raise("x");
        let echo = CommError::Aborted { cause: "x".into() };
        assert_eq!(fail(anyhow::Error::from(echo).context("step 3"), &raised).fault, Fault::Echo);
        let text = anyhow!("in the backward pass: {}", CommError::Aborted { cause: "x".into() });
        assert_eq!(fail(text, &raised).fault, Fault::Echo);
        assert_eq!(fail(anyhow!("loss is NaN"), &calm).fault, Fault::Own);
        assert_eq!(fail(anyhow!("somebody unwrapped this"), &raised).fault, Fault::Suspect);
    }
}
