//! The longest path through the facts: the least time that the test cluster needs, whatever the orchestrator does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Fact, LabRecord};

/// The chain of facts that takes longest. Each fact counts with its own duration only.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CriticalPath {
    pub seconds: f64,
    /// From the first cause to the last effect.
    pub facts: Vec<String>,
}

/// The longest path that ends in a fact.
struct PathEnd {
    seconds: f64,
    /// The position of the fact before it.
    before: Option<usize>,
}

impl Fact {
    fn seconds(&self) -> f64 {
        (self.at - self.began).max(0.0)
    }
}

impl LabRecord {
    /// The longest path through the record. A fact that is recorded again, as when a machine reboots, counts with its
    /// first occurrence. A cause that is not recorded before its effect does not count.
    pub fn critical_path(&self) -> CriticalPath {
        let mut longest: Vec<PathEnd> = Vec::with_capacity(self.facts.len());
        let mut index: BTreeMap<&str, usize> = BTreeMap::new();
        for (position, fact) in self.facts.iter().enumerate() {
            let causes = fact.after.iter().filter_map(|cause| index.get(cause.as_str()).copied());
            let before = causes.max_by(|a, b| longest[*a].seconds.total_cmp(&longest[*b].seconds));
            let seconds = before.map_or(0.0, |before| longest[before].seconds) + fact.seconds();
            longest.push(PathEnd { seconds, before });
            index.entry(&fact.name).or_insert(position);
        }
        let firsts = index.values().copied();
        let Some(last) = firsts.max_by(|a, b| longest[*a].seconds.total_cmp(&longest[*b].seconds)) else {
            return CriticalPath::default();
        };
        let chain = std::iter::successors(Some(last), |position| longest[*position].before);
        let mut facts: Vec<String> = chain.map(|position| self.facts[position].name.clone()).collect();
        facts.reverse();
        CriticalPath { seconds: longest[last].seconds, facts }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fact(name: &str, began: f64, at: f64, after: &[&str]) -> Fact {
        Fact { name: name.to_owned(), began, at, after: after.iter().map(|&cause| cause.to_owned()).collect() }
    }

    #[test]
    fn idle_time_between_facts_is_not_on_the_path() {
        let facts = vec![
            fact("installed", 0.0, 9.0, &[]),
            // Ten seconds pass before Bootstrap is called.
            fact("etcd", 19.0, 20.0, &["installed"]),
            fact("image", 0.0, 3.0, &[]),
            fact("pod", 20.0, 22.0, &["etcd", "image", "unrecorded"]),
        ];
        let path = LabRecord { facts, ..LabRecord::default() }.critical_path();
        assert_eq!(path, CriticalPath { seconds: 12.0, facts: ["installed", "etcd", "pod"].map(str::to_owned).into() });
    }

    #[test]
    fn a_second_boot_does_not_lengthen_the_path() {
        let facts = vec![
            fact("booted", 0.0, 1.0, &[]),
            fact("booted", 1.0, 9.0, &["booted"]),
            fact("ready", 9.0, 10.0, &["booted"]),
        ];
        assert!((LabRecord { facts, ..LabRecord::default() }.critical_path().seconds - 2.0).abs() < f64::EPSILON);
    }

    /// Every path that ends in `position`, by trying all of them.
    fn brute_force(facts: &[Fact], position: usize) -> f64 {
        let causes = (0..position).filter(|cause| facts[position].after.contains(&facts[*cause].name));
        causes.map(|cause| brute_force(facts, cause)).fold(0.0, f64::max) + facts[position].seconds()
    }

    proptest! {
        #[test]
        fn the_path_is_the_longest_of_all(
            shape in proptest::collection::vec((0_u32..50, proptest::collection::vec(any::<prop::sample::Index>(), 0..4)), 1..9)
        ) {
            let facts: Vec<Fact> = shape
                .iter()
                .enumerate()
                .map(|(position, (seconds, causes))| Fact {
                    name: position.to_string(),
                    began: 0.0,
                    at: f64::from(*seconds),
                    after: causes.iter().filter(|_| position > 0).map(|cause| cause.index(position).to_string()).collect(),
                })
                .collect();
            let expected = (0..facts.len()).map(|position| brute_force(&facts, position)).fold(0.0, f64::max);
            let record = LabRecord { facts, ..LabRecord::default() };
            let path = record.critical_path();
            prop_assert!((path.seconds - expected).abs() < 1e-9);
            let along: f64 = path.facts.iter().map(|name| record.facts[name.parse::<usize>().unwrap()].seconds()).sum();
            prop_assert!((path.seconds - along).abs() < 1e-9);
        }
    }
}
