//! SOPS: files are opened by `sops` itself, through pipes; nothing of theirs reaches a disk.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use regex::{Captures, Regex};
use secrecy::SecretString;

use super::shape;
use crate::process::{self, Command, Credentials};

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
    // The command that prints the key may well be `op read`.
    let by_command = std::env::var_os("SOPS_AGE_KEY_CMD").is_some();
    let credentials = if by_command { Credentials::Operator } else { Credentials::Sops };
    let output = Command::new(sops)
        .credentials(credentials)
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

/// An encrypted value as sops writes it.
static ENCRYPTED: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"ENC\[[^\]\n]*,type:(?P<type>\w+)\]").ok());

/// An encrypted YAML file with a placeholder of the right type for each value and without what sops added, for a
/// rehearsal without keys.
pub fn placeholders(text: &str) -> String {
    let Some(pattern) = ENCRYPTED.as_ref() else { return text.to_owned() };
    let mut filled = String::with_capacity(text.len());
    let mut of_sops = false;
    for (index, line) in text.lines().enumerate() {
        if !line.starts_with([' ', '\t', '}']) && !line.is_empty() {
            of_sops = line.starts_with("sops:");
        }
        if of_sops {
            continue;
        }
        let replaced = pattern.replace_all(line, |found: &Captures<'_>| match &found["type"] {
            "int" | "float" => "0".to_owned(),
            "bool" => "false".to_owned(),
            _ => shape::placeholder(text, index + 1, ""),
        });
        filled.push_str(&replaced);
        filled.push('\n');
    }
    filled
}
