use super::*;
use std::collections::BTreeSet;

const SIXTEEN: Layout = Layout { dp: 2, pp: 2, cp: 2, tp: 2 };
const UNEVEN: Layout = Layout { dp: 2, pp: 3, cp: 5, tp: 7 };

#[test]
fn ranks_and_places_are_one_to_one() {
    for layout in [Layout::default(), SIXTEEN, UNEVEN] {
        for rank in 0..layout.world() {
            let at = layout.coords(rank);
            assert_eq!(layout.rank(at), rank);
            assert!(
                at.dp < layout.dp && at.pp < layout.pp && at.cp < layout.cp && at.tp < layout.tp
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
    let members = |name| SIXTEEN.group(name, 9).members;
    assert_eq!(members("tp"), [8, 9]);
    assert_eq!(members("cp"), [9, 11]);
    assert_eq!(members("pp"), [9, 13]);
    assert_eq!(members("dp"), [1, 9]);
    assert_eq!(members("dp_cp"), [1, 3, 9, 11]);
    assert_eq!(members("world"), (0..16).collect::<Vec<_>>());
}

/// What lets all groups of one kind share an id: they partition the world, so no two ranks meet in
/// two of them, and every member of a group has the same list.
#[test]
fn the_groups_of_a_kind_divide_the_world() {
    for layout in [Layout::default(), SIXTEEN, UNEVEN] {
        for kind in GROUPS {
            for rank in 0..layout.world() {
                let mine = layout.group(kind.name, rank).members;
                assert!(mine.contains(&rank));
                assert!(mine.is_sorted());
                for &peer in &mine {
                    let theirs = layout.group(kind.name, peer).members;
                    assert_eq!(theirs, mine, "{layout}, {}, ranks {rank} and {peer}", kind.name);
                }
            }
        }
    }
}

#[test]
fn no_two_kinds_have_the_same_id() {
    let specs = GROUPS.iter().map(|kind| SIXTEEN.group(kind.name, 9));
    let (ids, names): (BTreeSet<_>, BTreeSet<_>) = specs.map(|spec| (spec.id, spec.name)).unzip();
    assert_eq!((ids.len(), names.len()), (GROUPS.len(), GROUPS.len()));
}
