//! Formats of names, labels and images.

use lazy_regex::regex_is_match;

pub(super) fn is_hostname(text: &str) -> bool {
    text.len() <= 255
        && regex_is_match!(
            r"^(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]{0,61}[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]{0,61}[a-zA-Z0-9]))*$",
            text
        )
}

pub(super) fn is_domain(text: &str) -> bool {
    text.len() <= 255
        && regex_is_match!(r"^[a-zA-Z0-9_][a-zA-Z0-9_-]{0,62}(?:\.[a-zA-Z0-9_][a-zA-Z0-9_-]{0,62})*[._]?$", text)
}

/// Whether an image has a registry with a dot, a port or `localhost`, and a path without tag and digest.
pub(super) fn is_image(text: &str) -> bool {
    regex_is_match!(
        r"^(?:localhost|[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)+|[a-zA-Z0-9.-]+:\d+)(?::\d+)?(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)+$",
        text
    )
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253
        && regex_is_match!(r"^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$", text)
}

fn is_qualified(text: &str) -> bool {
    text.len() <= 63 && regex_is_match!("^(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$", text)
}

/// Why a label, an annotation or a taint is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidName {
    #[error("invalid prefix in `{0}`: expected a domain before the slash")]
    Prefix(String),
    #[error(
        "invalid name `{0}`: expected up to 63 letters, digits, `-`, `_` and `.`, starting and ending with a letter or digit"
    )]
    Name(String),
    #[error(
        "invalid value `{0}`: expected up to 63 letters, digits, `-`, `_` and `.`, starting and ending with a letter or digit"
    )]
    Value(String),
    #[error(
        "unknown effect `{0}`: expected NoSchedule, PreferNoSchedule or NoExecute, after an optional value and a colon"
    )]
    Effect(String),
}

/// Checks the key of a label, an annotation or a taint.
pub(super) fn qualified_name(text: &str) -> Result<(), InvalidName> {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    if prefix.is_some_and(|prefix| !is_subdomain(prefix)) {
        return Err(InvalidName::Prefix(text.to_owned()));
    }
    if !is_qualified(name) {
        return Err(InvalidName::Name(name.to_owned()));
    }
    Ok(())
}

/// Checks the value of a label.
pub(super) fn label_value(text: &str) -> Result<(), InvalidName> {
    if text.is_empty() || is_qualified(text) {
        return Ok(());
    }
    Err(InvalidName::Value(text.to_owned()))
}

/// Checks the value and effect of a taint.
pub(super) fn taint(text: &str) -> Result<(), InvalidName> {
    let (value, effect) = text.split_once(':').unwrap_or(("", text));
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
        return Err(InvalidName::Effect(effect.to_owned()));
    }
    label_value(value)
}
