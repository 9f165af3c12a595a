//! Every other rank's side: finding rank 0 and being let in.

use super::control::{Control, Line};
use super::join::{Join, World, lacks_files};
use super::wire::{self, Claim, Frame, Prover};
use crate::env::is_loopback;
use crate::secret::nonce;
use anyhow::{Context, anyhow, bail};
use comm::sync::{start, wait_timeout};
use std::io::BufReader;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// Between two attempts, for rank 0 may start later.
const AGAIN: Duration = Duration::from_millis(50);
/// For one attempt.
const ATTEMPT: Duration = Duration::from_secs(5);
const SHORT: usize = 4096;

/// Let in.
struct Entry {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    listener: TcpListener,
}

enum Denied {
    /// Rank 0 does not listen there (yet), or some other program does.
    NotYet(String),
    /// Rank 0 refused, and would refuse again.
    Refused(String),
    /// It is this rank that cannot.
    Unable(String),
}

pub(super) fn connect(join: Join) -> anyhow::Result<World> {
    let since = Instant::now();
    let name = join.name(join.rank);
    let (host, port) = (&join.host, join.port);
    let prover = Prover::new(&join.secret);
    let Entry { stream, reader, listener } = loop {
        let why = match knock(&join, &prover) {
            Ok(entry) => break entry,
            Err(Denied::Refused(why)) => bail!("rank 0 at {host}:{port} refused {name}: {why}"),
            Err(Denied::Unable(why)) => bail!("{name} cannot join (`ulimit -n`?): {why}"),
            Err(Denied::NotYet(why)) => why,
        };
        if let Some(cause) = join.abort.cause() {
            bail!(cause);
        }
        if since.elapsed() > join.timeout {
            let seconds = join.timeout.as_secs_f64();
            let advice = match is_loopback(host) {
                true => "",
                false => {
                    " (rank 0 must have the same MASTER_ADDR: told localhost, it is not found from elsewhere)"
                }
            };
            bail!("{name} found no rank 0 at {host}:{port} within {seconds} s: {why}{advice}");
        }
        thread::sleep(AGAIN);
    };

    let server = stream.peer_addr()?;
    let control = Control::new(&join)?;
    control.0.lock().lines[0] = Some(Line { stream, data: server, bye: false });
    let listening = control.clone();
    start("hear rank 0", move || listening.listen(0, reader)).inspect_err(|_| control.close())?;
    let met = wait_for_peers(&join, &control, since);
    let (mut peers, run) = met.inspect_err(|_| control.close())?;
    // As this host sees rank 0, which may know itself by another address.
    peers[0].set_ip(server.ip());
    Ok(World { listener, peers, key: prover.key(&run), control })
}

fn knock(join: &Join, prover: &Prover) -> Result<Entry, Denied> {
    let not_yet = |e: anyhow::Error| match lacks_files(&e) {
        true => Denied::Unable(format!("{:#}", e.root_cause())),
        false => Denied::NotYet(format!("{e:#}")),
    };
    let stream = reach(join).map_err(not_yet)?;
    let greet = || -> anyhow::Result<(Entry, Frame, [u8; 32], [u8; 32])> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(wire::WRITE_LIMIT))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let Frame::Challenge { nonce: challenge } = wire::read(&mut reader, ATTEMPT, SHORT)? else {
            bail!("an unexpected greeting");
        };
        // Data comes in by the same network as control.
        let listener = TcpListener::bind((stream.local_addr()?.ip(), 0))?;
        let port = listener.local_addr()?.port();
        let claim = Claim { rank: join.rank, settings: join.settings(), port };
        let nonce = nonce()?;
        let proof = prover.hello(&challenge, &nonce, &claim);
        wire::write(&stream, &Frame::Hello { claim, nonce, proof })?;
        let answer = wire::read(&mut reader, ATTEMPT, SHORT)?;
        Ok((Entry { stream, reader, listener }, answer, challenge, nonce))
    };
    let greeted = greet().context("the program that answers there is not a rank 0");
    let (entry, answer, challenge, nonce) = greeted.map_err(not_yet)?;
    match answer {
        Frame::Welcome { proof } if prover.is_welcome(&proof, &challenge, &nonce) => Ok(entry),
        Frame::Refused { why } => Err(Denied::Refused(why)),
        _ => Err(Denied::NotYet(
            "the program that answers there does not know FERROTRON_SECRET".into(),
        )),
    }
}

fn reach(join: &Join) -> anyhow::Result<TcpStream> {
    let mut last = anyhow!("no address");
    for address in join.resolve()? {
        match TcpStream::connect_timeout(&address, ATTEMPT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

fn wait_for_peers(
    join: &Join,
    control: &Control,
    since: Instant,
) -> anyhow::Result<(Vec<SocketAddr>, [u8; 32])> {
    // Rank 0 gives up first, and knows who is missing.
    let limit = join.timeout.saturating_add(ATTEMPT);
    let mut state = control.0.lock();
    loop {
        if let Some(cause) = join.abort.cause() {
            return Err(anyhow!(cause));
        }
        if let Some((peers, run)) = state.peers.take() {
            if peers.len() == join.layout.world() {
                return Ok((peers, run));
            }
            bail!("rank 0 sent a list of {} ranks", peers.len());
        }
        if since.elapsed() > limit {
            bail!("rank 0 admitted {} and then said no more", join.name(join.rank));
        }
        let nap = Duration::from_millis(20);
        state = wait_timeout(&control.0.changed, state, nap);
    }
}
