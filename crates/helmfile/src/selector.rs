//! Label selectors of releases.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Labels that a release must and must not have: `tier=net,name!=cilium`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(Vec<Term>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    label: String,
    /// `=`, not `!=`.
    must_match: bool,
    value: String,
}

/// A selector that cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid selector `{term}`: expected `label=value` or `label!=value`")]
pub struct SelectorError {
    term: String,
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let is_word = |word: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '+' | '-');
            !word.is_empty() && word.chars().all(known)
        };
        let term = |term: &str| {
            let split = term.split_once("!=").map(|(label, value)| (label, false, value));
            let split = split.or_else(|| term.split_once('=').map(|(label, value)| (label, true, value)));
            match split {
                Some((label, must_match, value)) if is_word(label) && is_word(value) => {
                    Ok(Term { label: label.to_owned(), must_match, value: value.to_owned() })
                }
                _ => Err(SelectorError { term: term.to_owned() }),
            }
        };
        text.split(',').map(term).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms = self.0.iter().map(|term| {
            let sign = if term.must_match { "=" } else { "!=" };
            format!("{}{sign}{}", term.label, term.value)
        });
        f.write_str(&terms.collect::<Vec<_>>().join(","))
    }
}

impl Selector {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|term| (labels.get(&term.label) == Some(&term.value)) == term.must_match)
    }

    /// Whether no release can match both.
    fn excludes(&self, other: &Self) -> bool {
        let required = |selector: &Self| selector.0.iter().filter(|term| term.must_match).cloned().collect::<Vec<_>>();
        let others = required(other);
        required(self).iter().any(|a| others.iter().any(|b| a.label == b.label && a.value != b.value))
    }
}

/// Whether one of the selectors matches a release with these labels; without selectors, every release matches.
pub(super) fn any_matches(selectors: &[Selector], labels: &BTreeMap<String, String>) -> bool {
    selectors.is_empty() || selectors.iter().any(|selector| selector.matches(labels))
}

/// Whether no release can match both sets of selectors.
pub(super) fn exclude_each_other(some: &[Selector], others: &[Selector]) -> bool {
    !some.is_empty() && !others.is_empty() && some.iter().all(|one| others.iter().all(|other| one.excludes(other)))
}
