//! A chart's package: who it says it is, and its digest.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// A `Chart.yaml` is a page; more is no `Chart.yaml`.
const MAX_METADATA: u64 = 1 << 20;

/// What `Chart.yaml` says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) version: String,
}

/// Reads `Chart.yaml` out of a folder or a packed chart.
pub(super) fn metadata(path: &Path) -> io::Result<Metadata> {
    let text = if path.is_dir() { std::fs::read_to_string(path.join("Chart.yaml"))? } else { packed(path)? };
    serde_saphyr::from_str(&text).map_err(|error| io::Error::other(format!("its Chart.yaml cannot be read: {error}")))
}

fn packed(path: &Path) -> io::Result<String> {
    let mut archive = tar::Archive::new(GzDecoder::new(File::open(path)?));
    for entry in archive.entries()? {
        let entry = entry?;
        let name = entry.path()?.into_owned();
        if name.components().count() == 2 && name.ends_with("Chart.yaml") {
            let mut text = String::new();
            entry.take(MAX_METADATA).read_to_string(&mut text)?;
            return Ok(text);
        }
    }
    Err(io::Error::other("it holds no Chart.yaml"))
}

/// The SHA-256 of a packed chart, or of a folder's files by name and content, in hex.
pub(super) fn digest(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    if path.is_dir() {
        for file in files(path)? {
            let name = file.strip_prefix(path).unwrap_or(&file).as_os_str().as_encoded_bytes();
            hash.update(Sha256::digest(name));
            hash.update(Sha256::digest(std::fs::read(&file)?));
        }
    } else {
        hash.update(std::fs::read(path)?);
    }
    Ok(hex(&hash.finalize()))
}

/// Every file below a folder, in a fixed order.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.append(&mut files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
