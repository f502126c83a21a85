//! What Flux must decrypt: the SOPS files that its Kustomizations apply, and the Secrets that hold the keys.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::FluxObjects;
use yaml::Node;

/// A Secret with the keys of a Kustomization, and the files that they must decrypt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decryption {
    pub namespace: String,
    pub secret: String,
    /// One file for each set of recipients: a key that decrypts one of them decrypts all.
    pub files: Vec<PathBuf>,
    /// How many files there are.
    pub count: usize,
}

/// A file that is encrypted by SOPS for age recipients.
#[derive(Debug, Clone)]
pub(super) struct Sealed {
    path: PathBuf,
    recipients: BTreeSet<String>,
}

impl Sealed {
    /// None for a file that is not encrypted, or without age recipients.
    pub(super) fn from_documents(path: &Path, documents: &[Node]) -> Option<Self> {
        let lists = documents.iter().filter_map(|document| document.find(&["sops", "age"])?.as_sequence());
        let recipients = lists.flatten().filter_map(|entry| Some(entry.find(&["recipient"])?.as_str()?.to_owned()));
        let recipients: BTreeSet<String> = recipients.collect();
        (!recipients.is_empty()).then(|| Self { path: path.to_owned(), recipients })
    }
}

impl FluxObjects {
    /// Everything that Flux must decrypt, by Secret.
    pub fn decryptions(&self) -> Vec<Decryption> {
        let with = |sealed: &Sealed| self.kustomizations.decrypted_with(&sealed.path);
        let secrets: BTreeSet<(String, String)> = self.sealed.iter().filter_map(with).collect();
        let decryption = |secret: (String, String)| {
            let sealed: Vec<&Sealed> =
                self.sealed.iter().filter(|sealed| with(sealed).as_ref() == Some(&secret)).collect();
            let distinct: BTreeMap<&BTreeSet<String>, &PathBuf> =
                sealed.iter().rev().map(|sealed| (&sealed.recipients, &sealed.path)).collect();
            let (count, files) = (sealed.len(), distinct.into_values().cloned().collect());
            let (namespace, secret) = secret;
            Decryption { namespace, secret, files, count }
        };
        secrets.into_iter().map(decryption).collect()
    }
}
