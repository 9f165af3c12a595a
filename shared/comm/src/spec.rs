//! Who belongs to a group.

use report::Track;
use std::sync::Arc;

/// What a group is: the same on all its members.
#[derive(Clone, Debug)]
pub struct GroupSpec {
    /// Different from that of any other group with members in common.
    pub id: u32,
    /// Its name in errors, traces and byte counts: `dp`, `tp`, ...
    pub name: &'static str,
    /// World ranks in group order.
    pub members: Vec<usize>,
    /// Coordinates of every world rank.
    pub names: Arc<[String]>,
}

impl GroupSpec {
    /// The row of a trace on which the group's operations are drawn.
    pub(crate) fn track(&self) -> Track {
        match self.name {
            "dp" | "data" => Track::Dp,
            "tp" => Track::Tp,
            "pp" => Track::Pp,
            "cp" => Track::Cp,
            _ => Track::World,
        }
    }
}

/// The ids of a [`Mesh`](crate::Mesh)'s groups.
pub(crate) mod id {
    pub const WORLD: u32 = 0;
    pub const DP: u32 = 1;
    pub const PP: u32 = 2;
    pub const CP: u32 = 3;
    pub const TP: u32 = 4;
    pub const DATA: u32 = 5;
    pub const UNTIMED: u32 = 6;
}
