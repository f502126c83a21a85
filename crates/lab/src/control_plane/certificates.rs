//! Files that real programs insist on: certificates and keys of a throw-away cluster, in the lab's private folder.

use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use std::io::Write;

use crate::pki::{Authority, Key, Leaf, Subject, Use};

/// A folder for the files of one program on one machine.
#[derive(Debug, Clone)]
pub(super) struct Files(PathBuf);

impl Files {
    pub(super) fn new(folder: PathBuf) -> Result<Self, String> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        Ok(Self(folder))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.0
    }

    /// Writes a private file and says where.
    pub(super) fn write(&self, name: &str, content: &str) -> Result<PathBuf, String> {
        let path = self.0.join(name);
        let write = || -> std::io::Result<()> {
            let mut file =
                std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
            file.write_all(content.as_bytes())
        };
        write().map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(path)
    }

    /// Issues a certificate and writes it as `NAME.crt` and `NAME.key`.
    pub(super) fn issue(&self, authority: &Authority, file: &str, subject: &Subject<'_>) -> Result<Leaf, String> {
        let leaf = authority.issue(subject)?;
        self.write(&format!("{file}.crt"), &leaf.certificate)?;
        self.write(&format!("{file}.key"), &leaf.key)?;
        Ok(leaf)
    }

    /// The path of a file in this folder, as an argument.
    pub(super) fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

pub(super) fn server(name: &str, addresses: Vec<IpAddr>, names: Vec<String>) -> Subject<'_> {
    Subject { name, organizations: vec![], addresses, names, purpose: Use::Both, key: Key::Ecdsa }
}

pub(super) fn client<'s>(name: &'s str, organization: Option<&'s str>) -> Subject<'s> {
    Subject {
        name,
        organizations: organization.into_iter().collect(),
        addresses: vec![],
        names: vec![],
        purpose: Use::Client,
        key: Key::Ecdsa,
    }
}
