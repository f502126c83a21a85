//! 1Password: a template's references are resolved by `op` itself, all of them by one process, through pipes.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;
use secrecy::SecretString;

use super::shape;
use crate::process::{self, Command, Credentials};

/// A fingerprint or a password may be asked for, so this is a person's time and not a machine's.
const DEADLINE: Duration = Duration::from_mins(2);

/// A secret reference in a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Without braces: `op://vault/item/[section/]field`.
    pub text: String,
    /// The bytes that `op inject` replaces: with braces, when there are any.
    pub range: std::ops::Range<usize>,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

/// Why a template could not be filled in.
#[derive(Debug, thiserror::Error)]
pub enum OpError {
    /// Nobody is signed in, or no longer (O01).
    #[error("op is not signed in: {0}")]
    NotSignedIn(String),
    /// 1Password asks for a pause; its limits count for the whole account (O02).
    #[error("1Password's rate limit is used up: {0}")]
    RateLimited(String),
    /// A reference leads to nothing.
    #[error("{} (line {}, column {}) leads to nothing: {reason}", .reference.text, .reference.line, .reference.column)]
    Unresolved { reference: Reference, reason: String },
    #[error("op could not fill in the template: {0}")]
    Failed(String),
}

impl OpError {
    /// Whether it may well work later without anybody doing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::RateLimited(_))
    }

    /// What to type next, where that is known.
    pub fn next(&self) -> Option<&'static str> {
        match self {
            Self::NotSignedIn(_) => Some("eval $(op signin), or set OP_SERVICE_ACCOUNT_TOKEN"),
            _ => None,
        }
    }

    /// The entry of the failure catalogue.
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Self::NotSignedIn(_) => Some("O01"),
            Self::RateLimited(_) => Some("O02"),
            _ => None,
        }
    }
}

/// A reference in braces may hold anything; a bare one ends at the first character that no path has. `$VAR` and
/// `${VAR:-default}` are parts of a path. Source: 1Password CLI 2, "Secrets template syntax".
static REFERENCE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let enclosed = r"\{\{\s*(op://(?:\$\{[^}\n]*\}|[^}\n])+?)\s*\}\}";
    let bare = r"op://(?:\$\{[^}\n]*\}|[A-Za-z0-9_\-.$])(?:\$\{[^}\n]*\}|[A-Za-z0-9_\-./?=&$ ])*";
    Regex::new(&format!("(?i){enclosed}|{bare}")).ok()
});

/// Every secret reference of a template, in order.
pub fn references(template: &str) -> Vec<Reference> {
    let mut found = Vec::new();
    let mut from = 0;
    let Some(pattern) = REFERENCE.as_ref() else { return found };
    while let Some(captures) = pattern.captures_at(template, from) {
        let Some(whole) = captures.get(0) else { break };
        let (text, end) = match captures.get(1) {
            Some(enclosed) => (enclosed.as_str(), whole.end()),
            None => {
                let text = bare(whole.as_str());
                (text, whole.start() + text.len())
            }
        };
        from = end;
        if captures.get(1).is_none() && is_inside_a_word(template, whole.start()) {
            continue;
        }
        let (line, column) = position(template, whole.start());
        found.push(Reference { text: text.to_owned(), range: whole.start()..end, line, column });
    }
    found
}

/// A bare reference without what only happens to follow it.
fn bare(matched: &str) -> &str {
    let after_scheme = "op://".len();
    let next = matched[after_scheme..].find(" op:").map_or(matched.len(), |at| after_scheme + at);
    matched[..next].trim_end_matches([' ', '.'])
}

/// Such as `shop://`, or an escaped `\op://`.
fn is_inside_a_word(template: &str, start: usize) -> bool {
    template[..start].chars().next_back().is_some_and(|c| c.is_alphanumeric() || "+-\\.".contains(c))
}

fn position(template: &str, offset: usize) -> (usize, usize) {
    let before = &template[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Fills in a template by one `op inject`, which inherits our `OP_*` variables and the variables that paths name.
///
/// # Errors
///
/// Why there are no secrets; a reference that leads to nothing is named with its place.
pub async fn inject(op: &Path, template: &str) -> Result<SecretString, OpError> {
    if !template.to_ascii_lowercase().contains("op://") {
        return Ok(template.to_owned().into());
    }
    let command = Command::new(op).arg("inject").stdin(template.to_owned().into());
    let output = command.credentials(Credentials::Op).deadline(DEADLINE).run().await.map_err(|error| match error {
        process::Error::Failed { stderr, .. } => classify(&summary(&stderr), template),
        process::Error::Deadline { .. } => {
            OpError::NotSignedIn(format!("it waited more than {DEADLINE:?}, probably for somebody to unlock 1Password"))
        }
        other => OpError::Failed(other.to_string()),
    })?;
    String::from_utf8(output.stdout).map(Into::into).map_err(|_| OpError::Failed("its output is no text".to_owned()))
}

/// op's message without its prefix, such as `[ERROR] 2026/01/31 12:00:00`.
fn summary(stderr: &str) -> String {
    let line = |line: &str| {
        let line = line.trim();
        let rest = line.strip_prefix("[ERROR]").map_or(line, str::trim_start);
        let stamp =
            rest.splitn(3, ' ').take(2).all(|word| word.chars().all(|c| c.is_ascii_digit() || "/:".contains(c)));
        if stamp { rest.splitn(3, ' ').nth(2).unwrap_or(rest).to_owned() } else { rest.to_owned() }
    };
    stderr.lines().map(line).filter(|line| !line.is_empty()).take(4).collect::<Vec<_>>().join(" ")
}

fn classify(message: &str, template: &str) -> OpError {
    let lower = message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| lower.contains(words));
    if says(&["too many requests", "rate limit", "(429)"]) {
        return OpError::RateLimited(message.to_owned());
    }
    let unauthenticated = [
        "signed in",
        "session expired",
        "sign in",
        "no accounts configured",
        "authorization prompt dismissed",
        "unauthorized",
        "connecting to desktop app",
        "service account token",
    ];
    if says(&unauthenticated) {
        return OpError::NotSignedIn(message.to_owned());
    }
    match culprit(message, template) {
        Some(reference) => OpError::Unresolved { reference, reason: message.to_owned() },
        None => OpError::Failed(message.to_owned()),
    }
}

/// The reference that a message is about: the one that it spells out, else the first of which it names most parts.
fn culprit(message: &str, template: &str) -> Option<Reference> {
    let found = references(template);
    if let Some(spelled) =
        found.iter().filter(|reference| message.contains(&reference.text)).max_by_key(|r| r.text.len())
    {
        return Some(spelled.clone());
    }
    let quoted = |part: &str| ['"', '\''].iter().any(|quote| message.contains(&format!("{quote}{part}{quote}")));
    let named = |part: &str| quoted(part) || message.contains(&format!(" {part} "));
    let parts = |reference: &Reference| {
        reference.text["op://".len()..].split(['/', '?']).filter(|part| !part.is_empty() && named(part)).count()
    };
    let most = found.iter().map(parts).max().filter(|most| *most > 0)?;
    found.into_iter().find(|reference| parts(reference) == most)
}

/// The template with a placeholder of the right shape for each reference, for a rehearsal without secrets.
pub fn placeholders(template: &str) -> String {
    let mut filled = String::with_capacity(template.len());
    let mut from = 0;
    for reference in references(template) {
        filled.push_str(&template[from..reference.range.start]);
        filled.push_str(&shape::placeholder(template, reference.line, &reference.text));
        from = reference.range.end;
    }
    filled.push_str(&template[from..]);
    filled
}
