//! How a rank's own code ended, in one sentence, and whether the fault is its own.

use crate::signals::Stopped;
use anyhow::anyhow;
use comm::{ABORTED, Abort, CommError};
use report::{Panic, catch, without_cpp_trace};
use serde::{Deserialize, Serialize};

/// Whose fault a failure is, as far as the rank that reports it can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Fault {
    /// This rank's.
    Own,
    /// A peer's, probably: its connection broke. Others may know more.
    Suspect,
    /// Another's: this rank only stopped because the run was over.
    Echo,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// Whose it is.
    pub fault: Fault,
    /// Names the rank by coordinates.
    pub sentence: String,
}

/// Runs one rank's code and turns an error or a panic into a [`Failure`]. `name` is the rank's
/// coordinates. The panic is not printed: of many ranks' messages one is worth showing.
pub(crate) fn attempt<T>(
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
            let sentence = format!("rank {name} panicked {}", panic.text);
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
/// [`launch`](crate::launch()) does for a rank.
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
            Err(anyhow!("the run panicked {text}"))
        }
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
