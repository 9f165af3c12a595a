//! What a process brings to the rendezvous, and what it takes away.

use super::control::Control;
use anyhow::{Context, bail};
use comm::{Abort, Layout};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// What a process brings to the rendezvous.
pub(crate) struct Join {
    pub layout: Layout,
    /// See [`Launch::agreement`](crate::Launch::agreement).
    pub agreement: Vec<String>,
    pub rank: usize,
    /// Where rank 0 listens. Port 0, for rank 0 alone, takes a free one.
    pub host: String,
    pub port: u16,
    pub secret: String,
    /// For all ranks to come.
    pub timeout: Duration,
    /// After so long without a heartbeat a rank counts as lost.
    pub silence: Duration,
    pub abort: Abort,
}

/// What it takes away.
pub(crate) struct World {
    /// Where the other ranks reach this one.
    pub listener: TcpListener,
    /// Where this one reaches them, by rank.
    pub peers: Vec<SocketAddr>,
    /// A secret that all ranks of this run now share; another in every run.
    pub key: [u8; 32],
    pub control: Control,
}

impl Join {
    /// What all ranks must have been started with alike, each as a phrase; first the layout.
    pub fn settings(&self) -> Vec<String> {
        let Layout { dp, pp, cp, tp } = self.layout;
        let layout = format!("dp {dp} pp {pp} cp {cp} tp {tp}");
        std::iter::once(layout).chain(self.agreement.iter().cloned()).collect()
    }

    /// Its name in sentences.
    pub fn name(&self, rank: usize) -> String {
        format!("rank {}", self.layout.coords(rank))
    }

    /// Where rank 0 listens. The port is free to choose, so only the host can be wrong.
    pub fn resolve(&self) -> anyhow::Result<Vec<SocketAddr>> {
        use std::net::ToSocketAddrs;
        let found: Vec<_> = (self.host.as_str(), self.port)
            .to_socket_addrs()
            .with_context(|| format!("MASTER_ADDR is {:?}, which names no host", self.host))?
            .collect();
        if found.is_empty() {
            bail!("MASTER_ADDR is {:?}, which has no address", self.host);
        }
        Ok(found)
    }
}

/// Whether this process may open no more files, which no other attempt will change.
pub(super) fn lacks_files(error: &anyhow::Error) -> bool {
    let system = error.chain().filter_map(|e| e.downcast_ref::<io::Error>());
    system.filter_map(io::Error::raw_os_error).any(|e| [libc::EMFILE, libc::ENFILE].contains(&e))
}
