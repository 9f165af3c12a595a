//! Which part of a tensor a rank holds.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;

/// What the ranks along one dimension of the mesh hold of a parameter, in the terms of
/// PyTorch's DTensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Each rank holds its own shard, cut along this dimension of the parameter.
    Shard(usize),
    /// Every rank holds all of it, and computes its whole gradient.
    Replicate,
    /// Several ranks hold all of it, but each computes only a part of its gradient: the whole is
    /// the sum of theirs.
    Partial,
    /// One rank holds all of it, and the others none: in a pipeline, what stands on one stage.
    Alone,
}

impl Placement {
    /// Whether rank `rank` of the dimension is the first that holds what it holds. Where something
    /// is to be counted or written once, this rank does it.
    pub fn is_first(self, rank: usize) -> bool {
        rank == 0 || matches!(self, Self::Shard(_) | Self::Alone)
    }

    /// What rank `rank` of `ranks` holds of a tensor of the shape `global_shape`.
    pub fn region(self, global_shape: &[i64], rank: usize, ranks: usize) -> Region {
        let mut region = Region::whole(global_shape);
        if let Self::Shard(dim) = self {
            let Range { start, end } = shard_range(global_shape[dim], rank, ranks);
            (region.offsets[dim], region.extents[dim]) = (start, end - start);
        }
        region
    }
}

/// What rank r of p holds of n rows: `[n*r/p, n*(r+1)/p)`, rounded down. No two lengths differ by
/// more than one.
pub fn shard_range(length: i64, rank: usize, ranks: usize) -> Range<i64> {
    let start = |rank: usize| length * rank as i64 / ranks as i64;
    start(rank)..start(rank + 1)
}

/// A box of a tensor: where it begins and how far it extends, in every dimension. Displayed as
/// `[0..4, 2..3]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// The first index, in every dimension.
    pub offsets: Vec<i64>,
    /// The number of indices, in every dimension: the shape of what is inside.
    pub extents: Vec<i64>,
}

impl Region {
    /// All of a tensor of this shape.
    pub fn whole(shape: &[i64]) -> Self {
        Self { offsets: vec![0; shape.len()], extents: shape.to_vec() }
    }

    /// The numbers inside.
    pub fn numel(&self) -> i64 {
        self.extents.iter().product()
    }

    /// The indices of dimension `dim`.
    pub(crate) fn range(&self, dim: usize) -> Range<i64> {
        self.offsets[dim]..self.offsets[dim] + self.extents[dim]
    }

    /// Whether it lies in a tensor of this shape.
    pub(crate) fn is_within(&self, shape: &[i64]) -> bool {
        let fits = |dim: usize| {
            let Range { start, end } = self.range(dim);
            0 <= start && start <= end && end <= shape[dim]
        };
        [self.offsets.len(), self.extents.len()] == [shape.len(); 2] && (0..shape.len()).all(fits)
    }

    /// What both contain; `None` if that is nothing.
    pub(crate) fn overlap(&self, other: &Self) -> Option<Self> {
        let mut both = self.clone();
        for dim in 0..self.offsets.len() {
            let (a, b) = (self.range(dim), other.range(dim));
            let (start, end) = (a.start.max(b.start), a.end.min(b.end));
            (both.offsets[dim], both.extents[dim]) = (start, end - start);
        }
        both.extents.iter().all(|&extent| extent > 0).then_some(both)
    }

    /// What is left of it without `hole`, in boxes that do not overlap.
    pub(crate) fn without(&self, hole: &Self) -> Vec<Self> {
        let Some(hole) = self.overlap(hole) else { return vec![self.clone()] };
        let (mut rest, mut left) = (self.clone(), vec![]);
        // Dimension by dimension, what lies before the hole and behind it is cut off.
        for dim in 0..self.offsets.len() {
            let (all, inside) = (rest.range(dim), hole.range(dim));
            for Range { start, end } in [all.start..inside.start, inside.end..all.end] {
                if start < end {
                    (rest.offsets[dim], rest.extents[dim]) = (start, end - start);
                    left.push(rest.clone());
                }
            }
            (rest.offsets[dim], rest.extents[dim]) = (inside.start, inside.end - inside.start);
        }
        left
    }

    /// Its indices, counted from the start of `outer`, in which it lies.
    pub(crate) fn inside(&self, outer: &Self) -> Vec<Range<i64>> {
        let shifted = |dim: usize| {
            let Range { start, end } = self.range(dim);
            start - outer.offsets[dim]..end - outer.offsets[dim]
        };
        (0..self.offsets.len()).map(shifted).collect()
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends = self.offsets.iter().zip(&self.extents);
        let ranges: Vec<_> = ends.map(|(start, length)| *start..start + length).collect();
        write!(f, "{ranges:?}")
    }
}
