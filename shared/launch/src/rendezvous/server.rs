//! Rank 0's side: who is let in.

use super::control::{Control, Line};
use super::join::{Join, World, lacks_files};
use super::wire::{self, Claim, Frame, Prover};
use crate::env::is_loopback;
use crate::secret::nonce;
use crate::tcp::LASTING;
use anyhow::{Context, anyhow};
use comm::sync::{start, wait_timeout};
use std::io::{BufReader, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A connection that has not proved itself after so long is dropped.
const GREETING: Duration = Duration::from_secs(5);
/// Longest line before that: a rank says all its settings, some 2 KiB.
const SHORT: usize = 16 << 10;
/// Connections that may be proving themselves at once, beside those of the world's own ranks.
const STRANGERS: usize = 64;
const LOOK: Duration = Duration::from_millis(20);

struct Door {
    settings: Vec<String>,
    prover: Prover,
    control: Control,
    /// Connections being examined, and how many were turned away because they did not
    /// know the secret.
    busy: AtomicUsize,
    turned_away: AtomicUsize,
}

pub(super) fn host(join: Join, listening: impl FnOnce(u16)) -> anyhow::Result<World> {
    let door_listener = TcpListener::bind(&join.resolve()?[..]).map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => "choose another MASTER_PORT",
            _ => "MASTER_ADDR must be an address of rank 0's own host",
        };
        anyhow!("rank 0 cannot listen at {}:{} ({error}): {advice}", join.host, join.port)
    })?;
    let here = door_listener.local_addr()?;
    let listener = TcpListener::bind((here.ip(), 0)).context("cannot listen for data")?;
    let control = Control::new(&join)?;
    let door = Arc::new(Door {
        settings: join.settings(),
        prover: Prover::new(&join.secret),
        control: control.clone(),
        busy: AtomicUsize::new(0),
        turned_away: AtomicUsize::new(0),
    });
    door_listener.set_nonblocking(true)?;
    let most = join.layout.world() + STRANGERS;
    let keeper = door.clone();
    // Open until the world ends, so that latecomers learn why they cannot come in.
    start("admit ranks", move || keeper.keep(&door_listener, most))?;
    listening(here.port());

    let mut addresses = match wait_for_all(&join, &control, &door) {
        Ok(addresses) => addresses,
        Err(error) => {
            control.fail(&format!("{error:#}"));
            control.close();
            return Err(error);
        }
    };
    addresses.insert(0, listener.local_addr()?);
    let run = nonce()?;
    control.broadcast(&Frame::Peers { addresses: addresses.clone(), run });
    let key = door.prover.key(&run);
    Ok(World { listener, peers: addresses, key, control })
}

/// The addresses of ranks 1, 2, ...
fn wait_for_all(join: &Join, control: &Control, door: &Door) -> anyhow::Result<Vec<SocketAddr>> {
    let since = Instant::now();
    let mut state = control.0.lock();
    loop {
        if let Some(cause) = join.abort.cause() {
            return Err(anyhow!(cause));
        }
        let data = |line: &Option<Line>| line.as_ref().map(|line| line.data);
        if let Some(all) = state.lines[1..].iter().map(data).collect() {
            return Ok(all);
        }
        if since.elapsed() > join.timeout {
            break;
        }
        state = wait_timeout(&control.0.changed, state, LOOK);
    }
    let names = control.0.names.iter().zip(&state.lines).skip(1);
    let missing: Vec<_> =
        names.filter(|(_, line)| line.is_none()).map(|(name, _)| &**name).collect();
    let mut text = format!("{} never came", missing.join(", "));
    text +=
        &format!(": rank 0 waited {} s at {}:{}", join.timeout.as_secs_f64(), join.host, join.port);
    if is_loopback(&join.host) {
        text += ", which only ranks on its own host can reach: others need its address as MASTER_ADDR, on all ranks alike";
    }
    match door.turned_away.load(Ordering::Relaxed) {
        0 => {}
        n => {
            text += &format!(" and turned away {n} connections that did not know FERROTRON_SECRET")
        }
    }
    Err(anyhow!(text))
}

