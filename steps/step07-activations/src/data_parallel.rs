//! Data parallelism: every rank holds the whole model and reads its own part of the batch; before
//! the update, gradients are summed over all ranks.

use anyhow::{Result, ensure};
use autograd::Hook;
use comm::{Group, Work};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use tch::Tensor;

use crate::config::{DpSync, Parallel};
use crate::layers::Parameter;

/// A way to sum gradients over the replicas.
pub enum DataParallel {
    /// After the backward pass.
    Naive(Naive),
    /// During the backward pass.
    Bucketed(Bucketed),
}

impl DataParallel {
    /// Gives every replica the weights of the first one, and prepares to sum gradients.
    pub fn new(parameters: &[Parameter], group: &Group, config: &Parallel) -> Result<Self> {
        for parameter in parameters {
            group.broadcast(&parameter.tensor.detach(), 0)?;
        }
        if config.dp_sync == DpSync::Naive || group.size() == 1 {
            return Ok(Self::Naive(Naive::new(parameters, group))); // a group of one sends nothing
        }
        Ok(Self::Bucketed(Bucketed::new(parameters, group, config.bucket_bytes())?))
    }

    /// Clears the gradients of the previous step.
    pub fn zero_grad(&self) -> Result<()> {
        match self {
            Self::Naive(naive) => naive.zero_grad(),
            Self::Bucketed(bucketed) => bucketed.zero_grad(),
        }
    }

    /// To be called before each backward pass. Gradients are complete only after the
    /// last one of a step.
    pub fn before_backward(&self, is_last: bool) {
        if let Self::Bucketed(bucketed) = self {
            bucketed.is_last_pass.store(is_last, Relaxed);
        }
    }

    /// To be called after the last backward pass. When it returns, every `.grad` is the
    /// sum over all replicas.
    pub fn finish(&self) -> Result<()> {
        match self {
            Self::Naive(naive) => naive.finish(),
            Self::Bucketed(bucketed) => bucketed.finish(),
        }
    }
}

/// One all-reduce for each gradient, once all of them are there: simple, but the network is idle
/// during the backward pass, and the processor after it.
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
/// pass has filled it, while the pass continues with the layers below.
pub struct Bucketed {
    buckets: Vec<Arc<Mutex<Bucket>>>,
    /// Whether the current backward pass is the last one of the step.
    is_last_pass: Arc<AtomicBool>,
    _hooks: Vec<Hook>,
}

struct Bucket {
    /// Every gradient of the bucket is a view into this.
    flat: Tensor, // [elements of all its gradients]
    /// The number of its gradients.
    members: usize,
    /// How many of them are ready, in the last backward pass.
    ready: usize,
    work: Option<Work<()>>,
}

impl Bucketed {
    fn new(parameters: &[Parameter], group: &Group, bucket_bytes: usize) -> Result<Self> {
        let is_last_pass = Arc::new(AtomicBool::new(false));
        let (mut buckets, mut hooks) = (vec![], vec![]);
        // The backward pass reaches the parameters from last to first, and fills the
        // buckets in this order.
        let backwards: Vec<&Tensor> = parameters.iter().rev().map(|p| &p.tensor).collect();
        let bytes = |p: &&Tensor| p.numel() * p.kind().elt_size_in_bytes();
        for members in cut(&backwards.iter().map(bytes).collect::<Vec<_>>(), bucket_bytes) {
            let members = &backwards[members];
            let numel: i64 = members.iter().map(|p| p.numel() as i64).sum();
            let flat = Tensor::zeros([numel], (members[0].kind(), members[0].device()));
            let bucket = Arc::new(Mutex::new(Bucket {
                flat: flat.shallow_clone(),
                members: members.len(),
                ready: 0,
                work: None,
            }));
            let mut start = 0;
            for parameter in members {
                let length = parameter.numel() as i64;
                autograd::set_grad(parameter, &flat.narrow(0, start, length).view_as(parameter))?;
                start += length;
                let (bucket, group) = (bucket.clone(), group.clone());
                let is_last_pass = is_last_pass.clone();
                hooks.push(autograd::on_grad_ready(parameter, move || {
                    if !is_last_pass.load(Relaxed) {
                        return Ok(());
                    }
                    bucket.lock().expect("a hook panicked").mark_ready(&group)
                })?);
            }
            buckets.push(bucket);
        }
        Ok(Self { buckets, is_last_pass, _hooks: hooks })
    }

    fn zero_grad(&self) -> Result<()> {
        for bucket in &self.buckets {
            let _ = bucket.lock().expect("a hook panicked").flat.zero_();
        }
        Ok(())
    }

    fn finish(&self) -> Result<()> {
        for bucket in &self.buckets {
            bucket.lock().expect("a hook panicked").finish()?;
        }
        Ok(())
    }
}

impl Bucket {
    /// Counts one more gradient as ready; the last one starts the bucket's all-reduce.
    fn mark_ready(&mut self, group: &Group) -> Result<()> {
        self.ready += 1;
        ensure!(self.ready <= self.members, "a gradient was ready twice in one backward pass");
        if self.ready == self.members {
            self.work = Some(group.all_reduce_async(&self.flat));
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let (ready, members) = (std::mem::take(&mut self.ready), self.members);
        ensure!(ready == members, "{ready} of a bucket's {members} gradients were ready");
        Ok(self.work.take().map_or(Ok(()), Work::wait)?)
    }
}

/// Cuts a list of parameters, of these sizes in bytes, into buckets of at most `most` bytes. A
/// larger parameter gets a bucket of its own.
pub fn cut(sizes: &[usize], most: usize) -> Vec<Range<usize>> {
    let (mut buckets, mut filled) = (Vec::<Range<usize>>::new(), 0);
    for (i, size) in sizes.iter().enumerate() {
        match buckets.last_mut() {
            Some(last) if filled + size <= most => last.end = i + 1,
            _ => {
                buckets.push(i..i + 1);
                filled = 0;
            }
        }
        filled += size;
    }
    buckets
}
