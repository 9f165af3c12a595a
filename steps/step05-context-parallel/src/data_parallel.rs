//! Data parallelism: every rank holds the whole model and reads its own part of the batch; before
//! the update, gradients are summed over all of them.

use anyhow::{Result, ensure};
use autograd::Hook;
use cli::{DpSync, ParallelConfig};
use comm::{Group, Work};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use tch::Tensor;

use crate::layers::Parameter;

pub enum DataParallel {
    Naive(Naive),
    Bucketed(Bucketed),
}

impl DataParallel {
    /// Gives every replica the weights of the first one, and gets ready to sum gradients.
    pub fn new(parameters: &[Parameter], group: &Group, config: &ParallelConfig) -> Result<Self> {
        for parameter in parameters {
            group.broadcast(&parameter.tensor.detach(), 0)?;
        }
        if config.dp_sync == DpSync::Naive || group.size() == 1 {
            return Ok(Self::Naive(Naive::new(parameters, group))); // a group of one sends nothing
        }
        Ok(Self::Bucketed(Bucketed::new(parameters, group, config.bucket_bytes())?))
    }

    /// Forgets the gradients of the step before.
    pub fn zero_grad(&self) -> Result<()> {
        match self {
            Self::Naive(naive) => naive.zero_grad(),
            Self::Bucketed(bucketed) => bucketed.zero_grad(),
        }
    }

    /// To be called before each backward pass: after the `last` one of a step, gradients are
    /// complete.
    pub fn before_backward(&self, last: bool) {
        if let Self::Bucketed(bucketed) = self {
            bucketed.armed.store(last, Relaxed);
        }
    }

    /// To be called after the last backward pass: afterwards every `.grad` is the sum over all
    /// replicas.
    pub fn finish(&self) -> Result<()> {
        match self {
            Self::Naive(naive) => naive.finish(),
            Self::Bucketed(bucketed) => bucketed.finish(),
        }
    }
}

/// One all-reduce for each gradient, when all of them are there: simple, and the network idles
/// during the backward pass while the processor idles after it.
pub struct Naive {
    parameters: Vec<Tensor>,
    group: Group,
}

impl Naive {
    fn new(parameters: &[Parameter], group: &Group) -> Self {
        let parameters = parameters.iter().map(|p| p.tensor.shallow_clone()).collect();
        Self { parameters, group: group.clone() }
    }

    fn zero_grad(&self) -> Result<()> {
        self.parameters.iter().try_for_each(autograd::clear_grad)
    }

    fn finish(&self) -> Result<()> {
        for parameter in &self.parameters {
            self.group.all_reduce(&parameter.grad())?;
        }
        Ok(())
    }
}

/// Gradients live side by side in a few long buffers. A buffer is reduced as soon as the backward
/// pass has filled it, while the pass goes on into the layers below.
pub struct Bucketed {
    buckets: Vec<Arc<Mutex<Bucket>>>,
    /// Whether the running backward pass is the last one of the step.
    armed: Arc<AtomicBool>,
    _hooks: Vec<Hook>,
}

struct Bucket {
    /// Every gradient of the bucket is a view into this.
    flat: Tensor, // [numbers of all its parameters]
    parameters: usize,
    /// Gradients ready in the last backward pass.
    ready: usize,
    work: Option<Work<()>>,
}

impl Bucketed {
    fn new(parameters: &[Parameter], group: &Group, bucket_bytes: usize) -> Result<Self> {
        let armed = Arc::new(AtomicBool::new(false));
        let (mut buckets, mut hooks) = (vec![], vec![]);
        // The backward pass meets the parameters last to first, so that is how they fill the
        // buckets.
        let backwards: Vec<&Tensor> = parameters.iter().rev().map(|p| &p.tensor).collect();
        for members in split(&backwards, bucket_bytes) {
            let numbers: i64 = members.iter().map(|p| p.numel() as i64).sum();
            let flat = Tensor::zeros([numbers], (members[0].kind(), members[0].device()));
            let bucket = Bucket { flat, parameters: members.len(), ready: 0, work: None };
            let bucket = Arc::new(Mutex::new(bucket));
            let mut start = 0;
            for parameter in members {
                let length = parameter.numel() as i64;
                let view = lock(&bucket).flat.narrow(0, start, length).view_as(parameter);
                start += length;
                autograd::set_grad(parameter, &view)?;
                let (bucket, armed, group) = (bucket.clone(), armed.clone(), group.clone());
                hooks.push(autograd::on_grad_ready(parameter, move || {
                    if armed.load(Relaxed) { lock(&bucket).mark_ready(&group) } else { Ok(()) }
                })?);
            }
            buckets.push(bucket);
        }
        Ok(Self { buckets, armed, _hooks: hooks })
    }

    fn zero_grad(&self) -> Result<()> {
        for bucket in &self.buckets {
            let _ = lock(bucket).flat.zero_();
        }
        Ok(())
    }

    fn finish(&self) -> Result<()> {
        self.buckets.iter().try_for_each(|bucket| lock(bucket).finish())
    }
}

impl Bucket {
    /// Counts one more gradient as complete; the last one sends the bucket on its way.
    fn mark_ready(&mut self, group: &Group) -> Result<()> {
        self.ready += 1;
        ensure!(self.ready <= self.parameters, "a gradient was ready twice in one backward pass");
        if self.ready == self.parameters {
            self.work = Some(group.all_reduce_async(&self.flat));
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let (ready, parameters) = (std::mem::take(&mut self.ready), self.parameters);
        ensure!(ready == parameters, "{ready} of a bucket's {parameters} gradients were ready");
        Ok(self.work.take().map_or(Ok(()), Work::wait)?)
    }
}

/// Cuts a list of parameters into runs of about `bytes`, each of at least one.
fn split<'a>(parameters: &[&'a Tensor], bytes: usize) -> Vec<Vec<&'a Tensor>> {
    let mut buckets: Vec<Vec<&Tensor>> = vec![];
    let mut filled = 0;
    for parameter in parameters {
        let size = parameter.numel() * parameter.kind().elt_size_in_bytes();
        if buckets.is_empty() || filled + size > bytes {
            buckets.push(vec![]);
            filled = 0;
        }
        filled += size;
        buckets.last_mut().expect("pushed just now, or before").push(parameter);
    }
    buckets
}

fn lock(bucket: &Mutex<Bucket>) -> std::sync::MutexGuard<'_, Bucket> {
    // A panic elsewhere already ends the run; the counters here are as good as they were.
    bucket.lock().unwrap_or_else(PoisonError::into_inner)
}
