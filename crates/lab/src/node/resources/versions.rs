//! The version of each resource, which COSI writes to its metadata.
//!
//! Changes are detected when a resource is read, so several changes between two reads count as one.

use std::collections::HashMap;

use jiff::Timestamp;

use super::ResourceItem;

/// The last observed state of each resource, by kind and ID.
#[derive(Debug, Default)]
pub(in crate::node) struct ResourceVersions(HashMap<(String, String), SeenVersion>);

#[derive(Debug, Clone)]
pub(super) struct SeenVersion {
    pub(super) version: u64,
    pub(super) created: Timestamp,
    pub(super) updated: Timestamp,
    item: ResourceItem,
}

impl ResourceVersions {
    pub(super) fn observe(&mut self, kind: &str, item: &ResourceItem) -> SeenVersion {
        let now = Timestamp::now();
        let seen = self.0.entry((kind.to_owned(), item.id.clone())).or_insert_with(|| SeenVersion {
            version: 1,
            created: now,
            updated: now,
            item: item.clone(),
        });
        if seen.item != *item {
            *seen = SeenVersion { version: seen.version + 1, created: seen.created, updated: now, item: item.clone() };
        }
        seen.clone()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_version_increases_with_every_observed_change() {
        let mut versions = ResourceVersions::default();
        let item = |value: &str| ResourceItem::new("machine", &(), json!(value));
        let seen: Vec<u64> = ["a", "a", "b", "a"].map(|value| versions.observe("Kind", &item(value)).version).to_vec();
        assert_eq!(seen, [1, 1, 2, 3]);
        assert_eq!(versions.observe("Other", &item("a")).version, 1);
    }
}
