//! Files that the real programs read: certificates, keys and configurations in the lab's private folder.

use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::ControlPlaneError;
use crate::pki::{CertificateAuthority, CertificatePurpose, CertificateSubject, IssuedCertificate, KeyAlgorithm};

/// A folder for the files of one program on one machine.
#[derive(Debug, Clone)]
pub(super) struct ProgramFiles(PathBuf);

impl ProgramFiles {
    pub(super) fn create(folder: PathBuf) -> Result<Self, ControlPlaneError> {
        match std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder) {
            Ok(()) => Ok(Self(folder)),
            Err(source) => Err(ControlPlaneError::Write { path: folder, source }),
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.0
    }

    /// Writes a private file.
    pub(super) fn write(&self, name: &str, content: &str) -> Result<(), ControlPlaneError> {
        let path = self.0.join(name);
        let write = || -> io::Result<()> {
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(&path)?;
            file.write_all(content.as_bytes())
        };
        write().map_err(|source| ControlPlaneError::Write { path, source })
    }

    /// Issues a certificate and writes it as `NAME.crt` and `NAME.key`.
    pub(super) fn issue(
        &self,
        authority: &CertificateAuthority,
        name: &str,
        subject: &CertificateSubject<'_>,
    ) -> Result<IssuedCertificate, ControlPlaneError> {
        let leaf = authority.issue(subject)?;
        self.write(&format!("{name}.crt"), &leaf.certificate)?;
        self.write(&format!("{name}.key"), &leaf.key)?;
        Ok(leaf)
    }

    /// The path of a file in this folder, as an argument.
    pub(super) fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

/// A certificate for both ends of a connection, as etcd's and the API server's are.
pub(super) fn server_subject(
    common_name: &str,
    addresses: Vec<IpAddr>,
    dns_names: Vec<String>,
) -> CertificateSubject<'_> {
    CertificateSubject {
        common_name,
        organizations: vec![],
        addresses,
        dns_names,
        purpose: CertificatePurpose::Both,
        key: KeyAlgorithm::Ecdsa,
    }
}

pub(super) fn client_subject<'s>(common_name: &'s str, organization: Option<&'s str>) -> CertificateSubject<'s> {
    CertificateSubject {
        common_name,
        organizations: organization.into_iter().collect(),
        addresses: vec![],
        dns_names: vec![],
        purpose: CertificatePurpose::Client,
        key: KeyAlgorithm::Ecdsa,
    }
}
