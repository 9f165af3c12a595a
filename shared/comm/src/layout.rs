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
    pub dp: usize,
    pub pp: usize,
    pub cp: usize,
    pub tp: usize,
}

/// The members of each group one rank belongs to, as world ranks in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    pub world: Vec<usize>,
    pub dp: Vec<usize>,
    pub pp: Vec<usize>,
    pub cp: Vec<usize>,
    pub tp: Vec<usize>,
    /// dp × cp: the ranks that hold the same weights and see different tokens.
    pub data: Vec<usize>,
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

    /// The coordinates of every world rank as text, in rank order.
    pub fn names(&self) -> Vec<String> {
        (0..self.world()).map(|rank| self.coords(rank).to_string()).collect()
    }

    /// The groups of `rank`: along a dimension, those ranks that differ in that coordinate alone.
    pub fn members(&self, rank: usize) -> Members {
        let at = self.coords(rank);
        let along = |size: usize, place: &dyn Fn(usize) -> Coords| -> Vec<usize> {
            (0..size).map(|i| self.rank(place(i))).collect()
        };
        Members {
            world: (0..self.world()).collect(),
            dp: along(self.dp, &|dp| Coords { dp, ..at }),
            pp: along(self.pp, &|pp| Coords { pp, ..at }),
            cp: along(self.cp, &|cp| Coords { cp, ..at }),
            tp: along(self.tp, &|tp| Coords { tp, ..at }),
            data: along(self.dp * self.cp, &|i| Coords { dp: i / self.cp, cp: i % self.cp, ..at }),
        }
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
mod tests {
    use super::*;

    const SIXTEEN: Layout = Layout { dp: 2, pp: 2, cp: 2, tp: 2 };
    const UNEVEN: Layout = Layout { dp: 2, pp: 3, cp: 5, tp: 7 };

    #[test]
    fn ranks_and_places_are_one_to_one() {
        for layout in [Layout::default(), SIXTEEN, UNEVEN] {
            for rank in 0..layout.world() {
                let at = layout.coords(rank);
                assert_eq!(layout.rank(at), rank);
                assert!(
                    at.dp < layout.dp
                        && at.pp < layout.pp
                        && at.cp < layout.cp
                        && at.tp < layout.tp
                );
            }
        }
    }

    #[test]
    fn tp_is_innermost_then_cp_pp_dp() {
        assert_eq!(SIXTEEN.coords(1).to_string(), "dp0 pp0 cp0 tp1");
        assert_eq!(SIXTEEN.coords(2).to_string(), "dp0 pp0 cp1 tp0");
        assert_eq!(SIXTEEN.coords(4).to_string(), "dp0 pp1 cp0 tp0");
        assert_eq!(SIXTEEN.coords(8).to_string(), "dp1 pp0 cp0 tp0");
    }

    #[test]
    fn groups_of_a_rank_among_sixteen() {
        // Rank 9 is dp1 pp0 cp0 tp1.
        let members = SIXTEEN.members(9);
        assert_eq!(members.tp, [8, 9]);
        assert_eq!(members.cp, [9, 11]);
        assert_eq!(members.pp, [9, 13]);
        assert_eq!(members.dp, [1, 9]);
        assert_eq!(members.data, [1, 3, 9, 11]);
        assert_eq!(members.world, (0..16).collect::<Vec<_>>());
    }

    /// What lets all groups of one dimension share an id: they partition the world, so no two ranks
    /// meet in two of them, and every member of a group has the same list.
    #[test]
    fn the_groups_of_a_dimension_divide_the_world() {
        for layout in [Layout::default(), SIXTEEN, UNEVEN] {
            for of in [
                |m: Members| m.dp,
                |m: Members| m.pp,
                |m: Members| m.cp,
                |m: Members| m.tp,
                |m: Members| m.data,
                |m: Members| m.world,
            ] {
                for rank in 0..layout.world() {
                    let mine = of(layout.members(rank));
                    assert!(mine.contains(&rank));
                    assert!(mine.is_sorted());
                    for &peer in &mine {
                        assert_eq!(
                            of(layout.members(peer)),
                            mine,
                            "{layout}, ranks {rank} and {peer}"
                        );
                    }
                }
            }
        }
    }
}
