//! Patches of machine configs: strategic merge patches and JSON patches, told apart as Talos does.
//!
//! A patch is read once, with everything that is wrong with it found at its place, and applied to as many configs as
//! there are nodes.

mod delete;
mod json6902;
#[cfg(test)]
mod tests;

use serde_json::Value;

use self::delete::{Deletion, Rest, located};
use self::json6902::Operations;
use super::container::conflict;
use super::document::{Documents, is_legacy};
use super::merge::{Clash, merge_document};
use super::schema::schema;
use super::typed;
use super::typed::{UnknownKinds, Written, encode};
use yaml::{Diagnostic, Diagnostics, Location, Origin};

/// Why a patch does not apply, every reason with its place where there is one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct MergeError(#[from] pub Diagnostics);

impl From<Diagnostic> for MergeError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(diagnostic.into())
    }
}

/// A patch that is ready to be applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Patch {
    origin: Origin,
    content: Content,
}

#[derive(Debug, Clone, PartialEq)]
enum Content {
    /// No document at all: a file of comments.
    Empty,
    Strategic(Vec<Change>),
    Json(Operations),
}

/// What one document of a strategic patch does to the document of its kind and name.
#[derive(Debug, Clone, PartialEq)]
enum Change {
    DeleteDocument(Target),
    Delete(Target, Deletion),
    Merge(Target, Value),
}

/// The document that a change is about.
#[derive(Debug, Clone, PartialEq)]
struct Target {
    at: Option<Location>,
    api_version: String,
    kind: String,
    /// Empty for kinds that have no name.
    name: String,
}

impl Patch {
    /// Reads a patch as Talos reads it: a strategic merge patch if it is one, else a JSON patch in JSON or YAML.
    ///
    /// # Errors
    ///
    /// Everything that Talos would refuse whatever the patch is applied to.
    pub fn parse(origin: &Origin, text: &str) -> Result<Self, Diagnostics> {
        let written = Written::parse(origin, text)?;
        let content = match written.as_slice() {
            [] => Content::Empty,
            [only] if matches!(only.content, typed::Content::List(_)) => match Operations::of(&only.to_json()) {
                Some(operations) => Content::Json(operations),
                None => {
                    let message = "a patch that is a list holds JSON patch operations, each a mapping with `op`";
                    return Err(located(only.at.as_ref(), message.to_owned()).into());
                }
            },
            _ => {
                let mut found = repeats(&written);
                let changes = changes(written, UnknownKinds::Refuse, &mut found);
                Content::Strategic(found.into_result(changes)?)
            }
        };
        Ok(Self { origin: origin.clone(), content })
    }

    /// The file that an argument names, as talosctl takes arguments: `@FILE`, or a name that can be no patch.
    pub fn file(argument: &str) -> Option<&str> {
        let inline = argument.contains(['\n', ' ']) || argument.starts_with(['[', '{']);
        argument.strip_prefix('@').or((!inline).then_some(argument))
    }

    /// A patch that changes nothing, since it holds no document.
    pub fn is_empty(&self) -> bool {
        self.content == Content::Empty
    }

    /// Where the patch came from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The config with the patch applied.
    ///
    /// # Errors
    ///
    /// Why it does not apply. Neither is changed then.
    pub fn apply(&self, config: &Documents) -> Result<Documents, MergeError> {
        match &self.content {
            Content::Empty => Ok(config.clone()),
            Content::Strategic(changes) => apply(config, changes),
            Content::Json(operations) => {
                let [document] = config.0.as_slice() else {
                    let message = format!("{}: a JSON patch only applies to a config of one document", self.origin);
                    return Err(Diagnostic::general(message)
                        .with_hint("write it as a merge patch: the fields as they stand in the config")
                        .into());
                };
                let patched =
                    operations.apply(document).map_err(|why| Diagnostic::general(format!("{}: {why}", self.origin)))?;
                checked(&self.origin, &patched)?;
                Ok(Documents(vec![patched]))
            }
        }
    }
}

/// Talos up to 1.13 refuses a document that a patch names twice; later ones merge one into the other.
fn repeats(documents: &[Written]) -> Diagnostics {
    let mut found = Diagnostics::default();
    let mut seen: Vec<Target> = Vec::new();
    for written in documents {
        if delete::is_deleted(written) || typed::kind_of(written).is_err() {
            continue;
        }
        let target = Target::of(written);
        if let Some(first) = seen.iter().find(|first| first.names_what(&target)) {
            let place = first.at.as_ref().map_or_else(String::new, |at| format!(", first at {at}"));
            let title = if target.kind.is_empty() { "the legacy document".to_owned() } else { target.title() };
            found.push(located(target.at.as_ref(), format!("the patch has {title} a second time{place}")));
        }
        seen.push(target);
    }
    found
}

