//! One operation, from before its call until the GPU has passed its end.

use crate::driver::{Call, Driver};
use comm::sync::lock;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;
use tch::Tensor;

/// What an operation is called in errors.
#[derive(Clone, Debug)]
pub(crate) struct Label {
    pub op: &'static str,
    pub group: &'static str,
    /// Whom it is with, by coordinates.
    pub peer: String,
}

pub(crate) struct Operation<D: Driver> {
    pub label: Label,
    /// For how long this process had been running when it began.
    pub since: Duration,
    /// Unset while the host is inside the call that queues it, which may wait for peers.
    pub end: OnceLock<D::Event>,
    /// Alive as long as the GPU may touch them.
    tensors: Mutex<Vec<Tensor>>,
}

impl<D: Driver> Operation<D> {
    /// `call`: what it does, where that is to tensors.
    pub fn new(label: Label, call: Option<&Call>, since: Duration) -> Self {
        let tensors = call.map_or(vec![], Call::tensors);
        let tensors = Mutex::new(tensors.into_iter().map(Tensor::shallow_clone).collect());
        Self { label, since, end: OnceLock::new(), tensors }
    }

    /// Whether the GPU has passed its end; does not wait.
    pub fn is_done(&self, driver: &D) -> anyhow::Result<bool> {
        self.end.get().map_or(Ok(false), |end| driver.is_done(end))
    }

    /// Lets go of its tensors. Safe once the GPU has passed the operation's end, and equally once
    /// the compute stream has been told to wait for it: all these tensors were allocated on that
    /// stream, so libtorch hands their memory only to work queued behind that wait.
    pub fn release(&self) {
        let tensors = std::mem::take(&mut *self.tensors());
        drop(tensors); // not locked
    }

    fn tensors(&self) -> std::sync::MutexGuard<'_, Vec<Tensor>> {
        lock(&self.tensors)
    }

    #[cfg(test)]
    pub fn kept(&self) -> usize {
        self.tensors().len()
    }
}
