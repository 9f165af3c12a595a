//! What can go wrong between ranks, each as one sentence that names the rank, the group, the
//! operation and the peer.

use std::io;
use thiserror::Error;

/// Result of everything that communicates.
pub type Result<T, E = CommError> = std::result::Result<T, E>;

/// How [`CommError::Aborted`] begins.
pub const ABORTED: &str = "stopped because of another failure";

/// An error of a collective, a message or a transport. Ranks are named by their coordinates.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the fields are the words of the sentence that stands above them")]
pub enum CommError {
    /// A peer did not take part within the timeout.
    #[error("rank {rank} waited {seconds} s for rank {peer} in {op} on group {group} and gave up")]
    Timeout { rank: String, group: String, op: String, peer: String, seconds: f64 },

    /// The connection to a peer broke.
    #[error("rank {rank} lost rank {peer} during {op} on group {group}")]
    Lost { rank: String, group: String, op: String, peer: String, source: io::Error },

    /// Another part of the run failed first.
    #[error("{ABORTED}: {cause}")]
    Aborted { cause: String },

    /// Two members of a group made different calls.
    #[error(
        "rank {rank} is in {ours} on group {group} while rank {peer} is in {theirs}; \
         all members must make the same calls in the same order, with equal sizes and dtypes"
    )]
    Mismatch { rank: String, group: String, peer: String, ours: String, theirs: String },

    /// The dtype cannot be moved, or cannot be reduced.
    #[error("{op} on group {group} does not take {dtype} tensors; {hint}")]
    Dtype { op: String, group: String, dtype: String, hint: &'static str },

    /// The tensor is not where the group can reach it.
    #[error(
        "{op} on group {group} got a tensor on {device}; this group moves CPU tensors, \
         so copy it to the CPU first"
    )]
    Device { op: String, group: String, device: String },

    /// Something failed on the GPU or in NCCL, or panicked.
    #[error("rank {rank} failed in {op} on group {group}: {detail}")]
    Failed { rank: String, group: String, op: String, detail: String },

    /// The tensor's shape does not fit the operation.
    #[error("{op} on group {group}: {detail}")]
    Shape { op: String, group: String, detail: String },

    /// A rank outside the group was named: `peer`, counted in the group.
    #[error("{op} on group {group} names rank {peer}; {hint}")]
    Peer { op: String, group: String, peer: usize, hint: String },

    /// The transport could not be set up.
    #[error("{what}")]
    Setup { what: String, source: io::Error },
}
