//! Versions and version ranges as Helm, Flux and sprig read them (`github.com/Masterminds/semver` 3.4).
//!
//! The `semver` crate reads Cargo's ranges, which differ: to Masterminds a bare `1.2` is `~1.2`, `1.2.3` is exactly that
//! version, blanks and commas both mean *and*, `||` means *or*, and a range that names a prerelease accepts prereleases
//! of every version in it.

use std::cmp::Ordering;
use std::str::FromStr;

use semver::{BuildMetadata, Prerelease, Version};

/// Why a text is neither a version nor a range of versions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    #[error("invalid version {text:?}")]
    Version { text: String },
    #[error("invalid version range {text:?}")]
    Range { text: String },
}

/// Reads a version as charts and tags have it: with or without a leading `v`, missing parts are 0 (`v1.2` is 1.2.0).
///
/// # Errors
///
/// [`VersionError::Version`] for anything else.
pub fn parse_version(text: &str) -> Result<Version, VersionError> {
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let operand = if core.contains(WILDCARDS) { None } else { Operand::parse(text) };
    operand.map(|operand| operand.version).ok_or_else(|| VersionError::Version { text: text.to_owned() })
}

const WILDCARDS: [char; 3] = ['x', 'X', '*'];

/// A range of versions: it contains what satisfies every comparator of at least one of its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRange(Vec<Vec<Comparator>>);

impl VersionRange {
    /// Whether the range contains a version; build metadata makes no difference.
    pub fn contains(&self, version: &Version) -> bool {
        self.0.iter().any(|group| {
            let accepts_prereleases = group.iter().any(|comparator| !comparator.operand.version.pre.is_empty());
            (version.pre.is_empty() || accepts_prereleases)
                && group.iter().all(|comparator| comparator.is_satisfied_by(version))
        })
    }
}

impl FromStr for VersionRange {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let groups = text.split("||").map(parse_group).collect::<Option<_>>();
        groups.map(Self).ok_or_else(|| VersionError::Range { text: text.to_owned() })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Comparator {
    operator: Operator,
    operand: Operand,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Tilde,
    Caret,
}

/// Longer ones first.
const OPERATORS: [(&str, Operator); 11] = [
    ("!=", Operator::NotEqual),
    (">=", Operator::GreaterOrEqual),
    ("=>", Operator::GreaterOrEqual),
    ("<=", Operator::LessOrEqual),
    ("=<", Operator::LessOrEqual),
    ("~>", Operator::Tilde),
    ("=", Operator::Equal),
    (">", Operator::Greater),
    ("<", Operator::Less),
    ("~", Operator::Tilde),
    ("^", Operator::Caret),
];

/// The version of a comparator; parts that are left out or wildcards are 0.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Operand {
    version: Version,
    precision: Precision,
}

/// Which parts of an operand count: `*`, `1.x`, `1.2`, `1.2.3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Precision {
    Any,
    Major,
    Minor,
    Patch,
}

impl Operand {
    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let (text, build) = split_suffix(text, '+');
        let (core, pre) = split_suffix(text, '-');
        let parts: Vec<&str> = core.split('.').collect();
        if parts.len() > 3 {
            return None;
        }
        let is_wildcard = |part: &&str| part.len() == 1 && part.contains(WILDCARDS);
        let exact: Vec<u64> =
            parts.iter().take_while(|part| !is_wildcard(part)).map(|part| number(part)).collect::<Option<_>>()?;
        let rest_is_valid = parts[exact.len()..].iter().all(|part| is_wildcard(part) || number(part).is_some());
        let precision = match exact.len() {
            0 => Precision::Any,
            1 => Precision::Major,
            2 => Precision::Minor,
            _ => Precision::Patch,
        };
        let part = |index: usize| exact.get(index).copied().unwrap_or_default();
        let version = Version {
            major: part(0),
            minor: part(1),
            patch: part(2),
            pre: pre.map_or(Some(Prerelease::EMPTY), |pre| nonempty(pre).and_then(|pre| Prerelease::new(pre).ok()))?,
            build: build.map_or(Some(BuildMetadata::EMPTY), |build| {
                nonempty(build).and_then(|build| BuildMetadata::new(build).ok())
            })?,
        };
        rest_is_valid.then_some(Self { version, precision })
    }
}

fn split_suffix(text: &str, separator: char) -> (&str, Option<&str>) {
    text.split_once(separator).map_or((text, None), |(core, suffix)| (core, Some(suffix)))
}

