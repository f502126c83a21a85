//! Reads documents by their schema types.
//!
//! The result is plain data: strings as spelled where the schema expects a string, numbers where it expects a number,
//! null fields omitted. A mismatch is reported with its place and kept unchanged, so that no data is lost.

pub(super) mod duration;
mod encode;
mod raw;
mod scalar;
mod url;

use serde_json::{Map, Value};

use super::schema::{DocumentKind, Scalar, Struct, Type, schema};
use yaml::{Diagnostic, Diagnostics, Location, near};

pub use encode::encode;
pub(super) use encode::is_zero;
pub(super) use raw::{RawContent, RawEntry, RawValue};
pub(super) use scalar::size;
pub use url::Url;

/// What to do with a document of a kind that the schema does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnknownKinds {
    /// Report it, as Talos rejects it.
    Reject,
    /// Keep it unchanged.
    Pass,
}

/// Keys by which Talos recognizes the legacy document.
const LEGACY_KEYS: [&str; 4] = ["machine", "cluster", "debug", "persist"];

/// The name of a document in messages: `BondConfig bond0`; empty for the legacy document.
pub(super) fn title(written: &RawValue) -> String {
    let text = |key: &str| written.get(key).and_then(RawValue::text).unwrap_or_default();
    format!("{} {}", text("kind"), if text("kind").is_empty() { "" } else { text("name") }).trim().to_owned()
}

/// The schema of a document; `None` when its kind is unknown.
///
/// # Errors
///
/// The document lacks fields by which Talos recognizes it.
pub(super) fn kind_of(written: &RawValue) -> Result<Option<&'static DocumentKind>, Box<Diagnostic>> {
    let text = |key: &str| written.get(key).and_then(RawValue::text).filter(|text| !text.is_empty());
    let fail = |message: String| Err(Box::new(diagnostic(written.at.as_ref(), message)));
    let legacy = text("apiVersion") == Some("v1alpha1") || LEGACY_KEYS.iter().any(|key| written.get(key).is_some());
    match (text("kind"), text("apiVersion")) {
        (None, _) if legacy => Ok(schema().kind(None)),
        (None, _) => fail("this document has neither `kind` nor `machine` or `cluster`".to_owned()),
        (Some(kind), None) => fail(format!("the {kind} document has no `apiVersion`")),
        (Some(kind), Some("v1alpha1")) => Ok(schema().kind(Some(kind))),
        (Some(_), Some(_)) => Ok(None),
    }
}

/// Reads a document.
pub(super) fn document(written: &RawValue, unknown: UnknownKinds, found: &mut Diagnostics) -> Value {
    let RawContent::Map(entries) = &written.content else {
        found.push(diagnostic(
            written.at.as_ref(),
            format!("a document must be a mapping, this is {}", written.describe()),
        ));
        return written.to_json();
    };
    let mut typing = Typing { title: title(written), path: vec![], found };
    match kind_of(written) {
        Err(problem) => typing.found.push(*problem),
        Ok(None) if unknown == UnknownKinds::Reject => {
            let kind = written.get("kind").and_then(RawValue::text).unwrap_or_default();
            let version = written.get("apiVersion").and_then(RawValue::text).unwrap_or_default();
            let at = written.get("kind").and_then(|kind| kind.at.as_ref());
            let message = format!("unknown document kind `{kind}` in `{version}`");
            typing.found.push(diagnostic(at, message).did_you_mean(near(kind, schema().kinds())));
        }
        Ok(None) => {}
        Ok(Some(kind)) => return typing.body(&kind.body, entries),
    }
    written.to_json()
}

fn diagnostic(at: Option<&Location>, message: String) -> Diagnostic {
    match at {
        Some(at) => Diagnostic::at_location(at.clone(), message),
        None => Diagnostic::general(message),
    }
}

struct Typing<'f> {
    title: String,
    path: Vec<String>,
    found: &'f mut Diagnostics,
}

