//! The path of a 1Password reference, and what an item of the Connect API has there.

use std::collections::BTreeMap;

use serde_json::Value;

use super::UnresolvedReason;
use secret_references::ONE_PASSWORD_SCHEME;

/// Where a value lies in an item.
pub(super) enum Found {
    Value(String),
    /// The path of a file's content.
    File(String),
}

/// A reference, taken apart.
#[derive(Debug)]
pub(super) struct Path {
    pub(super) vault: String,
    pub(super) item: String,
    section: Option<String>,
    field: String,
    attribute: Option<String>,
}

impl Path {
    pub(super) fn parse(text: &str, variables: &BTreeMap<String, String>) -> Result<Self, UnresolvedReason> {
        let text = expand(&text[ONE_PASSWORD_SCHEME.len()..], variables)?;
        let (path, query) = text.split_once('?').map_or((text.as_str(), None), |(path, query)| (path, Some(query)));
        let attribute = match query.map(|query| query.split_once('=').unwrap_or((query, ""))) {
            None => None,
            Some(("attribute" | "attr", value)) => Some(value.to_owned()),
            Some((key, _)) => return Err(UnresolvedReason::OpOnly(key.to_owned())),
        };
        let parts: Vec<&str> = path.split('/').map(str::trim).collect();
        let (vault, item, section, field) = match parts[..] {
            [vault, item, field] => (vault, item, None, field),
            [vault, item, section, field] => (vault, item, Some(section), field),
            _ => return Err(UnresolvedReason::NotAPath),
        };
        if parts.iter().any(|part| part.is_empty()) {
            return Err(UnresolvedReason::EmptyPart);
        }
        let [vault, item, field] = [vault, item, field].map(str::to_owned);
        Ok(Self { vault, item, section: section.map(str::to_owned), field, attribute })
    }

    /// The value in an item under this path. Sections and fields match by id or label, ignoring case.
    pub(super) fn field(&self, item: &Value) -> Result<Found, UnresolvedReason> {
        let list = |key: &str| item[key].as_array().cloned().unwrap_or_default();
        let is = |entry: &Value, key: &str, name: &str| {
            entry[key].as_str().is_some_and(|own| own.eq_ignore_ascii_case(name))
        };
        let sections: Vec<Value> = match &self.section {
            None => vec![],
            Some(name) => {
                let named: Vec<Value> =
                    list("sections").into_iter().filter(|it| is(it, "id", name) || is(it, "label", name)).collect();
                if named.is_empty() {
                    return Err(UnresolvedReason::NoSection(name.clone()));
                }
                named
            }
        };
        let in_section = |entry: &Value| {
            self.section.is_none() || sections.iter().any(|section| section["id"] == entry["section"]["id"])
        };
        let fields = list("fields");
        let mut found: Vec<&Value> = fields
            .iter()
            .filter(|field| in_section(field) && (is(field, "id", &self.field) || is(field, "label", &self.field)))
            .collect();
        if found.len() > 1 && self.section.is_none() {
            found.retain(|field| field["section"].is_null());
        }
        match found[..] {
            [field] => self.of_field(field),
            [] if fields.iter().any(|field| is(field, "label", &self.field)) && self.section.is_none() => {
                Err(UnresolvedReason::SeveralSections(self.field.clone()))
            }
            [] => {
                let files = list("files");
                let named =
                    |file: &&Value| in_section(file) && (is(file, "id", &self.field) || is(file, "name", &self.field));
                let place = files.iter().find(named).and_then(|file| file["content_path"].as_str());
                place
                    .map(|place| Found::File(place.trim_start_matches('/').to_owned()))
                    .ok_or_else(|| UnresolvedReason::NoField(self.field.clone()))
            }
            _ => Err(UnresolvedReason::SeveralFields(self.field.clone())),
        }
    }

    fn of_field(&self, field: &Value) -> Result<Found, UnresolvedReason> {
        let text = |key: &str| field[key].as_str().map(str::to_owned);
        let value = match self.attribute.as_deref() {
            None | Some("value") => Some(text("value").unwrap_or_default()),
            Some("otp" | "totp") => text("totp"),
            Some(key @ ("type" | "id" | "purpose")) => text(key),
            Some("title") => text("label"),
            Some(other) => return Err(UnresolvedReason::UnknownAttribute(other.to_owned())),
        };
        let kind = text("type").unwrap_or_default();
        value.map(Found::Value).ok_or_else(|| UnresolvedReason::NoOneTimePassword { field: self.field.clone(), kind })
    }
}

/// Puts in the variables of a path: `$NAME`, `${NAME}`, `${NAME:-default}`.
fn expand(path: &str, variables: &BTreeMap<String, String>) -> Result<String, UnresolvedReason> {
    let pattern = lazy_regex::regex!(r"\$\{(?P<braced>\w+)(?::-(?P<default>[^}]*))?\}|\$(?P<bare>\w+)");
    let mut missing = None;
    let expanded = pattern.replace_all(path, |found: &regex::Captures<'_>| {
        let name = found.name("braced").or(found.name("bare")).map_or("", |name| name.as_str());
        let default = found.name("default").map(|default| default.as_str());
        match variables.get(name).map(String::as_str).or(default) {
            Some(value) => value.to_owned(),
            None => {
                missing.get_or_insert_with(|| name.to_owned());
                String::new()
            }
        }
    });
    match missing {
        Some(name) => Err(UnresolvedReason::UnsetVariable(name)),
        None => Ok(expanded.into_owned()),
    }
}
