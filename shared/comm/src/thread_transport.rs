//! Ranks that are threads of one process: the receiver reads straight from the sender's memory.
//!
//! Every stream has one slot. The sender puts the address of its bytes there and waits; the
//! receiver reads them in place and says when it is done. Nothing is copied on the way.

use crate::abort::Abort;
use crate::error::Result;
use crate::reduce::copy;
use crate::sync::{lock, wait_timeout};
use crate::transport::{Call, Channel, Header, Incoming, LOOK_UP, Outgoing, Transport, Waited};
use std::cell::UnsafeCell;
use std::collections::HashMap;
use std::hint;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// A stream: channel, sender, receiver.
type Stream = (Channel, usize, usize);

/// The transports of a world of threads, one for each rank. All of them look at `abort`.
pub fn thread_transports(world: usize, abort: Abort) -> Vec<Arc<dyn Transport>> {
    let slots = Arc::<Slots>::default();
    let transport = |rank| {
        let (slots, known, abort) = (slots.clone(), Mutex::default(), abort.clone());
        Arc::new(Threads { rank, slots, known, abort }) as Arc<dyn Transport>
    };
    (0..world).map(transport).collect()
}

type Slots = Mutex<HashMap<Stream, Arc<Slot>>>;

struct Threads {
    rank: usize,
    /// Shared by the world.
    slots: Arc<Slots>,
    /// Those that this rank has used before.
    known: Slots,
    abort: Abort,
}

impl Threads {
    fn slot(&self, stream: Stream) -> Arc<Slot> {
        let mut known = lock(&self.known);
        let find = || lock(&self.slots).entry(stream).or_default().clone();
        known.entry(stream).or_insert_with(find).clone()
    }

    /// Waits until `slot` goes from state `from` to state `to` by this call.
    fn claim(&self, slot: &Slot, from: u8, to: u8, call: &Call, peer: usize) -> Result<()> {
        let turn = || slot.state.compare_exchange(from, to, SeqCst, SeqCst).is_ok();
        let waited = Waited::from_now();
        slot.wait_until(turn, || match slot.state.load(SeqCst) {
            READING => self.abort.check(), // the peer is here, and may have much to combine
            _ => call.patience(&self.abort, &waited, peer),
        })
    }
}

impl Transport for Threads {
    fn exchange(
        &self,
        channel: Channel,
        out: Option<Outgoing>,
        from: Option<Incoming>,
        call: &Call,
    ) -> Result<()> {
        // A call that failed may have left half of a message in its streams.
        self.abort.check()?;
        let sending = out.map(|out| (self.slot((channel, self.rank, out.to)), out));
        let published = match &sending {
            Some((slot, out)) => {
                self.claim(slot, EMPTY, WRITING, call, out.to)?;
                Some((Published::new(slot, call.header, out.bytes), out.to))
            }
            None => None,
        };
        if let Some(Incoming { from, into, combine }) = from {
            let slot = self.slot((channel, from, self.rank));
            self.claim(&slot, FULL, READING, call, from)?;
            let reading = Reading(&slot);
            // SAFETY: the state is READING and this call set it, so the sender has written the
            // message and neither touches the slot nor returns to whoever owns the bytes until
            // `reading` is dropped. The bytes do not change meanwhile: the sender's borrow lives.
            let (header, bytes) = unsafe {
                let message = *slot.message.get();
                (message.header, &*message.bytes)
            };
            if header != call.header {
                return Err(call.mismatch(from, header.to_string()));
            }
            if bytes.len() != into.len() {
                return Err(call.mismatch(from, format!("a message of {} bytes", bytes.len())));
            }
            combine.unwrap_or(copy)(into, bytes);
            drop(reading);
        }
        if let Some((published, to)) = published {
            self.claim(published.0, DONE, EMPTY, call, to)?;
            published.taken();
        }
        Ok(())
    }
}

