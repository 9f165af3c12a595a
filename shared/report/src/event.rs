//! What a rank recorded, in the form in which it is sent to the rank that writes the file.

use crate::comm_bytes::FIRST;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The row of a rank on which a span is drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Track {
    /// What the rank computes.
    Compute,
    /// Blocked on another rank.
    Wait,
    /// What the group of this name exchanges.
    Group(Cow<'static, str>),
}

impl Track {
    /// The row of the group `name`.
    pub const fn group(name: &'static str) -> Self {
        Self::Group(Cow::Borrowed(name))
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Compute => "compute",
            Self::Wait => "wait",
            Self::Group(name) => name,
        }
    }

    /// Rows are drawn in this order; groups as in metrics, others behind them by name.
    pub(crate) fn order(&self) -> (usize, &str) {
        let place = match self {
            Self::Compute => 0,
            Self::Wait => 1,
            Self::Group(name) => {
                2 + FIRST.iter().position(|first| first == name).unwrap_or(FIRST.len())
            }
        };
        (place, self.name())
    }
}

/// Times are nanoseconds since the Unix epoch, so that ranks of several processes line up. (As f64
/// microseconds they would be rounded to quarters: the epoch is far away.)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub track: Track,
    pub name: Cow<'static, str>,
    pub start_ns: u64,
    pub end_ns: u64,
    pub bytes: Option<u64>,
}

/// One rank's events.
#[derive(Serialize, Deserialize)]
pub(crate) struct RankTrace {
    pub rank: usize,
    pub name: String,
    pub events: Vec<Event>,
}

impl RankTrace {
    /// Reads what the ranks exported; empty exports are left out.
    pub fn read(exports: &[Vec<u8>]) -> Result<Vec<Self>> {
        let recorded = exports.iter().filter(|bytes| !bytes.is_empty());
        recorded
            .map(|bytes| serde_json::from_slice(bytes).context("not a rank's exported trace"))
            .collect()
    }
}
