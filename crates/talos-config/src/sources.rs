//! What inputs need that this room cannot get by itself: secrets and other programs' output.
//!
//! Reading stays pure: a reader asks for what it needs, and is told what has been fetched so far. Whoever reads fetches
//! what [`Sources::missing`] names and reads again, until nothing is missing.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};

/// Something to be fetched from outside.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// The plain text of a file that SOPS sealed.
    Sealed(PathBuf),
    /// A text with its `op://` references filled in; `origin` is where it comes from, as the operator knows it.
    References { origin: String, text: String },
    /// The variable `name` of the environment, which the program `behind` sets for recipes; `at` is where one starts it.
    Variable { name: String, behind: String, at: String },
    /// What a command prints; the working directory is the repository.
    Output(Vec<String>),
    /// The address that a host's name stands for, an empty text when nobody knows it. In a rehearsal any address of the
    /// subnet will do.
    Address { host: String, subnet: Option<IpNet> },
}

/// What has been fetched, and what was asked for in vain.
#[derive(Default)]
pub struct Sources {
    fetched: BTreeMap<Wanted, SecretString>,
    missing: RefCell<BTreeSet<Wanted>>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").field("fetched", &self.fetched.len()).finish_non_exhaustive()
    }
}

impl Sources {
    /// Hands in what was wanted.
    pub fn provide(&mut self, wanted: Wanted, text: SecretString) {
        self.fetched.insert(wanted, text);
    }

    /// Takes the list of what was asked for and not there.
    pub fn missing(&self) -> Vec<Wanted> {
        std::mem::take(&mut *self.missing.borrow_mut()).into_iter().collect()
    }

    /// What was fetched, if it was.
    pub(super) fn get(&self, wanted: Wanted) -> Option<String> {
        let found = self.fetched.get(&wanted).map(|text| text.expose_secret().to_owned());
        if found.is_none() {
            self.missing.borrow_mut().insert(wanted);
        }
        found
    }

    /// Reads a file, through whoever can open it where SOPS sealed it. A file that nobody has opened yet is read as it is.
    ///
    /// # Errors
    ///
    /// When there is no such file.
    pub(super) fn read(&self, path: &Path) -> std::io::Result<String> {
        let text = std::fs::read_to_string(path)?;
        if !is_sealed(&text) {
            return Ok(text);
        }
        Ok(self.get(Wanted::Sealed(path.to_owned())).unwrap_or(text))
    }
}

/// Whether a file was encrypted by SOPS: it says so at its top level, whatever its name is.
pub fn is_sealed(text: &str) -> bool {
    let says = text.lines().any(|line| line.starts_with("sops:") || line.trim_start().starts_with("\"sops\":"));
    says && text.contains("ENC[")
}
