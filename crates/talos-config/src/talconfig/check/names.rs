//! What names, labels and paths look like.

use std::sync::LazyLock;

use regex::Regex;

fn matches(pattern: &LazyLock<Option<Regex>>, text: &str) -> bool {
    pattern.as_ref().is_some_and(|pattern| pattern.is_match(text))
}

static HOSTNAME: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let part = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]{0,61}[a-zA-Z0-9])";
    Regex::new(&format!(r"^{part}(?:\.{part})*$")).ok()
});
static DOMAIN: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^[a-zA-Z0-9_][a-zA-Z0-9_-]{0,62}(?:\.[a-zA-Z0-9_][a-zA-Z0-9_-]{0,62})*[._]?$").ok());
static SUBDOMAIN: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$").ok());
static QUALIFIED: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new("^(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$").ok());
/// A registry with a dot, a port or `localhost`, and a path without tag or digest.
static IMAGE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let path = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
    Regex::new(&format!(r"^(?:localhost|[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)+|[a-zA-Z0-9.-]+:\d+)(?::\d+)?(?:/{path})+$"))
        .ok()
});

pub(super) fn is_hostname(text: &str) -> bool {
    text.len() <= 255 && matches(&HOSTNAME, text)
}

pub(super) fn is_domain(text: &str) -> bool {
    text.len() <= 255 && matches(&DOMAIN, text)
}

pub(super) fn is_image(text: &str) -> bool {
    matches(&IMAGE, text)
}

/// Why a text is no name of a label, an annotation or a taint.
pub(super) fn qualified_name(text: &str) -> Result<(), String> {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    if prefix.is_some_and(|prefix| prefix.len() > 253 || !matches(&SUBDOMAIN, prefix)) {
        return Err(format!("`{text}`: what stands before the slash is no domain"));
    }
    if name.len() > 63 || !matches(&QUALIFIED, name) {
        return Err(format!(
            "`{name}` is no name: up to 63 letters, digits, `-`, `_` and `.`, the first and the last a letter or a digit"
        ));
    }
    Ok(())
}

/// Why a text is no value of a label.
pub(super) fn label_value(text: &str) -> Result<(), String> {
    if text.is_empty() || (text.len() <= 63 && matches(&QUALIFIED, text)) {
        return Ok(());
    }
    Err(format!(
        "`{text}` is no value: up to 63 letters, digits, `-`, `_` and `.`, the first and the last a letter or a digit"
    ))
}

/// Why a text is no taint's value and effect.
pub(super) fn taint(text: &str) -> Result<(), String> {
    let (value, effect) = text.split_once(':').unwrap_or(("", text));
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
        return Err(format!(
            "`{effect}` is no effect: NoSchedule, PreferNoSchedule or NoExecute, after `value:` where there is one"
        ));
    }
    label_value(value)
}
