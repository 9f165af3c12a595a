//! Bytes that a rank has sent, by the name of the group to which they went.

use serde::{Serialize, Serializer};
use std::ops::{Index, Sub};

/// The groups that every line of metrics names, in this order. Others follow, by name.
pub(crate) const FIRST: [&str; 4] = ["dp", "tp", "pp", "cp"];

/// Bytes that a rank has sent, by group: `sent["tp"]`. In metrics an object,
/// `{"dp":0,"tp":8192,…}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommBytes(Vec<(&'static str, u64)>);

impl Default for CommBytes {
    /// Nothing sent.
    fn default() -> Self {
        Self(FIRST.map(|group| (group, 0)).into())
    }
}

impl CommBytes {
    /// Counts `bytes` more for `group`, which is listed from now on even if that is 0.
    pub fn add(&mut self, group: &'static str, bytes: u64) {
        match self.0.iter_mut().find(|(name, _)| *name == group) {
            Some((_, sent)) => *sent += bytes,
            None => {
                self.0.push((group, bytes));
                self.0[FIRST.len()..].sort();
            }
        }
    }

    /// Every group and its bytes: those that every line of metrics names first.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().copied()
    }
}

impl FromIterator<(&'static str, u64)> for CommBytes {
    fn from_iter<T: IntoIterator<Item = (&'static str, u64)>>(sent: T) -> Self {
        let mut all = Self::default();
        sent.into_iter().for_each(|(group, bytes)| all.add(group, bytes));
        all
    }
}

impl Index<&str> for CommBytes {
    type Output = u64;

    /// # Panics
    /// If no group has this name.
    fn index(&self, group: &str) -> &u64 {
        let found = self.0.iter().find(|(name, _)| *name == group);
        found.map(|(_, bytes)| bytes).unwrap_or_else(|| panic!("no group is called {group:?}"))
    }
}

impl Sub for CommBytes {
    type Output = Self;

    /// What was sent between two readings of the counters.
    fn sub(mut self, before: Self) -> Self {
        self.0.iter_mut().for_each(|(group, bytes)| *bytes -= before[group]);
        self
    }
}

impl Serialize for CommBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_counted_by_its_own_group() {
        let sent = |n| CommBytes::from_iter([("ep", 5 * n), ("cp", 4 * n), ("dp", n)]);
        let during = sent(10) - sent(1);
        assert_eq!(during, sent(9));
        assert_eq!((during["dp"], during["tp"], during["ep"]), (9, 0, 45));
    }

    /// A new group is written by its name, behind the four that every line has.
    #[test]
    fn a_new_group_follows_those_that_every_line_has() {
        let sent = CommBytes::from_iter([("shard", 1), ("ep", 0), ("tp", 7), ("ep", 2)]);
        let text = serde_json::to_string(&sent).unwrap();
        assert_eq!(text, r#"{"dp":0,"tp":7,"pp":0,"cp":0,"ep":2,"shard":1}"#);
    }
}
