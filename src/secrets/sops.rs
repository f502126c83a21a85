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

/// An encrypted file with a placeholder for every value and without SOPS's own part, for rehearsals without keys.
pub fn placeholders(text: &str) -> String {
    let own = text.lines().take_while(|line| *line != "sops:");
    own.map(|line| placeholder(line) + "\n").collect()
}

/// SOPS writes a value as `ENC[AES256_GCM,data:…,type:TYPE]`, on one line (SOPS 3).
fn placeholder(line: &str) -> String {
    let Some((head, tail)) = line.split_once("ENC[") else { return line.to_owned() };
    let Some((inner, rest)) = tail.split_once(']') else { return line.to_owned() };
    let value = match inner.rsplit("type:").next() {
        Some("int" | "float") => "0",
        Some("bool") => "false",
        _ if head.trim_start().starts_with('#') => "",
        _ => "cGxhY2Vob2xkZXI=",
    };
    format!("{head}{value}{rest}")
}

/// The lines of sops's message that say something.
fn summary(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).take(6).collect();
    lines.join(" ")
}
