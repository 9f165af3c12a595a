//! A world described by environment variables.

use anyhow::{Context, anyhow, ensure};
use comm::Layout;
use std::net::IpAddr;
use std::str::FromStr;

/// A rank's place in a world as its environment describes it, in the words of torchrun:
///
/// | variable | |
/// |---|---|
/// | `RANK` | this process's number, from 0 |
/// | `WORLD_SIZE` | how many there are |
/// | `LOCAL_RANK` | its number on this host, which names its GPU; optional |
/// | `MASTER_ADDR`, `MASTER_PORT` | where rank 0 listens |
/// | `FERROTRON_SECRET` | any text, the same on every rank; only ranks that know it are let in |
///
/// A world of one needs no more than the first two. Without `FERROTRON_SECRET` rank 0 listens
/// on loopback only. Under torchrun `MASTER_PORT` belongs to torchrun itself, so rank 0 listens
/// at the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvWorld {
    /// This process's number.
    pub rank: usize,
    /// How many there are.
    pub size: usize,
    /// This process's number on its host.
    pub local_rank: Option<usize>,
    /// Where rank 0 listens.
    pub host: String,
    /// At which port.
    pub port: u16,
    /// What every rank knows, and nobody else.
    pub secret: Option<String>,
    /// Started by the processes launcher, which holds the other end of standard input.
    pub(crate) watched: bool,
}

const LOOPBACK: &str = "127.0.0.1";

/// Set by the processes launcher for the ranks it starts.
pub(crate) const WATCHED: &str = "FERROTRON_WATCHED";

impl EnvWorld {
    /// Reads the variables through `lookup`.
    ///
    /// # Errors
    /// One sentence about the first thing that is missing, garbled or contradictory.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let rank: usize = number(&lookup, "RANK")?;
        let size: usize = number(&lookup, "WORLD_SIZE")?;
        let local_rank = match lookup("LOCAL_RANK") {
            Some(_) => Some(number(&lookup, "LOCAL_RANK")?),
            None => None,
        };
        let watched = lookup(WATCHED).is_some();
        ensure!(rank < size, "RANK is {rank}, but WORLD_SIZE is {size}; ranks count from 0");
        if size == 1 {
            // It meets nobody, wherever that would be.
            let (host, port) = (LOOPBACK.to_owned(), 0);
            return Ok(Self { rank, size, local_rank, host, port, secret: None, watched });
        }
        let host = required(&lookup, "MASTER_ADDR")?;
        let mut port: u16 = number(&lookup, "MASTER_PORT")?;
        let secret = lookup("FERROTRON_SECRET").filter(|secret| !secret.is_empty());
        ensure!(
            port > 0 || watched,
            "MASTER_PORT is 0, but all ranks must know the port; name one"
        );
        if lookup("TORCHELASTIC_RUN_ID").is_some() {
            let next = port.checked_add(1);
            port = next.context("MASTER_PORT is 65535, but under torchrun the next one is used")?;
        }
        ensure!(
            secret.is_some() || is_loopback(&host),
            "MASTER_ADDR is {host}, which others can reach: set FERROTRON_SECRET to the same text on every rank"
        );
        Ok(Self { rank, size, local_rank, host, port, secret, watched })
    }

    /// # Errors
    /// If this world is not as large as `layout` is.
    pub fn check(&self, layout: &Layout) -> anyhow::Result<()> {
        let (size, world) = (self.size, layout.world());
        ensure!(size == world, "WORLD_SIZE is {size}, but {layout} takes {world} ranks");
        Ok(())
    }
}

/// Whether ranks on other hosts cannot reach `host`.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn required(lookup: &impl Fn(&str) -> Option<String>, name: &str) -> anyhow::Result<String> {
    let value = lookup(name).filter(|value| !value.is_empty());
    value.with_context(|| {
        format!(
            "{name} is not set: --launcher env takes RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT"
        )
    })
}

