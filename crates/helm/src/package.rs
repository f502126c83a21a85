//! A chart's package: who it says it is, and its digest.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// A `Chart.yaml` is a page; more is no `Chart.yaml`.
const MAX_METADATA: u64 = 1 << 20;
/// A chart's package is some MiB at most.
pub(super) const MAX_PACKAGE: u64 = 64 << 20;
/// What a package may unpack to (Helm 4, `pkg/chart/loader/archive`).
const MAX_UNPACKED: u64 = 100 << 20;
/// How many files a chart has at most.
const MAX_FILES: usize = 20_000;

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

/// Looks at every entry, so that a package which Helm would refuse, or choke on, never gets to it.
fn packed(path: &Path) -> io::Result<String> {
    let mut archive = tar::Archive::new(GzDecoder::new(opened(path)?));
    let (mut unpacked, mut metadata) = (0_u64, None);
    for (count, entry) in archive.entries()?.enumerate() {
        let entry = entry?;
        let name = entry.path()?.into_owned();
        if name.is_absolute() || name.components().any(|component| component == Component::ParentDir) {
            return Err(io::Error::other(format!("its file {} leads out of it", name.display())));
        }
        unpacked = unpacked.saturating_add(entry.size());
        if unpacked > MAX_UNPACKED || count > MAX_FILES {
            let (mib, files) = (MAX_UNPACKED >> 20, MAX_FILES);
            return Err(io::Error::other(format!("it unpacks to more than {mib} MiB or {files} files")));
        }
        if metadata.is_none() && name.components().count() == 2 && name.ends_with("Chart.yaml") {
            let mut text = String::new();
            entry.take(MAX_METADATA).read_to_string(&mut text)?;
            metadata = Some(text);
        }
    }
    metadata.ok_or_else(|| io::Error::other("it holds no Chart.yaml"))
}

fn opened(package: &Path) -> io::Result<File> {
    let file = File::open(package)?;
    let length = file.metadata()?.len();
    if length > MAX_PACKAGE {
        let text = format!("it has {length} bytes; a chart's package has {MAX_PACKAGE} at most");
        return Err(io::Error::other(text));
    }
    Ok(file)
}

/// The SHA-256 of a packed chart, or of a folder's files by name and content, in hex.
pub(super) fn digest(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    if path.is_dir() {
        for file in files(path, &mut Vec::new())? {
            let name = file.strip_prefix(path).unwrap_or(&file).as_os_str().as_encoded_bytes();
            hash.update(Sha256::digest(name));
            hash.update(Sha256::digest(std::fs::read(&file)?));
        }
    } else {
        let mut bytes = Vec::new();
        opened(path)?.read_to_end(&mut bytes)?;
        hash.update(bytes);
    }
    Ok(hex(&hash.finalize()))
}

/// Every file below a folder, in a fixed order; `above` are the folders on the way there. Helm follows links, too.
fn files(folder: &Path, above: &mut Vec<PathBuf>) -> io::Result<Vec<PathBuf>> {
    let real = folder.canonicalize()?;
    if above.contains(&real) {
        return Err(io::Error::other(format!("{} is a link to a folder that it lies in", folder.display())));
    }
    above.push(real);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.append(&mut files(&path, above)?);
        } else {
            found.push(path);
        }
        if found.len() > MAX_FILES {
            return Err(io::Error::other(format!("{} holds more than {MAX_FILES} files", folder.display())));
        }
    }
    above.pop();
    found.sort();
    Ok(found)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A package of files by name and size; the content is zeros, `Chart.yaml` apart.
    fn package(folder: &Path, files: &[(&str, u64)]) -> PathBuf {
        let path = folder.join("chart.tgz");
        let gzip = flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
        let mut tar = tar::Builder::new(gzip);
        for (name, size) in files {
            let chart = b"name: app\nversion: 1.2.3\n";
            let is_chart = name.ends_with("Chart.yaml");
            let mut header = tar::Header::new_gnu();
            // The builder itself refuses what an attacker would write.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(if is_chart { chart.len() as u64 } else { *size });
            header.set_mode(0o644);
            header.set_cksum();
            if is_chart {
                tar.append(&header, &chart[..]).unwrap();
            } else {
                tar.append(&header, io::repeat(0).take(*size)).unwrap();
            }
        }
        tar.into_inner().unwrap().finish().unwrap();
        path
    }

    #[test]
    fn a_package_that_would_harm_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |files: &[(&str, u64)]| metadata(&package(folder.path(), files)).unwrap_err().to_string();
        assert_eq!(metadata(&package(folder.path(), &[("app/Chart.yaml", 0)])).unwrap().version, "1.2.3");
        assert_eq!(
            refused(&[("app/Chart.yaml", 0), ("app/../../.bashrc", 1)]),
            "its file app/../../.bashrc leads out of it"
        );
        assert_eq!(refused(&[("/etc/cron.d/app", 1)]), "its file /etc/cron.d/app leads out of it");
        assert_eq!(
            refused(&[("app/Chart.yaml", 0), ("app/zeros", 101 << 20)]),
            "it unpacks to more than 100 MiB or 20000 files"
        );
        assert_eq!(refused(&[("app/values.yaml", 1)]), "it holds no Chart.yaml");
        let large = folder.path().join("large.tgz");
        File::create(&large).unwrap().set_len(MAX_PACKAGE + 1).unwrap();
        let told = "it has 67108865 bytes; a chart's package has 67108864 at most";
        assert_eq!(digest(&large).unwrap_err().to_string(), told);
    }

    #[test]
    fn a_link_that_goes_round_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let templates = folder.path().join("templates");
        std::fs::create_dir(&templates).unwrap();
        std::fs::write(templates.join("app.yaml"), "{}").unwrap();
        std::os::unix::fs::symlink(&templates, folder.path().join("same")).unwrap();
        assert!(digest(folder.path()).is_ok(), "a link to a folder beside it is no circle");
        std::os::unix::fs::symlink("..", templates.join("up")).unwrap();
        let told = digest(folder.path()).unwrap_err().to_string();
        assert!(told.ends_with("is a link to a folder that it lies in"), "{told}");
    }
}
