//! A file that only a child can read: a memfd on Linux, a private file elsewhere.

use std::io::{self, Write};

use secrecy::{ExposeSecret, SecretString};

/// A secret for a program that reads it from a path, more than once.
#[derive(Debug)]
pub struct SecretFile {
    #[cfg(target_os = "linux")]
    file: std::fs::File,
    #[cfg(not(target_os = "linux"))]
    file: tempfile::NamedTempFile,
}

impl SecretFile {
    /// Keeps `content` where nothing but a child that is given it can read it.
    ///
    /// # Errors
    ///
    /// When the kernel has no memory for it.
    pub fn new(content: &SecretString) -> io::Result<Self> {
        Self::of_bytes(content.expose_secret().as_bytes())
    }

    /// As [`new`](Self::new), for bytes that are not UTF-8.
    ///
    /// # Errors
    ///
    /// When the kernel has no memory for it.
    #[cfg(target_os = "linux")]
    pub fn of_bytes(content: &[u8]) -> io::Result<Self> {
        use rustix::fs::{MemfdFlags, memfd_create};
        let mut file = std::fs::File::from(memfd_create("credential", MemfdFlags::CLOEXEC)?);
        file.write_all(content)?;
        Ok(Self { file })
    }

    /// Keeps `content` in a private file (0600) that is removed at the end.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    #[cfg(not(target_os = "linux"))]
    pub fn of_bytes(content: &[u8]) -> io::Result<Self> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(content)?;
        Ok(Self { file })
    }

    /// The path under which a child of ours reads it: through our own descriptor, which ends with us.
    #[cfg(target_os = "linux")]
    pub fn path(&self) -> String {
        use std::os::fd::AsRawFd;
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// The path of the private file.
    #[cfg(not(target_os = "linux"))]
    pub fn path(&self) -> String {
        self.file.path().display().to_string()
    }
}
