//! The version under which a chart is installed: its own, or the one that helm-controller gives it.
//!
//! For a HelmRelease whose chart comes from an OCIRepository, helm-controller renders the chart as
//! `VERSION+<first 12 hex digits of the manifest's digest>` (helm-controller 1.4.5, `mutateChartWithSourceRevision`).
//! Labels and checksums that a chart derives from its version are only the same when it is installed under that version.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::package::{self, PackageError};

/// The digits of the digest that become part of the version.
const SHORT: usize = 12;
const HEX: usize = 64;

/// The digest of a chart's manifest in its registry: `sha256:` and 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ManifestDigest(String);

/// The text is not `sha256:` and 64 hex digits.
#[derive(Debug, thiserror::Error)]
#[error("not a SHA-256 digest")]
pub struct InvalidDigest;

impl TryFrom<String> for ManifestDigest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        let hex = text.strip_prefix("sha256:").ok_or(InvalidDigest)?;
        let is_hex = hex.len() == HEX && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if is_hex { Ok(Self(text)) } else { Err(InvalidDigest) }
    }
}

impl From<ManifestDigest> for String {
    fn from(digest: ManifestDigest) -> Self {
        digest.0
    }
}

impl fmt::Display for ManifestDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ManifestDigest {
    /// Of what `helm pull` prints: a line `Digest: sha256:…` (Helm 3.8 to 4).
    pub(super) fn in_output(output: &str) -> Option<Self> {
        output.lines().find_map(|line| Self::try_from(line.trim().strip_prefix("Digest: ")?.to_owned()).ok())
    }

    fn short(&self) -> &str {
        let hex = self.0.split_once(':').map_or(self.0.as_str(), |(_, hex)| hex);
        hex.get(..SHORT).unwrap_or(hex)
    }
}

/// The version under which a chart is rendered and installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChartVersion {
    /// As `Chart.yaml` has it.
    Packaged,
    /// With this digest behind it.
    WithDigest(ManifestDigest),
}

impl ChartVersion {
    /// The version that a packaged one becomes; none if it stays as it is. One that cannot be read as a version stays, and
    /// helm-controller rejects it.
    pub(super) fn replaces(&self, packaged: &str) -> Option<String> {
        let Self::WithDigest(digest) = self else { return None };
        let mut version = semver::Version::parse(&completed(packaged)?).ok()?;
        version.build = semver::BuildMetadata::new(digest.short()).ok()?;
        Some(version.to_string())
    }
}

/// A version with three numbers, as Helm's library reads one with fewer, or with zeros before them (Masterminds semver 3.4).
fn completed(version: &str) -> Option<String> {
    let version = version.strip_prefix('v').unwrap_or(version);
    let end = version.find(['-', '+']).unwrap_or(version.len());
    let (numbers, rest) = version.split_at(end);
    let mut numbers: Vec<u64> = numbers.split('.').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    if numbers.len() > 3 {
        return None;
    }
    numbers.resize(3, 0);
    Some(format!("{}.{}.{}{rest}", numbers[0], numbers[1], numbers[2]))
}

/// The package with another version in its `Chart.yaml`.
pub(super) fn repackaged(package: &Path, version: &str) -> Result<Vec<u8>, PackageError> {
    package::rewritten(package, |metadata| {
        let line = lazy_regex::regex!(r"(?m)^version:[ \t]*[^\s][^\r\n]*");
        match line.find_iter(metadata).count() {
            1 => Ok(line.replace(metadata, format!("version: {version}")).into_owned()),
            _ => Err(PackageError::NoVersionLine),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:3630e56de4201a3c0b9ff3b8be1f7e1f84a1b6bbd9a90c9b1eeb64f3c3ee4ef0";

    fn digest() -> ManifestDigest {
        ManifestDigest::try_from(DIGEST.to_owned()).unwrap()
    }

    #[test]
    fn the_digest_is_read_from_the_output_of_helm() {
        let output = format!("Pulled: ghcr.io/app:1.2.3\nDigest: {DIGEST}\n");
        assert_eq!(ManifestDigest::in_output(&output), Some(digest()));
        for other in ["", "Digest: ", "Digest: sha256:12", "Digest: sha512:12", "Successfully pulled"] {
            assert_eq!(ManifestDigest::in_output(other), None, "{other}");
        }
    }

    #[test]
    fn a_version_gets_the_digest_as_helm_controller_writes_it() {
        let with = |packaged: &str| ChartVersion::WithDigest(digest()).replaces(packaged);
        assert_eq!(with("1.19.2").unwrap(), "1.19.2+3630e56de420");
        assert_eq!(with("v1.19.2").unwrap(), "1.19.2+3630e56de420");
        assert_eq!(with("0.1.0-rc.1+built").unwrap(), "0.1.0-rc.1+3630e56de420");
        assert_eq!(with("1.2").unwrap(), "1.2.0+3630e56de420");
        assert_eq!(with("2024.01.02").unwrap(), "2024.1.2+3630e56de420");
        assert_eq!((with("latest"), with("1.2.3.4")), (None, None));
        assert_eq!(ChartVersion::Packaged.replaces("1.19.2"), None);
    }
}
