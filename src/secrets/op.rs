//! 1Password: one `op inject` for all references of a file, fed and read by pipes.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use regex::{Captures, Regex};
use secrecy::SecretString;

use crate::process::{self, Command};
use crate::yaml::{Location, Origin, Position};

/// The service takes seconds; a prompt that nobody answers would take for ever.
const DEADLINE: Duration = Duration::from_mins(2);

/// The spellings that `op inject` accepts (1Password CLI 2): in braces, quoted, bare; a bare one ends with its line.
static REFERENCE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r#"(?x)
        \{\{ \s* (?P<braced> op://[^}]+?) \s* \}\}
        | " (?P<double> op://[^"\n]+) "
        | ' (?P<single> op://[^'\n]+) '
        | (?P<bare> op://[A-Za-z0-9_.$\-/\ ]*[A-Za-z0-9_\-])
        "#,
    )
    .ok()
});

/// A reference and where it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `op://VAULT/ITEM/FIELD`.
    pub path: String,
    pub at: Position,
}

/// Why references could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum OpError {
    #[error("op is not signed in: {words}")]
    SignedOut { words: String },
    #[error("1Password does not know `{path}`: {words}")]
    Unknown { path: String, at: Option<Location>, words: String },
    #[error("1Password limits requests: {words}")]
    RateLimited { words: String },
    #[error("{words}")]
    Other { words: String },
}

impl OpError {
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::RateLimited { .. })
    }

    /// The file, line and column of the reference, where it is known.
    pub fn place(&self) -> Option<String> {
        match self {
            Self::Unknown { at, .. } => at.as_ref().map(ToString::to_string),
            _ => None,
        }
    }

    /// The entry of the failure catalogue.
    pub fn code(&self) -> &'static str {
        match self {
            Self::RateLimited { .. } => "O02",
            _ => "O01",
        }
    }

    /// What to do next.
    pub fn next(&self) -> &'static str {
        match self {
            Self::SignedOut { .. } => "sign in with `op signin`, or set OP_SERVICE_ACCOUNT_TOKEN",
            Self::Unknown { .. } => "correct the reference, or create the item: `op item list` shows what there is",
            Self::RateLimited { .. } => "wait; `op service-account ratelimit` tells how long",
            Self::Other { .. } => "try it by hand: `op inject < FILE`",
        }
    }
}

/// Every reference of a template.
pub fn references(template: &str) -> Vec<Reference> {
    let Some(pattern) = REFERENCE.as_ref() else { return Vec::new() };
    let reference = |captures: Captures<'_>| {
        let found = named(&captures)?;
        let before = &template[..found.start()];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Some(Reference { path: found.as_str().to_owned(), at: Position { line, column } })
    };
    pattern.captures_iter(template).filter_map(reference).collect()
}

fn named<'t>(captures: &Captures<'t>) -> Option<regex::Match<'t>> {
    ["braced", "double", "single", "bare"].into_iter().find_map(|name| captures.name(name))
}

/// The template with every reference resolved by the program `op`.
///
/// # Errors
///
/// By who has to act, with op's own words; a reference that 1Password does not know is told with its place.
pub async fn inject(op: &Path, origin: &Origin, template: &str) -> Result<SecretString, OpError> {
    let command = Command::new(op).arg("inject").stdin(template.to_owned().into()).deadline(DEADLINE);
    let output = command.run().await.map_err(|error| match error {
        process::Error::Failed { stderr, .. } => sorted(&stderr, origin, template),
        other => OpError::Other { words: other.to_string() },
    })?;
    String::from_utf8(output.stdout)
        .map(Into::into)
        .map_err(|_| OpError::Other { words: "its answer is no text".into() })
}