/// Talos would only notice at the next patch, or on the node.
fn checked(origin: &Origin, patched: &Value) -> Result<(), Diagnostics> {
    let mut found = Diagnostics::default();
    typed::document(&Written::from(patched), UnknownKinds::Refuse, &mut found);
    let mut all = Diagnostics::default();
    all.extend(found.into_iter().map(|diagnostic| Diagnostic {
        message: format!("{origin}: the patched config is none of Talos's: {}", diagnostic.message),
        ..diagnostic
    }));
    all.into_result(())
}

/// Merges the strategic patch `patch` into `config`. Documents of kinds that are not known here merge as data.
///
/// # Errors
///
/// Why it does not apply.
pub fn merge(config: &Documents, patch: &Documents) -> Result<Documents, MergeError> {
    let mut found = Diagnostics::default();
    let changes = changes(patch.0.iter().map(Written::from).collect(), UnknownKinds::Pass, &mut found);
    apply(config, &found.into_result(changes)?)
}

fn changes(documents: Vec<Written>, unknown: UnknownKinds, found: &mut Diagnostics) -> Vec<Change> {
    let mut changes = Vec::new();
    for written in documents {
        let target = Target::of(&written);
        let (rest, deletions) = match delete::extract(written) {
            Ok(parts) => parts,
            Err(diagnostic) => {
                found.push(diagnostic);
                continue;
            }
        };
        changes.extend(deletions.into_iter().map(|deletion| Change::Delete(target.clone(), deletion)));
        match rest {
            Rest::Document if target.kind.is_empty() || target.api_version.is_empty() => found.push(located(
                target.at.as_ref(),
                "a document to delete is named by `apiVersion` and `kind`; the legacy document cannot be deleted"
                    .to_owned(),
            )),
            Rest::Document => changes.push(Change::DeleteDocument(target)),
            Rest::Nothing => {}
            Rest::Written(written) => {
                let value = typed::document(&written, unknown, found);
                changes.push(Change::Merge(target, value));
            }
        }
    }
    changes
}

fn apply(config: &Documents, changes: &[Change]) -> Result<Documents, MergeError> {
    let mut found = Diagnostics::default();
    let mut documents: Vec<Value> = Vec::new();
    for document in &config.0 {
        documents.push(typed::document(&Written::from(document), UnknownKinds::Pass, &mut found));
    }
    found.into_result(())?;
    for change in changes {
        match change {
            Change::DeleteDocument(target) => documents.retain(|document| !target.is(document)),
            Change::Delete(target, deletion) => {
                // Deleting from a document that is not there deletes nothing, as in Talos from 1.14 on.
                if let Some(document) = documents.iter_mut().find(|document| target.is(document)) {
                    deletion.apply(&target.title(), document)?;
                }
            }
            Change::Merge(target, patch) => match documents.iter_mut().find(|document| target.is(document)) {
                Some(document) => merge_document(document, patch).map_err(|clash| target.clash(&clash))?,
                None => documents.push(patch.clone()),
            },
        }
    }
    if let Some(conflict) = conflict(&documents) {
        return Err(Diagnostic::general(conflict).into());
    }
    let (legacy, others): (Vec<Value>, Vec<Value>) = documents.iter().map(encode).partition(is_legacy);
    Ok(Documents(legacy.into_iter().chain(others).collect()))
}

impl Target {
    fn of(written: &Written) -> Self {
        let text = |key: &str| written.get(key).and_then(Written::text).unwrap_or_default().to_owned();
        let named = schema().kind(written.get("kind").and_then(Written::text)).is_none_or(|kind| kind.named);
        let name = if named && written.get("kind").is_some() { text("name") } else { String::new() };
        Self { at: written.at.clone(), api_version: text("apiVersion"), kind: text("kind"), name }
    }

    fn is(&self, document: &Value) -> bool {
        self.names_what(&Self::of(&Written::from(document)))
    }

    fn names_what(&self, other: &Self) -> bool {
        (&self.api_version, &self.kind, &self.name) == (&other.api_version, &other.kind, &other.name)
    }

    fn title(&self) -> String {
        format!("{} {}", self.kind, self.name).trim().to_owned()
    }

    fn clash(&self, clash: &Clash) -> Diagnostic {
        let title = self.title();
        let prefix = if title.is_empty() { String::new() } else { format!("{title}: ") };
        let path = clash.path().join(".").replace(".[", "[");
        located(self.at.as_ref(), format!("{prefix}`{path}` {}", clash.message()))
    }
}
