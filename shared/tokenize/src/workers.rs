//! Pieces of text go to threads, and their tokens come back in the order of the pieces.

use crate::documents::Piece;
use anyhow::{Result, anyhow};
use data::HuggingFace;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// The tokens of a piece.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    pub ids: Vec<u32>,
    /// How many documents end in it.
    pub documents: u64,
}

/// A piece, and where its tokens go.
type Job = (Piece, SyncSender<Result<Encoded>>);

/// Runs `read`, which hands pieces to what it is given, on one thread; encodes them on `threads`
/// others; and hands their tokens to `write` here, in order. There are never more pieces and
/// tokens in memory than a few for each thread: who is ahead waits.
///
/// # Errors
/// The first in the order of the pieces, of `read`, of the tokenizer and of `write`.
pub(crate) fn in_order(
    tokenizer: &HuggingFace,
    end: u32,
    threads: usize,
    read: impl FnOnce(&mut dyn FnMut(Piece) -> Result<()>) -> Result<()> + Send,
    mut write: impl FnMut(Encoded) -> Result<()>,
) -> Result<()> {
    let (jobs, waiting) = sync_channel::<Job>(threads);
    let (order, in_turn) = sync_channel::<Receiver<Result<Encoded>>>(2 * threads);
    let waiting = Mutex::new(waiting);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((piece, done)) = job else { return };
                    // Where nobody waits for it any more, an error has ended all.
                    let _ = done.send(encode(tokenizer, end, piece));
                }
            });
        }
        let reader = scope.spawn(move || {
            read(&mut |piece| {
                let ended = |_| anyhow!("what reads is ahead of what has failed");
                let (done, result) = sync_channel(1);
                order.send(result).map_err(|_| ended(()))?;
                jobs.send((piece, done)).map_err(|_| ended(()))
            })
        });
        let written = in_turn.iter().try_for_each(|result| {
            write(result.recv().map_err(|_| anyhow!("a thread that encodes has ended"))??)
        });
        drop(in_turn); // what reads and waits goes on, and ends
        let read = reader.join().unwrap_or_else(|_| Err(anyhow!("what reads has panicked")));
        written.and(read)
    })
}

fn encode(tokenizer: &HuggingFace, end: u32, piece: Piece) -> Result<Encoded> {
    let mut encoded = Encoded::default();
    let Encoded { ids, documents } = &mut encoded;
    match piece {
        Piece::Documents(texts) => {
            for text in texts {
                tokenizer.encode_part(&text, 0..text.len(), |some, _| {
                    ids.extend(some);
                    Ok(())
                })?;
                ids.push(end);
                *documents += 1;
            }
        }
        Piece::Part { shown, part, is_last } => {
            tokenizer.encode_part(&shown, part, |some, _| {
                ids.extend(some);
                Ok(())
            })?;
            if is_last {
                ids.push(end);
                *documents += 1;
            }
        }
    }
    Ok(encoded)
}
