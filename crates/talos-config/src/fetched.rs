//! External data that readers need: secrets and command output.
//!
//! Readers do no I/O beyond files: they request data and get what has been fetched so far. The caller fetches what
//! [`FetchedInputs::missing`] returns and reads again until nothing is missing.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};

/// A request for external data.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum InputRequest {
    /// The plain text of a file encrypted by SOPS.
    SopsFile(PathBuf),
    /// A text with its `op://` references resolved; `origin` is its place for messages.
    References { origin: String, text: String },
    /// The environment variable `name`, which the program `behind` sets for recipes; `at` is where a recipe runs it.
    Variable { name: String, behind: String, at: String },
    /// The output of a command, run in the repository root.
    CommandOutput(Vec<String>),
    /// The address of a host name, empty when unknown. In a rehearsal any address of the subnet is used.
    Address { host: String, subnet: Option<IpNet> },
}

/// Fetched data and open requests.
#[derive(Default)]
pub struct FetchedInputs {
    fetched: BTreeMap<InputRequest, SecretString>,
    missing: RefCell<BTreeSet<InputRequest>>,
}

impl std::fmt::Debug for FetchedInputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").field("fetched", &self.fetched.len()).finish_non_exhaustive()
    }
}

impl FetchedInputs {
    /// Adds fetched data.
    pub fn provide(&mut self, wanted: InputRequest, text: SecretString) {
        self.fetched.insert(wanted, text);
    }

    /// Returns and clears the open requests.
    pub fn missing(&self) -> Vec<InputRequest> {
        std::mem::take(&mut *self.missing.borrow_mut()).into_iter().collect()
    }

    /// The fetched data; otherwise records the request.
    pub(super) fn get(&self, wanted: InputRequest) -> Option<String> {
        let found = self.fetched.get(&wanted).map(|text| text.expose_secret().to_owned());
        if found.is_none() {
            self.missing.borrow_mut().insert(wanted);
        }
        found
    }

    /// Reads a file; decrypted when it is encrypted by SOPS, or still encrypted as long as it has not been fetched.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub(super) fn read(&self, path: &Path) -> std::io::Result<String> {
        let text = std::fs::read_to_string(path)?;
        if !is_sops_encrypted(&text) {
            return Ok(text);
        }
        Ok(self.get(InputRequest::SopsFile(path.to_owned())).unwrap_or(text))
    }
}

/// Whether a file is encrypted by SOPS, by its top-level `sops` key.
pub fn is_sops_encrypted(text: &str) -> bool {
    let has_key = text.lines().any(|line| line.starts_with("sops:") || line.trim_start().starts_with("\"sops\":"));
    has_key && text.contains("ENC[")
}
