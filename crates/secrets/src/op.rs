//! 1Password: a template's references are resolved by `op` itself, all of them by one process, through pipes.

use std::path::Path;
use std::time::Duration;

use secrecy::SecretString;

use super::{Error, Provider, Reference, SignedOut, UnresolvedReason};
use process::{Command, Credentials};
use secret_references::ONE_PASSWORD_SCHEME;

/// `op` may prompt for a fingerprint or a password, and the operator needs time to answer.
const DEADLINE: Duration = Duration::from_mins(2);

/// Every secret reference of a template, in order.
///
/// A reference in braces may hold anything; a bare one ends at the first character that no path has. `$VAR` and
/// `${VAR:-default}` are parts of a path. Source: 1Password CLI 2, "Secrets template syntax".
pub fn references(template: &str) -> Vec<Reference> {
    let mut found = Vec::new();
    let mut from = 0;
    let pattern = lazy_regex::regex!(
        r"(?ix)
        \{\{\s*(op://(?:\$\{[^}\n]*\}|[^}\n])+?)\s*\}\}
        |op://(?:\$\{[^}\n]*\}|[A-Za-z0-9_\-.$])(?:\$\{[^}\n]*\}|[A-Za-z0-9_\-./?=&$\ ])*"
    );
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
        found.push(Reference::new(template, text, whole.start()..end));
    }
    found
}

/// A bare reference without what only happens to follow it.
fn bare(matched: &str) -> &str {
    let after_scheme = ONE_PASSWORD_SCHEME.len();
    let next = matched[after_scheme..].find(" op:").map_or(matched.len(), |at| after_scheme + at);
    matched[..next].trim_end_matches([' ', '.'])
}

/// Such as `shop://`, or an escaped `\op://`.
fn is_inside_a_word(template: &str, start: usize) -> bool {
    template[..start].chars().next_back().is_some_and(|c| c.is_alphanumeric() || "+-\\.".contains(c))
}

/// Fills in a template by one `op inject`, which inherits our `OP_*` variables and the variables that paths name; from
/// another account than theirs where one is given.
///
/// # Errors
///
/// Why the template was not filled in; a reference that cannot be resolved is named with its position.
pub async fn inject(op: &Path, account: Option<&str>, template: &str) -> Result<SecretString, Error> {
    if !template.to_ascii_lowercase().contains(ONE_PASSWORD_SCHEME) {
        return Ok(template.to_owned().into());
    }
    let account = account.into_iter().flat_map(|account| ["--account", account]);
    let command = Command::new(op).arg("inject").args(account).stdin(template.to_owned().into());
    let output = command.credentials(Credentials::Op).deadline(DEADLINE).run().await.map_err(|error| match error {
        process::Error::Failed { stderr, .. } => classify(&summary(&stderr), template),
        process::Error::Deadline { .. } => Error::NotSignedIn(SignedOut::Unanswered(DEADLINE)),
        other => Error::Program(other),
    })?;
    String::from_utf8(output.stdout).map(Into::into).map_err(|_| Error::NotText)
}

/// Whether the credential of `op` is in our own environment, which cannot change while we run.
fn has_token() -> bool {
    std::env::vars_os().any(|(name, _)| {
        let name = name.to_string_lossy();
        name == "OP_SERVICE_ACCOUNT_TOKEN" || name.starts_with("OP_SESSION_")
    })
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

fn classify(message: &str, template: &str) -> Error {
    let lower = message.to_lowercase();
    let contains = |words: &[&str]| words.iter().any(|words| lower.contains(words));
    if contains(&["too many requests", "rate limit", "(429)"]) {
        return Error::RateLimited { message: message.to_owned(), retry_after: None };
    }
    let unauthenticated = [
        "signed in",
        "session expired",
        "sign in",
        "no accounts configured",
        "found no accounts",
        "authorization prompt dismissed",
        "unauthorized",
        "connecting to desktop app",
        "service account token",
    ];
    if contains(&unauthenticated) {
        return if has_token() {
            Error::Token { provider: Provider::OnePassword, message: message.to_owned() }
        } else if lower.contains("found no accounts") {
            Error::NotSignedIn(SignedOut::NoAccount(message.to_owned()))
        } else {
            Error::NotSignedIn(SignedOut::NoSession(message.to_owned()))
        };
    }
    match culprit(message, template) {
        Some(reference) => {
            let is_vault_unknown = message.contains("isn't a vault in this account");
            let reason = if is_vault_unknown { UnresolvedReason::UnknownVault } else { UnresolvedReason::Op };
            Error::Unresolved { reference, reason: reason(message.to_owned()) }
        }
        None => Error::Op(message.to_owned()),
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
        reference.text[ONE_PASSWORD_SCHEME.len()..]
            .split(['/', '?'])
            .filter(|part| !part.is_empty() && named(part))
            .count()
    };
    let most = found.iter().map(parts).max().filter(|most| *most > 0)?;
    found.into_iter().find(|reference| parts(reference) == most)
}
