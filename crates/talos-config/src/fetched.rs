//! External data that readers need: secrets and command output.
//!
//! Readers do no I/O beyond files: they use what has been fetched so far, and what is lacking is an outcome of its own
//! ([`InputsError::needs`]). The caller fetches that and reads again until nothing is lacking.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use yaml::{Diagnostic, Diagnostics};

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

/// Why inputs were not read.
#[derive(Debug, Default)]
pub struct InputsError {
    /// Mistakes in the files. Beside `needs` they may come from what is lacking.
    pub mistakes: Diagnostics,
    /// External data without which the reading cannot be completed.
    pub needs: BTreeSet<InputRequest>,
}

impl InputsError {
    pub(crate) fn push(&mut self, cause: impl Into<Self>) {
        let cause = cause.into();
        self.mistakes.extend(cause.mistakes);
        self.needs.extend(cause.needs);
    }

    /// The value if nothing is wrong and nothing is lacking.
    pub(crate) fn into_result<T>(self, value: T) -> Result<T, Self> {
        if self.mistakes.is_empty() && self.needs.is_empty() { Ok(value) } else { Err(self) }
    }

    /// The value of a part; what kept it from being read is added here.
    pub(crate) fn keep<T>(&mut self, part: Result<T, impl Into<Self>>) -> Option<T> {
        part.map_err(|cause| self.push(cause)).ok()
    }
}

impl From<Diagnostics> for InputsError {
    fn from(mistakes: Diagnostics) -> Self {
        Self { mistakes, needs: BTreeSet::new() }
    }
}

impl From<Diagnostic> for InputsError {
    fn from(mistake: Diagnostic) -> Self {
        Diagnostics::from(mistake).into()
    }
}

impl From<InputRequest> for InputsError {
    fn from(need: InputRequest) -> Self {
        Self { mistakes: Diagnostics::default(), needs: BTreeSet::from([need]) }
    }
}

/// Why the plain text of a file is not there.
pub(crate) enum FileError {
    Unreadable(std::io::Error),
    /// It is encrypted and was not decrypted yet.
    Encrypted(InputRequest),
}

impl FileError {
    /// The error of a reading; `mistake` describes a file that cannot be read.
    pub(crate) fn describe(self, mistake: impl FnOnce(std::io::Error) -> Diagnostic) -> InputsError {
        match self {
            Self::Unreadable(error) => mistake(error).into(),
            Self::Encrypted(need) => need.into(),
        }
    }

    /// The request of an encrypted file; a file that cannot be read counts as absent.
    pub(crate) fn need(self) -> Option<InputRequest> {
        match self {
            Self::Unreadable(_) => None,
            Self::Encrypted(need) => Some(need),
        }
    }
}

/// The data that was fetched so far.
#[derive(Default)]
pub struct FetchedInputs {
    fetched: BTreeMap<InputRequest, SecretString>,
}

impl std::fmt::Debug for FetchedInputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FetchedInputs").field("fetched", &self.fetched.len()).finish()
    }
}

impl FetchedInputs {
    /// Adds fetched data.
    pub fn provide(&mut self, wanted: InputRequest, text: SecretString) {
        self.fetched.insert(wanted, text);
    }

    /// The fetched data, or the request for it.
    pub(crate) fn get(&self, wanted: InputRequest) -> Result<String, InputRequest> {
        self.fetched.get(&wanted).map(|text| text.expose_secret().to_owned()).ok_or(wanted)
    }

    /// The text of a file, decrypted when it is encrypted by SOPS.
    pub(crate) fn read(&self, path: &Path) -> Result<String, FileError> {
        let text = std::fs::read_to_string(path).map_err(FileError::Unreadable)?;
        if !is_sops_encrypted(&text) {
            return Ok(text);
        }
        self.get(InputRequest::SopsFile(path.to_owned())).map_err(FileError::Encrypted)
    }
}

/// Whether a file is encrypted by SOPS, by its top-level `sops` key.
pub fn is_sops_encrypted(text: &str) -> bool {
    let has_key = text.lines().any(|line| line.starts_with("sops:") || line.trim_start().starts_with("\"sops\":"));
    has_key && text.contains("ENC[")
}