/// One message at a time, from one sender to one receiver.
struct Slot {
    state: AtomicU8,
    message: UnsafeCell<Message>,
    /// Threads asleep on `wake`, or about to be.
    sleepers: AtomicUsize,
    asleep: Mutex<()>,
    wake: Condvar,
}

#[derive(Clone, Copy)]
struct Message {
    header: Header,
    bytes: *const [u8],
}

// The states of a slot, in the order in which a message goes through them. Only the sender leaves
// EMPTY, WRITING and DONE, only the receiver leaves READING; FULL is left by whoever is first, the
// receiver to read or the sender to take the message back.
const EMPTY: u8 = 0;
const WRITING: u8 = 1;
const FULL: u8 = 2;
const READING: u8 = 3;
const DONE: u8 = 4;

// SAFETY: `message` is touched only by the thread that has brought the slot into WRITING or READING
// by compare-and-exchange, hence by one at a time. Its pointer is read through only in READING,
// during which the sender keeps the bytes alive and unchanged.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

impl Default for Slot {
    fn default() -> Self {
        Slot {
            state: AtomicU8::new(EMPTY),
            message: UnsafeCell::new(Message { header: Header::BARRIER, bytes: &[] }),
            sleepers: AtomicUsize::new(0),
            asleep: Mutex::new(()),
            wake: Condvar::new(),
        }
    }
}

/// Looks before yielding the core, and yields before going to sleep. Few, since there may be many
/// more ranks than cores.
const SPINS: usize = 100;
const YIELDS: usize = 20;

impl Slot {
    fn set(&self, state: u8) {
        self.state.store(state, SeqCst);
        // Either this sees the sleeper, or the sleeper, which counts itself before it looks at the
        // state for the last time, sees the state.
        if self.sleepers.load(SeqCst) > 0 {
            drop(self.asleep.lock());
            self.wake.notify_all();
        }
    }

    /// Waits until `turn` is true, or until `patience`, called now and then, returns an error.
    fn wait_until(&self, turn: impl Fn() -> bool, patience: impl Fn() -> Result<()>) -> Result<()> {
        for spin in 0..SPINS + YIELDS {
            if turn() {
                return Ok(());
            }
            if spin < SPINS {
                hint::spin_loop();
            } else {
                thread::yield_now();
            }
        }
        let mut asleep = lock(&self.asleep);
        self.sleepers.fetch_add(1, SeqCst);
        let outcome = loop {
            if turn() {
                break Ok(());
            }
            if let Err(e) = patience() {
                break Err(e);
            }
            asleep = wait_timeout(&self.wake, asleep, LOOK_UP);
        };
        self.sleepers.fetch_sub(1, SeqCst);
        outcome
    }
}

/// A message in its slot. However the sender leaves, even by an error or a panic, it first takes
/// the message back or, if the receiver is reading it, lets it finish: the bytes are borrowed only
/// until the sender returns.
struct Published<'a>(&'a Slot);

impl<'a> Published<'a> {
    /// The slot must be in state WRITING, brought there by the caller.
    fn new(slot: &'a Slot, header: Header, bytes: &'a [u8]) -> Self {
        // SAFETY: in WRITING nobody but the sender touches the message.
        unsafe { *slot.message.get() = Message { header, bytes } };
        slot.set(FULL);
        Published(slot)
    }

    /// Nothing is left to take back.
    fn taken(self) {
        std::mem::forget(self);
    }
}

impl Drop for Published<'_> {
    fn drop(&mut self) {
        let back = self.0.state.compare_exchange(FULL, WRITING, SeqCst, SeqCst);
        if back.is_err() {
            // The receiver reads or has read. It waits for nobody while it does, so this ends soon.
            let read = || self.0.state.load(SeqCst) == DONE;
            let _ = self.0.wait_until(read, || Ok(()));
        }
        self.0.set(EMPTY);
    }
}

/// The receiver's hold on a message; releases the sender when dropped, even if combining panicked.
struct Reading<'a>(&'a Slot);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.set(DONE);
    }
}
