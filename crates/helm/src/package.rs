//! Chart packages: metadata, digest, limits.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Maximum bytes of a `Chart.yaml`.
const MAX_METADATA: u64 = 1 << 20;
/// Maximum bytes of a package; real ones have at most some MiB.
pub(super) const MAX_PACKAGE: u64 = 64 << 20;
/// Maximum bytes of an unpacked package (Helm 4, `pkg/chart/loader/archive`).
const MAX_UNPACKED: u64 = 100 << 20;
/// Maximum files of a chart.
const MAX_FILES: usize = 20_000;

/// Why a chart package is rejected.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("invalid Chart.yaml: {0}")]
    InvalidMetadata(serde_saphyr::Error),
    #[error("the package has no Chart.yaml")]
    NoMetadata,
    #[error("Chart.yaml has no line `version: …`")]
    NoVersionLine,
    #[error("the package has {length} bytes, the limit is {MAX_PACKAGE}")]
    TooLarge { length: u64 },
    #[error("the package unpacks to more than {} MiB or {MAX_FILES} files", MAX_UNPACKED >> 20)]
    UnpacksTooLarge,
    #[error("the path {} in the package is outside of the chart", .path.display())]
    OutsidePath { path: PathBuf },
    #[error("{} has more than {MAX_FILES} files", .folder.display())]
    TooManyFiles { folder: PathBuf },
    #[error("{} links to a folder that contains it", .folder.display())]
    LinkLoop { folder: PathBuf },
}

/// The metadata in `Chart.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) version: String,
}

/// Reads `Chart.yaml` of a folder or a packed chart.
pub(super) fn metadata(path: &Path) -> Result<Metadata, PackageError> {
    let text = if path.is_dir() { std::fs::read_to_string(path.join("Chart.yaml"))? } else { packed(path)? };
    serde_saphyr::from_str(&text).map_err(PackageError::InvalidMetadata)
}

/// Checks every entry, so that Helm never gets a package that it rejects or that exhausts memory.
fn packed(path: &Path) -> Result<String, PackageError> {
    let mut archive = tar::Archive::new(GzDecoder::new(opened(path)?));
    let (mut unpacked, mut metadata) = (0_u64, None);
    for (count, entry) in archive.entries()?.enumerate() {
        let entry = entry?;
        let name = entry.path()?.into_owned();
        if name.is_absolute() || name.components().any(|component| component == Component::ParentDir) {
            return Err(PackageError::OutsidePath { path: name });
        }
        unpacked = unpacked.saturating_add(entry.size());
        if unpacked > MAX_UNPACKED || count > MAX_FILES {
            return Err(PackageError::UnpacksTooLarge);
        }
        if metadata.is_none() && is_metadata(&name) {
            let mut text = String::new();
            entry.take(MAX_METADATA).read_to_string(&mut text)?;
            metadata = Some(text);
        }
    }
    metadata.ok_or(PackageError::NoMetadata)
}

/// Whether a path in a package is the `Chart.yaml` of the chart itself, not of one within it.
fn is_metadata(path: &Path) -> bool {
    path.components().count() == 2 && path.ends_with("Chart.yaml")
}

/// A checked package with another `Chart.yaml`, everything else as it is.
pub(super) fn rewritten(
    path: &Path,
    change: impl Fn(&str) -> Result<String, PackageError>,
) -> Result<Vec<u8>, PackageError> {
    packed(path)?;
    let mut archive = tar::Archive::new(GzDecoder::new(opened(path)?));
    let mut new = tar::Builder::new(GzEncoder::new(vec![], Compression::fast()));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let (mut header, path) = (entry.header().clone(), entry.path()?.into_owned());
        if is_metadata(&path) {
            let mut text = String::new();
            entry.take(MAX_METADATA).read_to_string(&mut text)?;
            let text = change(&text)?;
            header.set_size(text.len() as u64);
            new.append_data(&mut header, path, text.as_bytes())?;
        } else {
            new.append_data(&mut header, path, &mut entry)?;
        }
    }
    Ok(new.into_inner()?.finish()?)
}

