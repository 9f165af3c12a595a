//! Putting together what the ranks of a run hold in parts.

use crate::compare::{Bound, compare};
use crate::record::{Record, Tensors};
use std::collections::BTreeMap;
use tch::Tensor;

/// Whole tensors from the parts that the ranks of a run (all of them, in rank order) hold. Panics
/// where two ranks that should hold the same numbers do not, bit for bit.
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
        for (label, tensor) in shared_by_tp(what, &ranks) {
            // Tied embeddings stand on two stages, the statistics on all.
            if let Some(before) = wholes.get(&label) {
                let what = format!("{what}: stage {stage} against one before");
                let [a, b] = [before, &tensor].map(|t| [(label.clone(), t.shallow_clone())]);
                compare(&what, &a.into(), &b.into(), Bound::Bits);
            }
            wholes.insert(label, tensor);
        }
    }
    wholes
}

/// Joins the parts of the tensors that tp ranks share; the others must be the same on all of them.
fn shared_by_tp(what: &str, ranks: &[&Record]) -> Vec<(String, Tensor)> {
    let parts: Vec<BTreeMap<_, _>> = ranks
        .iter()
        .map(|rank| rank.labelled().map(|(label, split, t)| (label, (split, t))).collect())
        .collect();
    let join = |(label, (split, first)): (&String, &(Option<i64>, Tensor))| {
        let all: Vec<&Tensor> = parts.iter().map(|part| &part[label].1).collect();
        let tensor = match split {
            Some(dim) => Tensor::cat(&all, *dim),
            None => {
                let same = all.iter().all(|t| t.equal(first));
                assert!(same, "{what}: {label} is not the same on all tp ranks");
                first.shallow_clone()
            }
        };
        (label.clone(), tensor)
    };
    parts[0].iter().map(join).collect()
}
