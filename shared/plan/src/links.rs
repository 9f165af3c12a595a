//! What carries a run's bytes: NVLink inside a node, network cards between nodes.

use cli::{Figures, GPUS_PER_NODE};
use comm::{Coords, Layout};
use std::collections::BTreeMap;

/// The share of a link's bandwidth that long messages reach: an assumption.
pub const OF_LINKS: f64 = 0.80;

/// The node of a rank: consecutive ranks fill one after the other.
pub fn node(rank: usize) -> usize {
    rank / GPUS_PER_NODE
}

/// The network cards with which groups cross from node to node, in the group that has the fewest;
/// `None` if no group crosses. `first` maps a rank's place to that of its group's first member. A
/// GPU has a card of its own, and NCCL runs a ring over each, so a group has as many as it has
/// members in the node.
pub fn cards(layout: Layout, first: fn(Coords) -> Coords) -> Option<usize> {
    let mut members = BTreeMap::new();
    for rank in 0..layout.world() {
        let group = layout.rank(first(layout.coords(rank)));
        *members.entry((group, node(rank))).or_insert(0) += 1;
    }
    let nodes: Vec<_> = members.into_iter().collect();
    let same = |pair: &&[((usize, usize), usize)]| pair[0].0.0 == pair[1].0.0; // group, two nodes
    nodes.windows(2).filter(same).map(|pair| pair[0].1.min(pair[1].1)).min()
}

/// dp × cp, which sum gradients.
pub fn data(at: Coords) -> Coords {
    Coords { dp: 0, cp: 0, ..at }
}

pub fn cp(at: Coords) -> Coords {
    Coords { cp: 0, ..at }
}

pub fn tp(at: Coords) -> Coords {
    Coords { tp: 0, ..at }
}

/// Bytes per second that a rank sends in a collective. Its rings share what crosses among their
/// cards; inside a node all of it passes each NVLink.
pub fn collective(gpu: &Figures, cards: Option<usize>) -> f64 {
    OF_LINKS * cards.map_or(gpu.nvlink, |cards| gpu.nvlink.min(cards as f64 * gpu.network))
}

/// Bytes per second of a message: it has one sender, so one card.
pub fn message(gpu: &Figures, crosses: bool) -> f64 {
    OF_LINKS * if crosses { gpu.network } else { gpu.nvlink }
}

/// Whether, in any replica, a message from stage `from` to stage `to` leaves its node.
pub fn crosses(layout: Layout, from: usize, to: usize) -> bool {
    let sender = |&rank: &usize| layout.coords(rank).pp == from;
    let receiver = |rank| layout.rank(Coords { pp: to, ..layout.coords(rank) });
    (0..layout.world()).filter(sender).any(|rank| node(rank) != node(receiver(rank)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(dp: usize, pp: usize, cp: usize, tp: usize) -> Layout {
        Layout { dp, pp, cp, tp }
    }

    #[test]
    fn a_group_has_as_many_cards_as_members_in_a_node() {
        assert_eq!(cards(layout(8, 1, 1, 1), data), None);
        assert_eq!(cards(layout(16, 1, 1, 1), data), Some(8));
        assert_eq!(cards(layout(32, 1, 1, 2), data), Some(4));
        assert_eq!(cards(layout(16, 2, 1, 2), data), Some(2));
        assert_eq!(cards(layout(8, 1, 1, 8), data), Some(1));
        assert_eq!(cards(layout(2, 1, 4, 2), data), Some(4)); // cp sums gradients too
        assert_eq!(cards(layout(2, 1, 4, 2), cp), None);
        assert_eq!(cards(layout(1, 1, 4, 4), cp), Some(2));
        // Nine replicas: the second node has one of them, and one card for all that comes.
        assert_eq!(cards(layout(9, 1, 1, 1), data), Some(1));
    }

    #[test]
    fn a_group_may_lie_across_a_border_between_nodes() {
        assert_eq!(cards(layout(1, 1, 1, 7), tp), None);
        assert_eq!(cards(layout(2, 1, 1, 4), tp), None);
        assert_eq!(cards(layout(6, 1, 1, 3), tp), Some(1)); // ranks 6, 7, 8
        assert_eq!(cards(layout(3, 1, 1, 5), tp), Some(2)); // 5, 6, 7 and 8, 9
        assert_eq!(cards(layout(6, 1, 1, 5), tp), Some(1)); // the same, and 15 and 16 to 19
    }

    #[test]
    fn a_pipeline_may_leave_a_node_at_some_borders_alone() {
        let four = |from| crosses(layout(1, 4, 1, 4), from, from + 1);
        assert_eq!([0, 1, 2].map(four), [false, true, false]);
        assert!(crosses(layout(1, 4, 1, 4), 0, 3));
        assert!(!crosses(layout(2, 2, 1, 4), 0, 1));
        // The second replica's, ranks 6 to 11, does where the first one's does not.
        assert!(crosses(layout(2, 3, 1, 2), 0, 1));
    }

    #[test]
    fn more_cards_carry_more_up_to_what_nvlink_bears() {
        let gpu = cli::Gpu::H100.figures();
        let speed = |cards| collective(&gpu, cards) / OF_LINKS / 1e9;
        assert_eq!([None, Some(1), Some(8), Some(16)].map(speed), [450.0, 50.0, 400.0, 450.0]);
    }
}