impl Door {
    fn keep(self: Arc<Self>, listener: &TcpListener, most: usize) {
        let mut trouble = None;
        while !self.control.is_closed() {
            let (stream, from) = match listener.accept() {
                Ok(visitor) => visitor,
                Err(error) => {
                    // No connection is waiting, or it was closed at once, or too many
                    // files are open.
                    let since = trouble.get_or_insert_with(Instant::now);
                    if [ErrorKind::WouldBlock, ErrorKind::ConnectionAborted].contains(&error.kind())
                    {
                        trouble = None;
                    } else if since.elapsed() > LASTING {
                        self.give_up(&error.into());
                    }
                    thread::sleep(LOOK);
                    continue;
                }
            };
            if self.busy.fetch_add(1, Ordering::Relaxed) >= most {
                self.busy.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let door = self.clone();
            let admit = start("hear a rank", move || {
                let admitted = door.admit(stream, from);
                door.busy.fetch_sub(1, Ordering::Relaxed);
                match admitted {
                    Ok((rank, reader)) => door.control.listen(rank, reader),
                    Err(error) if lacks_files(&error) => door.give_up(&error),
                    Err(_) => {}
                }
            });
            if let Err(error) = admit {
                return self
                    .control
                    .fail(&format!("{} failed: {error:#}", self.control.0.names[0]));
            }
        }
    }

    /// No rank can be admitted any more: an error while one is waited for.
    fn give_up(&self, error: &anyhow::Error) {
        if self.is_waiting() {
            let rank = &self.control.0.names[0];
            self.control.fail(&format!("{rank} cannot admit ranks (`ulimit -n`?): {error:#}"));
        }
    }

    /// Whether a rank has still to come.
    fn is_waiting(&self) -> bool {
        self.control.0.lock().lines[1..].iter().any(Option::is_none)
    }

    /// A connection that fails here is dropped, and the run goes on.
    fn admit(
        &self,
        stream: TcpStream,
        from: SocketAddr,
    ) -> anyhow::Result<(usize, BufReader<TcpStream>)> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(wire::WRITE_LIMIT))?;
        let challenge = nonce()?;
        wire::write(&stream, &Frame::Challenge { nonce: challenge })?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let Frame::Hello { claim, nonce, proof } = wire::read(&mut reader, GREETING, SHORT)? else {
            return Err(anyhow!("no greeting"));
        };
        let refuse = |why: String| {
            wire::write(&stream, &Frame::Refused { why: why.clone() })?;
            Err(anyhow!(why))
        };
        if !self.prover.is_hello(&proof, &challenge, &nonce, &claim) {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            return refuse("its FERROTRON_SECRET is not rank 0's".into());
        }
        // It knows the secret, so what does not fit is a mistake in how it was started.
        let Claim { rank, settings, port } = claim;
        if let Some((theirs, ours)) = wire::difference(&settings, &self.settings) {
            let cause = format!("process {rank} was started with {theirs} and rank 0 with {ours}");
            // A complete world goes on without the latecomer.
            if self.is_waiting() {
                self.control.end(&cause);
            }
            return refuse(cause);
        }
        let mut state = self.control.0.lock();
        match state.lines.get(rank) {
            Some(None) if rank > 0 => {}
            Some(_) => {
                let name = &self.control.0.names[rank];
                return refuse(format!(
                    "{name} (RANK {rank}) has already joined; each rank is started once"
                ));
            }
            None => return refuse(format!("RANK {rank} is outside the world")),
        }
        let proof = self.prover.welcome(&challenge, &nonce);
        wire::write(&stream, &Frame::Welcome { proof })?;
        let data = SocketAddr::new(from.ip(), port);
        state.lines[rank] = Some(Line { stream, data, bye: false });
        drop(state);
        self.control.0.changed.notify_all();
        Ok((rank, reader))
    }
}
