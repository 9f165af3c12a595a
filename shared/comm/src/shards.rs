//! The two halves of an all-reduce: to sum tensors and keep a shard of the sum, and to put shards
//! together.

use crate::backend::{Backend, Queue, gathered_shape, scattered_shape};
use crate::error::Result;
use crate::group::Group;
use crate::lane::Work;
use tch::Tensor;

impl Group {
    /// Sums `tensor` `[n*k, ...]` over all ranks and returns rows `[r*k, (r+1)*k)` of the sum on
    /// rank r. Sends (n-1)/n of the buffer.
    ///
    /// # Errors
    /// If n does not divide dimension 0.
    pub fn reduce_scatter(&self, tensor: &Tensor) -> Result<Tensor> {
        self.reduce_scatter_dim(tensor, 0)
    }

    /// [`reduce_scatter`](Self::reduce_scatter) along dimension `dim`: `[.., n*k, ..]` to
    /// `[.., k, ..]`. Nothing is transposed: where parts lie in several pieces of memory, each piece
    /// goes round by itself.
    pub fn reduce_scatter_dim(&self, tensor: &Tensor, dim: usize) -> Result<Tensor> {
        let output = self.scattered(tensor, dim)?;
        self.0.run(Queue::Collectives, "reduce_scatter", tensor, scatter(output, dim))
    }

    /// Non-blocking [`reduce_scatter`](Self::reduce_scatter): for gradients of which each rank
    /// keeps only its shard (ZeRO), summed during the backward pass.
    pub fn reduce_scatter_async(&self, tensor: &Tensor) -> Work<Tensor> {
        self.reduce_scatter_dim_async(tensor, 0)
    }

    /// Non-blocking [`reduce_scatter_dim`](Self::reduce_scatter_dim).
    pub fn reduce_scatter_dim_async(&self, tensor: &Tensor, dim: usize) -> Work<Tensor> {
        match self.scattered(tensor, dim) {
            Ok(output) => {
                self.0.start(Queue::Collectives, "reduce_scatter", tensor, scatter(output, dim))
            }
            Err(e) => Work::ended(Err(e)),
        }
    }

    /// Concatenates the ranks' tensors `[k, ...]` along dimension 0 to `[n*k, ...]`, on all ranks.
    /// A tensor without dimensions counts as `[1]`. Sends n-1 times the tensor.
    pub fn all_gather(&self, tensor: &Tensor) -> Result<Tensor> {
        self.all_gather_dim(tensor, 0)
    }

    /// [`all_gather`](Self::all_gather) along dimension `dim`: `[.., k, ..]` to `[.., n*k, ..]`,
    /// without a transpose.
    pub fn all_gather_dim(&self, tensor: &Tensor, dim: usize) -> Result<Tensor> {
        let output = self.gathered(tensor, dim)?;
        self.0.run(Queue::Collectives, "all_gather", tensor, gather(output, dim))
    }

    /// Non-blocking [`all_gather`](Self::all_gather).
    pub fn all_gather_async(&self, tensor: &Tensor) -> Work<Tensor> {
        self.all_gather_dim_async(tensor, 0)
    }

    /// Non-blocking [`all_gather_dim`](Self::all_gather_dim).
    pub fn all_gather_dim_async(&self, tensor: &Tensor, dim: usize) -> Work<Tensor> {
        match self.gathered(tensor, dim) {
            Ok(output) => {
                self.0.start(Queue::Collectives, "all_gather", tensor, gather(output, dim))
            }
            Err(e) => Work::ended(Err(e)),
        }
    }

    /// Room for the result of a reduce-scatter. The caller's thread makes it: on a GPU, to get
    /// memory may take one that is idle.
    fn scattered(&self, tensor: &Tensor, dim: usize) -> Result<Tensor> {
        let shape = scattered_shape(self.name(), tensor, dim, self.size());
        let shape = shape.map_err(|e| self.0.refuse(e))?;
        Ok(Tensor::empty(shape, (tensor.kind(), tensor.device())))
    }

    /// The same for an all-gather.
    fn gathered(&self, tensor: &Tensor, dim: usize) -> Result<Tensor> {
        let shape = gathered_shape(self.name(), tensor, dim, self.size());
        let shape = shape.map_err(|e| self.0.refuse(e))?;
        Ok(Tensor::empty(shape, (tensor.kind(), tensor.device())))
    }
}

fn scatter(
    output: Tensor,
    dim: usize,
) -> impl FnOnce(&dyn Backend, &Tensor) -> Result<Tensor> + Send + 'static {
    move |backend, tensor| backend.reduce_scatter(tensor, &output, dim).map(|()| output)
}

fn gather(
    output: Tensor,
    dim: usize,
) -> impl FnOnce(&dyn Backend, &Tensor) -> Result<Tensor> + Send + 'static {
    move |backend, tensor| backend.all_gather(tensor, &output, dim).map(|()| output)
}