fn opened(package: &Path) -> Result<File, PackageError> {
    let file = File::open(package)?;
    let length = file.metadata()?.len();
    if length > MAX_PACKAGE {
        return Err(PackageError::TooLarge { length });
    }
    Ok(file)
}

/// The SHA-256 of a packed chart, or of the names and contents of a folder's files, in hex.
pub(super) fn digest(path: &Path) -> Result<String, PackageError> {
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

/// Every file below a folder, in a fixed order; `above` are the parent folders. Links are followed, as in Helm.
fn files(folder: &Path, above: &mut Vec<PathBuf>) -> Result<Vec<PathBuf>, PackageError> {
    let real = folder.canonicalize()?;
    if above.contains(&real) {
        return Err(PackageError::LinkLoop { folder: folder.to_owned() });
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
            return Err(PackageError::TooManyFiles { folder: folder.to_owned() });
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
            // The builder itself rejects such names.
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
    fn a_malicious_package_is_rejected_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |files: &[(&str, u64)]| metadata(&package(folder.path(), files)).unwrap_err().to_string();
        assert_eq!(metadata(&package(folder.path(), &[("app/Chart.yaml", 0)])).unwrap().version, "1.2.3");
        assert_eq!(
            refused(&[("app/Chart.yaml", 0), ("app/../../.bashrc", 1)]),
            "the path app/../../.bashrc in the package is outside of the chart"
        );
        assert_eq!(
            refused(&[("/etc/cron.d/app", 1)]),
            "the path /etc/cron.d/app in the package is outside of the chart"
        );
        assert_eq!(
            refused(&[("app/Chart.yaml", 0), ("app/zeros", 101 << 20)]),
            "the package unpacks to more than 100 MiB or 20000 files"
        );
        assert_eq!(refused(&[("app/values.yaml", 1)]), "the package has no Chart.yaml");
        let large = folder.path().join("large.tgz");
        File::create(&large).unwrap().set_len(MAX_PACKAGE + 1).unwrap();
        let expected = "the package has 67108865 bytes, the limit is 67108864";
        assert_eq!(digest(&large).unwrap_err().to_string(), expected);
    }

    #[test]
    fn a_package_is_rewritten_except_for_the_charts_within_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = package(folder.path(), &[("app/Chart.yaml", 0), ("app/charts/sub/Chart.yaml", 0), ("app/x", 700)]);
        let changed = rewritten(&path, |text| Ok(text.replace("1.2.3", "1.2.3+abc"))).unwrap();
        let after = folder.path().join("after.tgz");
        std::fs::write(&after, changed).unwrap();
        assert_eq!(metadata(&after).unwrap().version, "1.2.3+abc");
        let mut archive = tar::Archive::new(GzDecoder::new(File::open(&after).unwrap()));
        let texts = archive.entries().unwrap().map(|entry| {
            let mut bytes = Vec::new();
            entry.unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        });
        let texts: Vec<Vec<u8>> = texts.collect();
        assert_eq!(texts[1], b"name: app\nversion: 1.2.3\n");
        assert_eq!(texts[2], vec![0; 700]);
        assert!(matches!(rewritten(&path, |_| Err(PackageError::NoVersionLine)), Err(PackageError::NoVersionLine)));
    }

    #[test]
    fn a_circular_link_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let templates = folder.path().join("templates");
        std::fs::create_dir(&templates).unwrap();
        std::fs::write(templates.join("app.yaml"), "{}").unwrap();
        std::os::unix::fs::symlink(&templates, folder.path().join("same")).unwrap();
        assert!(digest(folder.path()).is_ok(), "a link to a sibling folder is not circular");
        std::os::unix::fs::symlink("..", templates.join("up")).unwrap();
        let error = digest(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("links to a folder that contains it"), "{error}");
    }
}
