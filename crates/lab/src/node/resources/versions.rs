//! How often a resource has changed: what COSI writes into its metadata.
//!
//! A change is noticed when somebody looks, so a resource that nobody watched between two changes has had one.

use std::collections::HashMap;

use jiff::Timestamp;

use super::Item;

/// What was last seen of each resource.
#[derive(Debug, Default)]
pub(in crate::node) struct Versions(HashMap<(String, String), Seen>);

#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) version: u64,
    pub(super) created: Timestamp,
    pub(super) updated: Timestamp,
    item: Item,
}

impl Versions {
    pub(super) fn of(&mut self, kind: &str, item: &Item) -> Seen {
        let now = Timestamp::now();
        let seen = self.0.entry((kind.to_owned(), item.id.clone())).or_insert_with(|| Seen {
            version: 1,
            created: now,
            updated: now,
            item: item.clone(),
        });
        if seen.item != *item {
            *seen = Seen { version: seen.version + 1, created: seen.created, updated: now, item: item.clone() };
        }
        seen.clone()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_version_rises_with_every_change_that_is_seen() {
        let mut versions = Versions::default();
        let item = |value: &str| Item::new("machine", &(), json!(value));
        let seen: Vec<u64> = ["a", "a", "b", "a"].map(|value| versions.of("Kind", &item(value)).version).to_vec();
        assert_eq!(seen, [1, 1, 2, 3]);
        assert_eq!(versions.of("Other", &item("a")).version, 1);
    }
}
