//! Versions of charts: equal, or within a range as Flux and Helm read it.

use semver::{Version, VersionReq};

/// A version as charts have it: a `v` in front does not count, and `_` stands for `+` in a tag of a registry.
fn parse(text: &str) -> Option<Version> {
    Version::parse(text.trim().trim_start_matches('v').replace('_', "+").as_str()).ok()
}

/// Whether `version` is what `wanted` (a version or a range of them) comes to; nothing where that cannot be told.
pub(super) fn fits(version: &str, wanted: &str) -> Option<bool> {
    if let Some(exact) = parse(wanted) {
        return Some(parse(version).map_or(version == wanted, |version| version == exact));
    }
    let version = parse(version)?;
    let ranges = wanted.split("||").map(range).collect::<Option<Vec<_>>>()?;
    Some(ranges.iter().any(|range| range.matches(&version)))
}

/// A range in the words of the `semver` crate: blanks for commas, `x` for `*`, and `1.2` means 1.2.*.
fn range(text: &str) -> Option<VersionReq> {
    let mut joined = text.trim().replace(',', " ");
    for operator in [">=", "<=", "^", "~", "=", ">", "<"] {
        joined = joined.replace(&format!("{operator} "), operator);
    }
    let comparator = |word: &str| {
        let word = word.replace(['x', 'X'], "*");
        let bare = word.starts_with(|c: char| c.is_ascii_digit() || c == 'v');
        let word = word.replace('v', "");
        if bare && !word.contains('*') { format!("{word}.*") } else { word }
    };
    if joined.split_whitespace().any(|word| word == "-") {
        return None;
    }
    let words: Vec<String> = joined.split_whitespace().map(comparator).collect();
    VersionReq::parse(&words.join(", ")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_held_against_a_version_or_a_range() {
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
            ("1.2.3", "1.0 - 2.0", None),
        ] {
            assert_eq!(fits(version, wanted), expected, "{version} in {wanted}");
        }
    }
}
