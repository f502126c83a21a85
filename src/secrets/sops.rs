//! SOPS: files are opened by `sops` itself, through pipes; nothing of theirs reaches a disk.

use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

use crate::process::{self, Command};

/// Keys that live in a cloud take seconds; a prompt that nobody answers would take for ever.
const DEADLINE: Duration = Duration::from_mins(1);

/// Why a file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SopsError {
    #[error("{path} cannot be decrypted: {reason}")]
    Decrypt { path: PathBuf, reason: String },
}

/// Decrypts the file at `path` with the program `sops`. The file's name decides its format.
///
/// # Errors
///
/// With sops's own words; most often the key that opens the file is not there.
pub async fn decrypt(sops: &Path, path: &Path) -> Result<SecretString, SopsError> {
    let failed = |reason: String| SopsError::Decrypt { path: path.to_owned(), reason };
    let output = Command::new(sops)
        .args(["--disable-version-check", "--decrypt"])
        .arg(path)
        .deadline(DEADLINE)
        .run()
        .await
        .map_err(|error| match error {
            process::Error::Failed { stderr, .. } => failed(summary(&stderr)),
            other => failed(other.to_string()),
        })?;
    String::from_utf8(output.stdout).map(Into::into).map_err(|_| failed("its content is no text".to_owned()))
}

/// The lines of sops's message that say something.
fn summary(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).take(6).collect();
    lines.join(" ")
}
