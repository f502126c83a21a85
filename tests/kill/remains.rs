//! What a killed run must not leave behind: processes, and secrets in its state folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use test_support::{Condition, Deadline, wait_until};

use crate::common::{LabProcess, TestEnvironment, processes_outside};

/// Files that the operator asks for, with keys in them.
const ASKED_FOR: [&str; 2] = ["kubeconfig", "talosconfig"];
/// A value of the secrets bundle that is shorter is a word or an id.
const SHORTEST_SECRET: usize = 16;

/// What is searched for.
pub(super) struct Remains {
    /// Where the run keeps its state.
    folder: PathBuf,
    secrets: Vec<String>,
}

impl Remains {
    pub(super) fn new(environment: &TestEnvironment, cluster: &str) -> Self {
        let lab = environment.state().join("labs").join(cluster);
        Self { folder: lab.join("run"), secrets: Self::secrets(&lab.join("placeholder-secrets.yaml")) }
    }

    /// The secret values of a bundle; of a long one, a part from its middle.
    fn secrets(bundle: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(bundle).unwrap();
        let next = text.lines().skip(1).chain([""]);
        let pairs = text.lines().zip(next).filter_map(|(line, next)| match line.trim().split_once(": ")? {
            // A folded value begins on the next line.
            (key, ">-") => Some((key, next.trim())),
            pair => Some(pair),
        });
        let hidden = pairs.filter(|(key, value)| !["crt", "id"].contains(key) && value.len() >= SHORTEST_SECRET);
        let middle = |value: &str| value[value.len() / 2..].chars().take(SHORTEST_SECRET / 2).collect();
        let found: Vec<String> = hidden.map(|(_, value)| middle(value)).collect();
        assert!(found.len() >= 9, "{} has {} secrets", bundle.display(), found.len());
        found
    }

    pub(super) fn assert_none(&self, environment: &TestEnvironment, lab: &LabProcess) {
        let marker = environment.state().display().to_string();
        // The supervisors end what is left when the run is reaped.
        wait_until(Deadline::after(Duration::from_secs(30)), || match processes_outside(lab.0.id(), &marker) {
            left if left.is_empty() => Condition::Met(()),
            left => Condition::Unmet(format!("{left:?}")),
        });
        self.assert_no_secret(&self.folder);
    }

    fn assert_no_secret(&self, folder: &Path) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                self.assert_no_secret(&path);
            } else if !ASKED_FOR.iter().any(|name| entry.file_name() == *name) {
                let bytes = std::fs::read(&path).unwrap();
                let text = String::from_utf8_lossy(&bytes);
                let found = self.secrets.iter().filter(|secret| text.contains(secret.as_str())).count();
                assert_eq!(found, 0, "{} has secrets of the bundle", path.display());
            }
        }
    }
}
