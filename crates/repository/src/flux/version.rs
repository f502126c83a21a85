//! Chart versions against the version or range that a Flux object asks for.

use semver::Version;
use version_range::VersionRange;

/// An exact version; a leading `v` is ignored, and `_` stands for `+` in a registry's tag.
fn exact(text: &str) -> Option<Version> {
    let text = text.trim();
    Version::parse(&text.strip_prefix('v').unwrap_or(text).replace('_', "+")).ok()
}

/// Whether `version` satisfies `wanted`, a version or a range; `None` if one of them is neither.
pub(super) fn satisfies(version: &str, wanted: &str) -> Option<bool> {
    if let Some(wanted_version) = exact(wanted) {
        return Some(exact(version).map_or(version == wanted, |version| version == wanted_version));
    }
    let range: VersionRange = wanted.parse().ok()?;
    Some(range.contains(&exact(version)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_compared_with_a_version_or_a_range() {
        for (version, wanted, expected) in [
            ("1.18.5", "1.18.5", Some(true)),
            ("v1.18.5", "1.18.5", Some(true)),
            ("1.18.5_build", "1.18.5+build", Some(true)),
            ("1.18.4", "1.18.5", Some(false)),
            ("1.18.4", "1.18.x", Some(true)),
            ("1.18.4", "1.18", Some(true)),
            ("1.19.0", "1.18", Some(false)),
            ("1.18.4", ">=1.17.0 <2.0.0", Some(true)),
            ("2.0.0", ">= 1.17.0, < 2.0.0", Some(false)),
            ("2.1.0", "~1.2 || ^2", Some(true)),
            ("1.18.4", "*", Some(true)),
            ("latest", "1.18.x", None),
            ("1.2.3", "newest", None),
            ("1.2.3", "1.0 - 2.0", Some(true)),
            ("1.0.0-dev.1", ">=1.0.0-dev.3", Some(false)),
            ("1.0.0-dev.10", ">=1.0.0-dev.3", Some(true)),
            ("1.0.0-next.0", ">=1.0.0-next.1", Some(false)),
            ("1.0.0-next.2", ">=1.0.0-next.1", Some(true)),
        ] {
            assert_eq!(satisfies(version, wanted), expected, "{version} in {wanted}");
        }
    }
}