/// Sorts op's words (1Password CLI 2.31).
fn sorted(stderr: &str, origin: &Origin, template: &str) -> OpError {
    let words = stderr.trim().lines().last().unwrap_or_default().to_owned();
    let lower = words.to_lowercase();
    if ["not signed in", "not currently signed in", "session expired", "no accounts configured", "authorization"]
        .iter()
        .any(|word| lower.contains(word))
    {
        return OpError::SignedOut { words };
    }
    if lower.contains("rate limit") || lower.contains("too many requests") {
        return OpError::RateLimited { words };
    }
    let blamed = references(template).into_iter().find(|reference| {
        let parts = reference.path.trim_start_matches("op://").split('/');
        words.contains(&reference.path) || parts.clone().skip(1).any(|part| words.contains(&format!("\"{part}\"")))
    });
    match blamed {
        Some(reference) => OpError::Unknown { at: Some(origin.at(reference.at)), path: reference.path, words },
        None => OpError::Other { words },
    }
}

/// The template with a placeholder of the right shape for every reference, for rehearsals.
pub fn placeholders(template: &str) -> String {
    let Some(pattern) = REFERENCE.as_ref() else { return template.to_owned() };
    let mut encoded = false;
    let mut lines = Vec::new();
    for line in template.lines() {
        if let Some(key) = line.trim_start().strip_suffix(':') {
            encoded = key == "data";
        }
        lines.push(pattern.replace_all(line, |captures: &Captures<'_>| {
            let path = named(captures).map_or("", |found| found.as_str());
            let quote = match (captures.name("double"), captures.name("single")) {
                (Some(_), _) => "\"",
                (_, Some(_)) => "'",
                _ => "",
            };
            format!("{quote}{}{quote}", placeholder(path, encoded))
        }));
    }
    lines.join("\n") + "\n"
}

/// `cGxhY2Vob2xkZXI=` is `placeholder` in base64, as values below `data:` have to be.
fn placeholder(path: &str, encoded: bool) -> &'static str {
    let field = path.rsplit('/').next().unwrap_or_default().to_lowercase();
    match field.as_str() {
        _ if encoded => "cGxhY2Vob2xkZXI=",
        field if field.contains("age") => "AGE-SECRET-KEY-1PLACEHOLDERPLACEHOLDERPLACEHOLDERPLACEHOLDERPLACEHOLDER",
        field if field.contains("json") => "{}",
        _ => "placeholder",
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    const TEMPLATE: &str = "stringData:\n  a: op://vault/item/field\n  b: 'op://vault/My Item/age-key'\n  c: |\n    x={{ op://vault/item/c.json }};\ndata:\n  d: \"op://vault/item/d\"\n";

    fn op() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/op")
    }

    #[test]
    fn every_spelling_is_found_with_its_place() {
        let found: Vec<_> = references(TEMPLATE).into_iter().map(|found| (found.path, found.at.line)).collect();
        let expected = [
            ("op://vault/item/field", 2),
            ("op://vault/My Item/age-key", 3),
            ("op://vault/item/c.json", 5),
            ("op://vault/item/d", 7),
        ];
        assert_eq!(found, expected.map(|(path, line)| (path.to_owned(), line)));
    }

    #[test]
    fn placeholders_have_the_shape_of_what_they_stand_for() {
        let text = placeholders(TEMPLATE);
        assert!(!text.contains("op://"), "{text}");
        assert!(text.contains("a: placeholder\n") && text.contains("b: 'AGE-SECRET-KEY-1"), "{text}");
        assert!(text.contains("x={};") && text.contains("d: \"cGxhY2Vob2xkZXI=\""), "{text}");
    }

    #[tokio::test]
    async fn one_process_resolves_every_reference() {
        let template = "a: op://k8s-ops/one/field\nb: 'op://k8s-ops/two/field'\n";
        let text = inject(&op(), &Origin::new("secrets.yaml.tpl"), template).await.unwrap();
        assert_eq!(text.expose_secret(), "a: value-of-one-field\nb: 'value-of-two-field'\n");
    }

    #[tokio::test]
    async fn an_item_that_is_not_there_is_told_with_its_place() {
        let template = "x: 1\ny: op://k8s-ops/no-such-item-x/field\n";
        let error = inject(&op(), &Origin::new("secrets.yaml.tpl"), template).await.unwrap_err();
        assert_eq!(error.place().as_deref(), Some("secrets.yaml.tpl:2:4"));
        assert!(!error.is_retryable());
    }
}