fn number<T: FromStr>(lookup: &impl Fn(&str) -> Option<String>, name: &str) -> anyhow::Result<T> {
    let text = required(lookup, name)?;
    let number = text.trim().parse();
    number.map_err(|_| anyhow!("{name} is {text:?}, but must be a whole number in its range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sound environment with some variables changed; an empty value removes one.
    fn read(changes: &[(&str, &str)]) -> Result<EnvWorld, String> {
        let sound = [
            ("RANK", "1"),
            ("WORLD_SIZE", "4"),
            ("MASTER_ADDR", "127.0.0.1"),
            ("MASTER_PORT", "29500"),
        ];
        let lookup = |name: &str| {
            let found = changes.iter().chain(&sound).find(|(n, _)| *n == name);
            found.map(|(_, value)| value.to_string()).filter(|value| !value.is_empty())
        };
        EnvWorld::from_lookup(lookup).map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn a_sound_environment() {
        let world = read(&[("LOCAL_RANK", "0")]).unwrap();
        assert_eq!((world.rank, world.size, world.local_rank), (1, 4, Some(0)));
        assert_eq!((world.host.as_str(), world.port, world.secret), ("127.0.0.1", 29500, None));
        assert_eq!(read(&[]).unwrap().local_rank, None);
    }

    #[test]
    fn torchrun_keeps_its_own_port() {
        assert_eq!(read(&[("TORCHELASTIC_RUN_ID", "none")]).unwrap().port, 29501);
        let last = [("TORCHELASTIC_RUN_ID", "none"), ("MASTER_PORT", "65535")];
        assert!(read(&last).unwrap_err().contains("65535"));
    }

    #[test]
    fn only_loopback_goes_without_a_secret() {
        assert!(read(&[("MASTER_ADDR", "localhost")]).is_ok());
        assert!(read(&[("MASTER_ADDR", "::1")]).is_ok());
        assert!(read(&[("MASTER_ADDR", "10.0.0.1"), ("FERROTRON_SECRET", "s")]).is_ok());
        for host in ["10.0.0.1", "node1", "localhost.example.org", "127.0.0.1.example.org"] {
            let error = read(&[("MASTER_ADDR", host)]).unwrap_err();
            assert!(error.contains(host) && error.contains("set FERROTRON_SECRET"), "{error}");
        }
    }

    #[test]
    fn a_world_of_one_meets_nobody() {
        let one = [("RANK", "0"), ("WORLD_SIZE", "1")];
        for about in [
            &[("MASTER_ADDR", ""), ("MASTER_PORT", "")][..],
            &[("MASTER_ADDR", "node1"), ("MASTER_PORT", "0")],
            &[("MASTER_ADDR", "10.0.0.1"), ("TORCHELASTIC_RUN_ID", "none")],
        ] {
            let world = read(&[&one[..], about].concat()).unwrap();
            assert_eq!((world.host.as_str(), world.port), (LOOPBACK, 0), "{about:?}");
        }
        let error = read(&[("RANK", "1"), ("WORLD_SIZE", "1")]).unwrap_err();
        assert!(error.contains("RANK is 1, but WORLD_SIZE is 1"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, value, part) in [
            ("RANK", "", "RANK is not set"),
            ("WORLD_SIZE", "", "WORLD_SIZE is not set"),
            ("MASTER_ADDR", "", "MASTER_ADDR is not set"),
            ("MASTER_PORT", "", "MASTER_PORT is not set"),
            ("RANK", "first", "RANK is \"first\""),
            ("RANK", "-1", "RANK is \"-1\""),
            ("LOCAL_RANK", "x", "LOCAL_RANK is \"x\""),
            ("MASTER_PORT", "70000", "MASTER_PORT is \"70000\""),
            ("MASTER_PORT", "0", "MASTER_PORT is 0"),
            ("RANK", "4", "RANK is 4, but WORLD_SIZE is 4"),
        ] {
            let error = read(&[(name, value)]).unwrap_err();
            assert!(error.contains(part), "{name}={value}: {error}");
        }
        let layout = Layout { dp: 2, ..Layout::default() };
        let error = read(&[]).unwrap().check(&layout).unwrap_err().to_string();
        assert_eq!(error, "WORLD_SIZE is 4, but dp 2 · pp 1 · cp 1 · tp 1 takes 2 ranks");
    }
}
