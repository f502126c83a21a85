//! What nodes warn of in their configs, once for each warning with the nodes that have it. In maintenance mode a dry run has
//! warnings, on a configured node it has none (seen on Talos 1.12.4).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// The warnings of a run.
#[derive(Debug)]
pub(super) struct ConfigWarnings(Mutex<Collected>);

#[derive(Debug, Default)]
struct Collected {
    /// Nodes whose preflight has not ended.
    missing: BTreeSet<String>,
    /// The nodes that have each warning.
    found: BTreeMap<String, BTreeSet<String>>,
    /// The warnings that were reported.
    reported: BTreeSet<String>,
}

impl ConfigWarnings {
    /// Waits for the preflight of these nodes before it reports anything.
    pub(super) fn new(nodes: BTreeSet<String>) -> Self {
        Self(Mutex::new(Collected { missing: nodes, ..Collected::default() }))
    }

    /// Notes that a node was looked at, and what it warned of. Returns the lines to report: none while another node is
    /// missing, and none twice.
    pub(super) fn note(&self, node: &str, warnings: impl IntoIterator<Item = String>) -> Vec<String> {
        let mut collected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        collected.missing.remove(node);
        for warning in warnings {
            collected.found.entry(warning).or_default().insert(node.to_owned());
        }
        if collected.missing.is_empty() { collected.report() } else { vec![] }
    }
}

impl Collected {
    fn report(&mut self) -> Vec<String> {
        let new = self.found.iter().filter(|(warning, _)| !self.reported.contains(*warning));
        let lines = new.map(|(warning, nodes)| line(warning, nodes)).collect();
        self.reported.extend(self.found.keys().cloned());
        lines
    }
}

fn line(warning: &str, nodes: &BTreeSet<String>) -> String {
    let names: Vec<&str> = nodes.iter().map(String::as_str).collect();
    match names.as_slice() {
        [one] => format!("warning from {one}: {warning}"),
        names => format!("warning from {} nodes ({}): {warning}", names.len(), names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(nodes: &[&str]) -> ConfigWarnings {
        ConfigWarnings::new(nodes.iter().map(|node| (*node).to_owned()).collect())
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_warning_is_reported_once_with_the_nodes_that_have_it() {
        let warnings = warnings(&["cp-1", "cp-2", "worker-1"]);
        assert_eq!(warnings.note("cp-1", texts(&["use a", "use b"])), texts(&[]));
        // A failed look that is repeated.
        assert_eq!(warnings.note("cp-1", texts(&["use a", "use b"])), texts(&[]));
        assert_eq!(warnings.note("worker-1", texts(&[])), texts(&[]));
        let reported = warnings.note("cp-2", texts(&["use a"]));
        assert_eq!(reported, texts(&["warning from 2 nodes (cp-1, cp-2): use a", "warning from cp-1: use b"]));
        // The node that gets its config warns again.
        assert_eq!(warnings.note("cp-2", texts(&["use a"])), texts(&[]));
        assert_eq!(warnings.note("worker-1", texts(&["use c"])), texts(&["warning from worker-1: use c"]));
    }
}
