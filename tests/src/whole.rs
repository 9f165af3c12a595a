//! Putting together what the ranks of a run hold in parts.

use crate::compare::{Bound, compare};
use crate::record::{Place, Record, Tensors};
use checkpoint::Placement;
use std::collections::BTreeMap;
use tch::Tensor;

/// Whole tensors from the parts that the ranks of a run (all of them, in rank order) hold, by what
/// each parameter says of its placement. Panics where two ranks that should hold the same numbers
/// do not, bit for bit, or where a rank holds what it should not.
#[track_caller]
pub fn whole(what: &str, records: &[Record]) -> Tensors {
    // A replica: the ranks of one dp and cp coordinate.
    let mut replicas: BTreeMap<(usize, usize), Vec<&Record>> = BTreeMap::new();
    for record in records {
        replicas.entry((record.coords.dp, record.coords.cp)).or_default().push(record);
    }
    let wholes: Vec<_> = replicas.into_values().map(|ranks| replica(what, &ranks)).collect();
    for (i, other) in wholes.iter().enumerate().skip(1) {
        compare(&format!("{what}: replica {i} against replica 0"), &wholes[0], other, Bound::Bits);
    }
    wholes.into_iter().next().expect("a run has a rank")
}

fn replica(what: &str, ranks: &[&Record]) -> Tensors {
    let mut wholes = Tensors::new();
    let mut stages: BTreeMap<usize, Vec<&Record>> = BTreeMap::new();
    for rank in ranks {
        stages.entry(rank.coords.pp).or_default().push(rank);
    }
    for (stage, ranks) in stages {
        for (label, place, tensor) in over_tp(what, &ranks) {
            // Tied embeddings stand on two stages, the statistics on all.
            if let Some(before) = wholes.get(&label) {
                assert_ne!(place.pp, Placement::Alone, "{what}: {label} stands on two stages");
                let what = format!("{what}: stage {stage} against one before");
                let [a, b] = [before, &tensor].map(|t| [(label.clone(), t.shallow_clone())]);
                compare(&what, &a.into(), &b.into(), Bound::Bits);
            }
            wholes.insert(label, tensor);
        }
    }
    wholes
}

/// Joins the shards of the tensors that tp ranks share; the others must be the same on all of them.
fn over_tp(what: &str, ranks: &[&Record]) -> Vec<(String, Place, Tensor)> {
    let parts: Vec<BTreeMap<_, _>> = ranks
        .iter()
        .map(|rank| rank.labelled().map(|(label, place, t)| (label, (place, t))).collect())
        .collect();
    let join = |(label, (place, first)): (&String, &(Place, Tensor))| {
        let all: Vec<&Tensor> = parts.iter().map(|part| &part[label].1).collect();
        let same_place = parts.iter().all(|part| part[label].0 == *place);
        assert!(same_place, "{what}: tp ranks place {label} differently");
        let tensor = match place.tp {
            Placement::Shard(dim) => Tensor::cat(&all, dim as i64),
            _ => {
                let same = all.iter().all(|t| t.equal(first));
                assert!(same, "{what}: {label} is not the same on all tp ranks");
                first.shallow_clone()
            }
        };
        assert_eq!(tensor.size(), place.global_shape, "{what}: {label} is not whole");
        (label.clone(), place.clone(), tensor)
    };
    parts[0].iter().map(join).collect()
}
