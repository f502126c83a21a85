//! Checks over several state files.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::model::{Helmfile, Release, ReleaseId};
use yaml::{Diagnostic, Diagnostics, near};

/// Checks that every need is a known release, including disabled and unselected ones, and that there are no cycles.
///
/// A release may be in several files (its CRDs in one, itself in another), so a need is looked up in its own file first
/// and then in all.
///
/// # Errors
///
/// All mistakes.
pub fn check_needs(files: &[&Helmfile]) -> Result<(), Diagnostics> {
    let mut found = Diagnostics::default();
    let mut graph = Graph::default();
    for (file, helmfile) in files.iter().enumerate() {
        graph.releases.extend(helmfile.releases.iter().map(|release| ((file, &release.id), release)));
        graph.known.extend(helmfile.files.iter().flat_map(|file| &file.known));
    }
    for (node, release) in &graph.releases {
        for need in &release.needs {
            match graph.find(node.0, need) {
                Some(target) => graph.edges.entry(*node).or_insert_with(Vec::new).push(target),
                None if graph.known.contains(need) => {}
                None => found.push(graph.unknown_need(release, need)),
            }
        }
    }
    graph.cycles(&mut found);
    found.into_result(())
}

/// Finds releases that several files list for the same cluster.
pub fn check_duplicates(files: &[Helmfile]) -> Diagnostics {
    let mut found = Diagnostics::default();
    let mut first: BTreeMap<&ReleaseId, &Release> = BTreeMap::new();
    for release in files.iter().flat_map(|file| &file.releases) {
        match first.entry(&release.id) {
            Entry::Vacant(place) => {
                place.insert(release);
            }
            Entry::Occupied(other) => {
                let message = format!("duplicate release {}, first listed at {}", release.id, other.get().at);
                let hint = "name the file to use in k8s-bootstrap.yaml: clusters.<name>.releases";
                found.push(Diagnostic::at_location(release.at.clone(), message).with_hint(hint));
            }
        }
    }
    found
}

/// A release in a file.
type Node<'g> = (usize, &'g ReleaseId);

#[derive(Default)]
struct Graph<'g> {
    releases: BTreeMap<Node<'g>, &'g Release>,
    /// All releases, including those that are not installed.
    known: BTreeSet<&'g ReleaseId>,
    edges: HashMap<Node<'g>, Vec<Node<'g>>>,
}

impl<'g> Graph<'g> {
    fn find(&self, file: usize, need: &'g ReleaseId) -> Option<Node<'g>> {
        let own = self.releases.get_key_value(&(file, need));
        own.map(|(node, _)| *node).or_else(|| self.releases.keys().find(|(_, id)| *id == need).copied())
    }

    fn unknown_need(&self, release: &Release, need: &ReleaseId) -> Diagnostic {
        let message = format!("{} needs unknown release {need}", release.id);
        let ids: BTreeSet<String> = self.releases.keys().map(|(_, id)| id.to_string()).collect();
        let same_name = self.releases.keys().find(|(_, id)| id.name == need.name).map(|(_, id)| id.to_string());
        let near = near(&need.to_string(), ids.iter().map(String::as_str));
        Diagnostic::at_location(release.at.clone(), message).did_you_mean(same_name.as_deref().or(near))
    }

    /// Reports each cycle once, starting at its first release.
    fn cycles(&self, found: &mut Diagnostics) {
        let mut done = BTreeSet::new();
        for start in self.releases.keys() {
            let mut path = vec![];
            self.visit(*start, &mut path, &mut done, found);
        }
    }

    fn visit(&self, node: Node<'g>, path: &mut Vec<Node<'g>>, done: &mut BTreeSet<Node<'g>>, found: &mut Diagnostics) {
        if let Some(begin) = path.iter().position(|seen| *seen == node) {
            let names: Vec<String> = path[begin..].iter().chain([&node]).map(|(_, id)| id.to_string()).collect();
            if let Some(release) = self.releases.get(&node) {
                found.error(release.at.clone(), format!("circular needs: {}", names.join(" -> ")));
            }
            return;
        }
        if done.contains(&node) {
            return;
        }
        path.push(node);
        for next in self.edges.get(&node).into_iter().flatten() {
            self.visit(*next, path, done, found);
        }
        path.pop();
        done.insert(node);
    }
}