impl Typing<'_> {
    /// All documents but the legacy one have `apiVersion` and `kind` besides the fields of the schema.
    fn body(&mut self, body: &Struct, entries: &[RawEntry]) -> Value {
        let (meta, fields): (Vec<&RawEntry>, Vec<&RawEntry>) = entries
            .iter()
            .partition(|entry| body.field(&entry.key).is_none() && matches!(entry.key.as_str(), "apiVersion" | "kind"));
        let legacy = schema().kind(None).is_some_and(|kind| std::ptr::eq(&raw const kind.body, body));
        let mut document = Map::new();
        for entry in meta {
            if legacy {
                self.unknown(entry, body);
            }
            document.insert(entry.key.clone(), entry.value.to_json());
        }
        document.append(&mut self.fields(body, fields));
        Value::Object(document)
    }

    fn fields<'e>(&mut self, body: &Struct, entries: impl IntoIterator<Item = &'e RawEntry>) -> Map<String, Value> {
        let mut fields = Map::new();
        for entry in entries {
            let Some(field) = body.field(&entry.key) else {
                self.unknown(entry, body);
                fields.insert(entry.key.clone(), entry.value.to_json());
                continue;
            };
            self.path.push(entry.key.clone());
            if let Some(value) = self.value(&field.value_type, &entry.value) {
                fields.insert(entry.key.clone(), value);
            }
            self.path.pop();
        }
        fields
    }

    /// The typed value; `None` for null.
    fn value(&mut self, value_type: &Type, written: &RawValue) -> Option<Value> {
        if matches!(written.content, RawContent::Null) {
            return None;
        }
        Some(match (value_type, &written.content) {
            (Type::Optional(value_type), _) => return self.value(value_type, written),
            (Type::Scalar(kind), RawContent::Scalar { resolved, spelled }) => {
                match scalar::read(*kind, resolved, spelled) {
                    Ok(value) => value,
                    Err(scalar::Expected(expected)) => self.mismatch(written, &expected),
                }
            }
            (Type::Enum(values), RawContent::Scalar { spelled, .. }) => {
                match values.iter().find(|value| value.eq_ignore_ascii_case(spelled) && **value != "-") {
                    Some(value) => Value::String((*value).to_owned()),
                    None => self.mismatch(written, &format!("one of {}", values.join(", "))),
                }
            }
            (Type::List(value_type, _), RawContent::List(items)) => Value::Array(
                items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| self.element(format!("[{index}]"), value_type, item))
                    .collect(),
            ),
            (Type::Map(value_type), RawContent::Map(entries)) => {
                self.reject_directive(entries);
                let values = entries
                    .iter()
                    .map(|entry| (entry.key.clone(), self.element(entry.key.clone(), value_type, &entry.value)));
                Value::Object(values.collect())
            }
            (Type::Struct(index), RawContent::Map(entries)) => {
                Value::Object(self.fields(schema().struct_type(*index), entries))
            }
            (Type::Free, RawContent::Map(_)) => {
                self.reject_nested_directives(written);
                written.to_json()
            }
            (Type::Arguments, RawContent::Map(entries)) => {
                self.reject_directive(entries);
                Value::Object(entries.iter().map(|entry| (entry.key.clone(), self.argument(entry))).collect())
            }
            (value_type, _) => self.mismatch(written, expected(value_type)),
        })
    }

    /// An element of a list or a map, where null is the zero value.
    fn element(&mut self, step: String, value_type: &Type, written: &RawValue) -> Value {
        self.path.push(step);
        let value = self.value(value_type, written).unwrap_or_else(|| encode::zero(value_type));
        self.path.pop();
        value
    }

    fn argument(&mut self, entry: &RawEntry) -> Value {
        let text = |written: &RawValue| match &written.content {
            RawContent::Null => Some(String::new()),
            RawContent::Scalar { spelled, .. } => Some(spelled.clone()),
            RawContent::List(_) | RawContent::Map(_) => None,
        };
        let value = match &entry.value.content {
            RawContent::List(items) => items.iter().map(|item| text(item).map(Value::String)).collect::<Option<_>>(),
            _ => text(&entry.value).map(Value::String),
        };
        value.unwrap_or_else(|| {
            self.path.push(entry.key.clone());
            let value = self.mismatch(&entry.value, "a string or a list of strings");
            self.path.pop();
            value
        })
    }

    fn unknown(&mut self, entry: &RawEntry, body: &Struct) {
        self.path.push(entry.key.clone());
        let message = format!("{}unknown field `{}`", self.prefix(), self.path());
        self.path.pop();
        let diagnostic = diagnostic(entry.at.as_ref(), message);
        self.found.push(if entry.key == DIRECTIVE {
            diagnostic.with_hint("`$patch: delete` is the only directive that Talos supports")
        } else {
            diagnostic.did_you_mean(near(&entry.key, body.fields.iter().map(|field| field.name)))
        });
    }

    /// In a map with arbitrary keys, an unknown directive would become an entry.
    fn reject_directive(&mut self, entries: &[RawEntry]) {
        for entry in entries.iter().filter(|entry| entry.key == DIRECTIVE) {
            let message = format!("{}`{}` in `{}` would become an entry", self.prefix(), DIRECTIVE, self.path());
            self.found.push(
                diagnostic(entry.at.as_ref(), message)
                    .with_hint("`$patch: delete` is the only directive that Talos supports"),
            );
        }
    }

    /// The same at every depth of a value without a schema.
    fn reject_nested_directives(&mut self, written: &RawValue) {
        match &written.content {
            RawContent::Map(entries) => {
                self.reject_directive(entries);
                for entry in entries {
                    self.path.push(entry.key.clone());
                    self.reject_nested_directives(&entry.value);
                    self.path.pop();
                }
            }
            RawContent::List(items) => items.iter().for_each(|item| self.reject_nested_directives(item)),
            RawContent::Null | RawContent::Scalar { .. } => {}
        }
    }

    fn mismatch(&mut self, written: &RawValue, expected: &str) -> Value {
        let message = format!("{}`{}` must be {expected}, this is {}", self.prefix(), self.path(), written.describe());
        let mut finding = diagnostic(written.at.as_ref(), message);
        let text = written.to_json();
        if let Some((scheme, _)) = text.as_str().and_then(|text| text.split_once("://"))
            && !scheme.is_empty()
            && scheme.chars().all(|c| c.is_ascii_alphanumeric())
        {
            finding = finding.with_hint(format!(
                "if it is a secret reference, configure secrets.sources.{scheme} in k8s-bootstrap.yaml"
            ));
        }
        self.found.push(finding);
        text
    }

    fn prefix(&self) -> String {
        if self.title.is_empty() { String::new() } else { format!("{}: ", self.title) }
    }

    fn path(&self) -> String {
        self.path.join(".").replace(".[", "[")
    }
}

/// The key of patch directives.
pub(super) const DIRECTIVE: &str = "$patch";

fn expected(value_type: &Type) -> &'static str {
    match value_type {
        Type::List(..) => "a list",
        Type::Scalar(Scalar::Bool) => "true or false",
        Type::Scalar(Scalar::Integer(..) | Scalar::Mode) => "a number",
        Type::Scalar(_) | Type::Enum(_) => "a string",
        Type::Map(_) | Type::Struct(_) | Type::Arguments | Type::Free | Type::Optional(_) => "a mapping",
    }
}
