//! SOPS: `sops` decrypts files through pipes; no plain text reaches a disk.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::{Captures, Regex};
use secrecy::SecretString;
use serde_json::Value;

use super::placeholders::{self, Encoding};
use process::{Command, Credentials, SecretFile};

/// Cloud key services respond within seconds; an unattended prompt would wait for ever.
const DEADLINE: Duration = Duration::from_mins(1);

const KEY_FILE: &str = "SOPS_AGE_KEY_FILE";

/// Why a file could not be decrypted.
#[derive(Debug, thiserror::Error)]
pub enum SopsError {
    /// The message of sops.
    #[error("{path} cannot be decrypted: {message}")]
    Rejected { path: PathBuf, message: String },
    #[error("{path} cannot be decrypted")]
    Program { path: PathBuf, source: process::Error },
    #[error("{path} cannot be decrypted: its content is not UTF-8")]
    NotText { path: PathBuf },
    /// The keys cannot be passed to sops.
    #[error("{path} cannot be decrypted")]
    KeyFile { path: PathBuf, source: io::Error },
}

/// The program, and where the operator's keys are.
#[derive(Debug, Clone)]
pub struct Sops {
    pub program: PathBuf,
    /// A file of age keys, used where the environment names none.
    pub key_file: Option<PathBuf>,
}

/// Decrypts the file at `path`. The file's name decides its format.
///
/// # Errors
///
/// With the message of sops; the most common cause is a missing key.
pub async fn decrypt(sops: &Sops, path: &Path) -> Result<SecretString, SopsError> {
    // The command that prints the key may well be `op read`.
    let by_command = std::env::var_os("SOPS_AGE_KEY_CMD").is_some();
    let credentials = if by_command { Credentials::Operator } else { Credentials::Sops };
    let command = Command::new(&sops.program).credentials(credentials);
    let command = sops.key_file.iter().fold(command, |command, file| command.env(KEY_FILE, file));
    let opened = run(command, path).await?;
    String::from_utf8(opened).map(Into::into).map_err(|_| SopsError::NotText { path: path.to_owned() })
}

/// Checks that age keys, one per line, decrypt the file at `path`, without any key of the operator.
///
/// # Errors
///
/// With the message of sops; the most common cause is a file that is encrypted for another key.
pub async fn check_decryption(sops: &Path, path: &Path, keys: &SecretString) -> Result<(), SopsError> {
    let keys = SecretFile::new(keys).map_err(|source| SopsError::KeyFile { path: path.to_owned(), source })?;
    // Besides the variables sops looks below the home and configuration folders for keys, of age and of SSH.
    let command =
        ["HOME", "XDG_CONFIG_HOME"].into_iter().fold(Command::new(sops), |sops, name| sops.env(name, "/dev/null"));
    run(command.env(KEY_FILE, keys.path()), path).await.map(drop)
}

async fn run(sops: Command, path: &Path) -> Result<Vec<u8>, SopsError> {
    let command = sops.args(["--disable-version-check", "--decrypt"]).arg(path).deadline(DEADLINE);
    let output = command.run().await.map_err(|error| match error {
        process::Error::Failed { stderr, .. } => {
            SopsError::Rejected { path: path.to_owned(), message: summary(&stderr) }
        }
        source => SopsError::Program { path: path.to_owned(), source },
    })?;
    Ok(output.stdout)
}

/// The first non-empty lines of sops's message.
fn summary(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).take(6).collect();
    lines.join(" ")
}

/// An encrypted value as sops writes it.
fn encrypted() -> &'static Regex {
    lazy_regex::regex!(r"ENC\[[^\]\n]*,type:(?P<type>\w+)\]")
}

/// An encrypted YAML or JSON file with a placeholder of the right type for each value and without what sops
/// added, for a rehearsal without keys.
pub fn placeholders(text: &str) -> String {
    if let Ok(Value::Object(mut document)) = serde_json::from_str(text) {
        document.remove("sops");
        let is_secret = document.get("kind").and_then(Value::as_str) == Some("Secret");
        for (key, value) in &mut document {
            // The values of a Secret's `data` are base64.
            let encoding = if is_secret && key == "data" { Encoding::Base64 } else { Encoding::Plain };
            fill_json(key, value, encoding);
        }
        return Value::Object(document).to_string();
    }
    let mut filled = String::with_capacity(text.len());
    let mut of_sops = false;
    for (index, line) in text.lines().enumerate() {
        if !line.starts_with([' ', '\t', '}']) && !line.is_empty() {
            of_sops = line.starts_with("sops:");
        }
        if of_sops {
            continue;
        }
        let replaced = encrypted().replace_all(line, |found: &Captures<'_>| match &found["type"] {
            "int" | "float" => "0".to_owned(),
            "bool" => "false".to_owned(),
            _ => placeholders::placeholder(text, index + 1, ""),
        });
        filled.push_str(&replaced);
        filled.push('\n');
    }
    filled
}

/// Puts placeholders into a value of a JSON file, below a key.
fn fill_json(key: &str, value: &mut Value, encoding: Encoding) {
    match value {
        Value::Object(map) => map.iter_mut().for_each(|(key, value)| fill_json(key, value, encoding)),
        Value::Array(items) => items.iter_mut().for_each(|value| fill_json(key, value, encoding)),
        Value::String(text) => {
            let Some(found) = encrypted().captures(text) else { return };
            *value = match &found["type"] {
                "int" | "float" => 0.into(),
                "bool" => false.into(),
                _ => placeholders::placeholder_of_key(key, encoding).into(),
            };
        }
        _ => {}
    }
}
