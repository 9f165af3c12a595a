//! Who is who: the shape of the world, a rank's place in it, and the groups it belongs to.

use std::fmt;

/// How many ways each dimension splits the work. Ranks are numbered with `tp` innermost, then `cp`,
/// `pp` and `dp`: ranks with neighbouring numbers communicate most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Replicas of the model, each with a part of the batch.
    pub dp: usize,
    /// Stages among which the layers are divided.
    pub pp: usize,
    /// Pieces of each sequence.
    pub cp: usize,
    /// Shards of each matrix.
    pub tp: usize,
}

/// A rank's place along each dimension. Displayed as `dp1 pp0 cp0 tp1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Coords {
    /// Its replica.
    pub dp: usize,
    /// Its stage.
    pub pp: usize,
    /// Its piece of each sequence.
    pub cp: usize,
    /// Its shard of each matrix.
    pub tp: usize,
}

/// One way to divide the world into groups. No two groups of a kind have a rank in common, so all
/// of them can share an id and a name.
pub struct GroupKind {
    /// The name in errors and traces.
    pub name: &'static str,
    /// The name under which metrics count its bytes; `None` if they leave them out.
    pub counted_as: Option<&'static str>,
    /// The members of the group to which the rank at a place belongs, as places, by ascending rank.
    pub members: fn(Layout, Coords) -> Vec<Coords>,
}

/// All kinds of groups. A new one is an entry here and a field of `Mesh`: its id is its place in
/// this list, and metrics, traces and dry runs show it by its name. The groups along a dimension
/// hold the ranks that differ in that coordinate alone.
pub const GROUPS: &[GroupKind] = &[
    kind("tp", Some("tp"), |of, at| (0..of.tp).map(|tp| Coords { tp, ..at }).collect()),
    kind("cp", Some("cp"), |of, at| (0..of.cp).map(|cp| Coords { cp, ..at }).collect()),
    kind("pp", Some("pp"), |of, at| (0..of.pp).map(|pp| Coords { pp, ..at }).collect()),
    kind("dp", Some("dp"), |of, at| (0..of.dp).map(|dp| Coords { dp, ..at }).collect()),
    // The ranks that hold the same weights and see different tokens. They sum gradients, so metrics
    // count their bytes as dp's.
    kind("dp_cp", Some("dp"), |of, at| {
        let place = |i| Coords { dp: i / of.cp, cp: i % of.cp, ..at };
        (0..of.dp * of.cp).map(place).collect()
    }),
    // For the few bytes on which all ranks agree.
    kind("world", None, |of, _| (0..of.world()).map(|rank| of.coords(rank)).collect()),
];

const fn kind(
    name: &'static str,
    counted_as: Option<&'static str>,
    members: fn(Layout, Coords) -> Vec<Coords>,
) -> GroupKind {
    GroupKind { name, counted_as, members }
}

/// One group, the same on all its members.
#[derive(Clone, Debug)]
pub struct GroupSpec {
    /// Different from that of any other group with members in common.
    pub id: u32,
    /// Its name in errors and traces.
    pub name: &'static str,
    /// World ranks in group order.
    pub members: Vec<usize>,
    /// The world's, in which each member has its coordinates.
    pub layout: Layout,
}

impl Default for Layout {
    fn default() -> Self {
        Self { dp: 1, pp: 1, cp: 1, tp: 1 }
    }
}

impl Layout {
    /// Number of ranks.
    pub fn world(&self) -> usize {
        self.dp * self.pp * self.cp * self.tp
    }

    /// The place of world rank `rank`, which must be below [`world`](Self::world).
    pub fn coords(&self, rank: usize) -> Coords {
        debug_assert!(rank < self.world(), "rank {rank} in a world of {}", self.world());
        Coords {
            tp: rank % self.tp,
            cp: rank / self.tp % self.cp,
            pp: rank / (self.tp * self.cp) % self.pp,
            dp: rank / (self.tp * self.cp * self.pp),
        }
    }

    /// The world rank at a place; the inverse of [`coords`](Self::coords).
    pub fn rank(&self, at: Coords) -> usize {
        ((at.dp * self.pp + at.pp) * self.cp + at.cp) * self.tp + at.tp
    }

    /// The group of the kind `name` to which world rank `rank` belongs.
    ///
    /// # Panics
    /// If [`GROUPS`] has no such kind.
    pub fn group(&self, name: &str, rank: usize) -> GroupSpec {
        let id = GROUPS.iter().position(|kind| kind.name == name);
        let id = id.unwrap_or_else(|| panic!("no kind of group is called {name:?}"));
        let places = (GROUPS[id].members)(*self, self.coords(rank));
        let members = places.into_iter().map(|place| self.rank(place)).collect();
        GroupSpec { id: id as u32, name: GROUPS[id].name, members, layout: *self }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dp {} · pp {} · cp {} · tp {}", self.dp, self.pp, self.cp, self.tp)
    }
}

impl fmt::Display for Coords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dp{} pp{} cp{} tp{}", self.dp, self.pp, self.cp, self.tp)
    }
}

#[cfg(test)]
mod tests;