fn nonempty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// Leading zeros are accepted, signs are not.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Comparators with blanks or commas between them, and `1.2 - 1.4`.
fn parse_group(text: &str) -> Option<Vec<Comparator>> {
    let mut comparators = Vec::new();
    let mut rest = text.trim();
    loop {
        let found = OPERATORS.iter().find_map(|(sign, operator)| Some((*operator, rest.strip_prefix(sign)?)));
        let (operator, after) = found.unwrap_or((Operator::Equal, rest));
        let after = after.trim_start();
        let (operand, after) = after.split_at(after.find(is_separator).unwrap_or(after.len()));
        let operand = Operand::parse(operand)?;
        rest = after.trim_start();
        match rest.strip_prefix('-') {
            Some(after) if found.is_none() && after.starts_with(char::is_whitespace) => {
                let after = after.trim_start();
                let (upper, after) = after.split_at(after.find(is_separator).unwrap_or(after.len()));
                let upper = Operand::parse(upper)?;
                comparators.push(Comparator { operator: Operator::GreaterOrEqual, operand });
                comparators.push(Comparator { operator: Operator::LessOrEqual, operand: upper });
                rest = after.trim_start();
            }
            _ => comparators.push(Comparator { operator, operand }),
        }
        if rest.is_empty() {
            return Some(comparators);
        }
        // An empty operand, as behind a trailing comma, is rejected in the next round.
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
}

fn is_separator(character: char) -> bool {
    character == ',' || character.is_whitespace()
}

impl Comparator {
    fn is_satisfied_by(&self, version: &Version) -> bool {
        let Operand { version: own, precision } = &self.operand;
        let order = version.cmp_precedence(own);
        match self.operator {
            Operator::Equal if *precision == Precision::Patch => order == Ordering::Equal,
            Operator::Equal | Operator::Tilde => order.is_ge() && self.tilde(version),
            Operator::NotEqual => self.differs(version),
            Operator::Greater => self.is_exceeded_by(version),
            Operator::GreaterOrEqual => order.is_ge(),
            Operator::Less => order.is_lt(),
            Operator::LessOrEqual => match precision {
                Precision::Patch => order.is_le(),
                Precision::Major => version.major <= own.major,
                Precision::Any | Precision::Minor => (version.major, version.minor) <= (own.major, own.minor),
            },
            Operator::Caret => order.is_ge() && self.caret(version),
        }
    }

    /// `~0.0.0` accepts every version, as `~*` does.
    fn tilde(&self, version: &Version) -> bool {
        let Operand { version: own, precision } = &self.operand;
        match precision {
            Precision::Any => true,
            Precision::Patch if (own.major, own.minor, own.patch) == (0, 0, 0) => true,
            Precision::Major => version.major == own.major,
            Precision::Minor | Precision::Patch => (version.major, version.minor) == (own.major, own.minor),
        }
    }

    /// `^*` means `^0.0.0`.
    fn caret(&self, version: &Version) -> bool {
        let Operand { version: own, precision } = &self.operand;
        if own.major > 0 || *precision == Precision::Major {
            return version.major == own.major;
        }
        if own.minor > 0 || *precision == Precision::Minor {
            return (version.major, version.minor) == (own.major, own.minor);
        }
        (version.major, version.minor, version.patch) == (own.major, own.minor, own.patch)
    }

    fn differs(&self, version: &Version) -> bool {
        let Operand { version: own, precision } = &self.operand;
        match precision {
            Precision::Major => version.major != own.major,
            Precision::Minor => (version.major, version.minor) != (own.major, own.minor) || version.pre != own.pre,
            Precision::Any | Precision::Patch => version.cmp_precedence(own) != Ordering::Equal,
        }
    }

    /// `>11` begins at 12, `>11.1` at 11.2.
    fn is_exceeded_by(&self, version: &Version) -> bool {
        let Operand { version: own, precision } = &self.operand;
        match precision {
            Precision::Major => version.major > own.major,
            Precision::Minor => (version.major, version.minor) > (own.major, own.minor),
            Precision::Any | Precision::Patch => version.cmp_precedence(own) == Ordering::Greater,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(range: &str, version: &str) -> bool {
        range.parse::<VersionRange>().unwrap().contains(&parse_version(version).unwrap())
    }

    #[test]
    fn ranges_contain_what_masterminds_semver_accepts() {
        for (range, inside, outside) in [
            ("1.2.3", &["1.2.3", "v1.2.3", "1.2.3+build"][..], &["1.2.4", "1.2.3-rc.1"][..]),
            ("=1.2", &["1.2.0", "1.2.9"], &["1.3.0", "1.2.0-rc.1"]),
            ("1.18.x", &["1.18.4"], &["1.19.0", "1.18.4-rc.1"]),
            ("v1.18", &["1.18.4"], &["1.19.0"]),
            ("*", &["0.0.0", "9.9.9"], &["1.0.0-rc.1"]),
            ("!=1.2.x", &["1.3.0", "2.0.0"], &["1.2.3"]),
            ("!=2", &["1.3.0"], &["2.5.0"]),
            ("!=1.2.3", &["1.2.4"], &["1.2.3"]),
            (">11", &["12.0.0"], &["11.1.0"]),
            (">11.1", &["11.2.1"], &["11.1.1"]),
            (">1.2.3", &["1.2.4"], &["1.2.3"]),
            ("<=11", &["11.9.0", "10.0.0"], &["12.0.0"]),
            ("<=1.2", &["1.2.9"], &["1.3.0"]),
            ("<2", &["1.9.9"], &["2.0.0"]),
            ("=>1.2 =<1.4.0", &["1.2.0", "1.4.0"], &["1.4.1"]),
            (">=1.17.0 <2.0.0", &["1.18.4"], &["2.0.0"]),
            (">= 1.17.0, < 2.0.0", &["1.18.4"], &["2.0.0"]),
            ("~1.2.3", &["1.2.3", "1.2.9"], &["1.2.2", "1.3.0"]),
            ("~1", &["1.0.0", "1.9.0"], &["2.0.0"]),
            ("~>1.2", &["1.2.9"], &["1.3.0"]),
            ("~0.0.0", &["9.9.9"], &[]),
            ("^1.2", &["1.9.0"], &["1.1.9", "2.0.0"]),
            ("^0.2.3", &["0.2.9"], &["0.3.0", "1.0.0"]),
            ("^0.0.3", &["0.0.3"], &["0.0.4"]),
            ("^0.0", &["0.0.9"], &["0.1.0"]),
            ("^0", &["0.9.0"], &["1.0.0"]),
            ("~1.2 || ^2", &["1.2.3", "2.1.0"], &["1.3.0"]),
            ("1.0 - 2.0", &["1.2.3", "2.0.9"], &["0.9.0", "2.1.0"]),
            ("1.0.0 - 2.0.0, !=1.5.0", &["1.2.3"], &["1.5.0"]),
        ] {
            inside.iter().for_each(|version| assert!(contains(range, version), "{version} in {range}"));
            outside.iter().for_each(|version| assert!(!contains(range, version), "{version} not in {range}"));
        }
    }

    #[test]
    fn prereleases_count_where_the_range_names_one() {
        for (range, version, expected) in [
            (">=1.0.0-dev.3", "1.0.0-dev.1", false),
            (">=1.0.0-dev.3", "1.0.0-dev.10", true),
            (">=1.0.0-next.1", "1.0.0-next.2", true),
            (">=1.0.0-next.1", "1.0.0-next.0", false),
            (">=1.0.0-0 <2.0.0", "1.5.0-rc.1", true),
            (">=1.0.0-0 || ^3", "3.0.0-rc.1", true),
            ("^3 || 1.0.0-rc.1", "3.0.0-rc.1", false),
            ("1.2.x-0", "1.2.0-rc.1", true),
        ] {
            assert_eq!(contains(range, version), expected, "{version} in {range}");
        }
    }

    #[test]
    fn versions_may_lack_parts_but_not_more() {
        for (text, version) in
            [("v1", "1.0.0"), ("1.2-rc.1", "1.2.0-rc.1"), ("01.2.3", "1.2.3"), ("1.2.3+a.b", "1.2.3+a.b")]
        {
            assert_eq!(parse_version(text).unwrap().to_string(), version);
        }
        for text in ["", "v", "latest", "1.x", "*", "1.2.3.4", "1.2.3-", "+1", "1.-2", "vv1"] {
            assert_eq!(parse_version(text), Err(VersionError::Version { text: text.to_owned() }));
        }
    }

    #[test]
    fn what_masterminds_rejects_is_rejected() {
        for text in
            ["", " || 1", "1.0,", ",1.0", "1.0,,2.0", ">1<2", ">>1", "latest", "1.2.3.4", ">1.0 - 2.0", "- 1", "1x"]
        {
            assert_eq!(text.parse::<VersionRange>(), Err(VersionError::Range { text: text.to_owned() }), "{text}");
        }
    }
}
