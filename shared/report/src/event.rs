//! What a rank recorded, in the form in which it is sent to the rank that writes the file.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The row of a rank on which a span is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Track {
    Compute,
    /// Blocked on another rank.
    Wait,
    Dp,
    Tp,
    Pp,
    Cp,
    World,
}

impl Track {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Wait => "wait",
            Self::Dp => "dp",
            Self::Tp => "tp",
            Self::Pp => "pp",
            Self::Cp => "cp",
            Self::World => "world",
        }
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
