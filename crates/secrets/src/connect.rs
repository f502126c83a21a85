//! 1Password Connect: references are resolved by its HTTP API, without the program `op`.
//!
//! Source: 1Password Connect API 1.8. A token is limited to some vaults; names are looked up by filters, and every
//! vault and item is asked for once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use regex::Regex;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use ureq::http::Response;

use super::reference::replace;
use super::{Error, Reference, op};

const PROVIDER: &str = "1Password Connect";
const CONNECT: Duration = Duration::from_secs(5);
const PROVIDERLE: Duration = Duration::from_secs(30);
/// An item with its fields; a file in one.
const LARGEST: u64 = 16 << 20;
/// How long all pauses together may last before the rate limit is an error (O02).
const BUDGET: Duration = Duration::from_mins(1);
/// The pause where the server sends no `Retry-After`.
const PAUSE: Duration = Duration::from_secs(5);

/// A Connect server and a token for it.
#[derive(Debug, Clone)]
pub struct Connect {
    host: String,
    token: SecretString,
    /// PEM: where given, only these are trusted.
    authorities: Option<String>,
}

/// A filled-in template, with each value that was inserted.
#[derive(Debug)]
pub struct Filled {
    pub text: SecretString,
    pub values: Vec<SecretString>,
}

impl Connect {
    pub fn new(host: &str, token: SecretString) -> Self {
        Self { host: host.trim_end_matches('/').to_owned(), token, authorities: None }
    }

    /// The server that `OP_CONNECT_HOST` and `OP_CONNECT_TOKEN` name, when both do; `SSL_CERT_FILE` names the
    /// certificates that are trusted instead of the public ones.
    pub fn of(variables: &BTreeMap<String, String>) -> Option<Self> {
        let named = |name: &str| variables.get(name).filter(|value| !value.is_empty());
        let found = Self::new(named("OP_CONNECT_HOST")?, named("OP_CONNECT_TOKEN")?.as_str().into());
        Some(Self { authorities: named("SSL_CERT_FILE").and_then(|path| std::fs::read_to_string(path).ok()), ..found })
    }

    pub(super) fn token(&self) -> &SecretString {
        &self.token
    }

    /// Fills in every 1Password reference of a template; `variables` are those that paths may name.
    ///
    /// # Errors
    ///
    /// The first reference that cannot be resolved, with its position; a server that refuses or does not respond.
    pub async fn inject(&self, template: &str, variables: &BTreeMap<String, String>) -> Result<Filled, Error> {
        let (connect, template, variables) = (self.clone(), template.to_owned(), variables.clone());
        let work = move || {
            let mut session = Session::new(&connect);
            let mut values = Vec::new();
            let filled = replace(&template, &op::references(&template), |reference| {
                let value = session.resolve(reference, &variables)?;
                values.push(value.clone().into());
                Ok::<_, Error>(value)
            })?;
            Ok(Filled { text: filled.into(), values })
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| Error::Failed(error.to_string()))?
    }
}

/// One template being filled in.
struct Session<'c> {
    connect: &'c Connect,
    agent: ureq::Agent,
    vaults: BTreeMap<String, String>,
    items: BTreeMap<(String, String), Value>,
    /// How long further pauses may last.
    budget: Duration,
}

/// Why a path has no value: it does not exist, or the server could not be asked.
enum Stop {
    NotFound(String),
    Error(Error),
}

impl Session<'_> {
    fn new(connect: &Connect) -> Session<'_> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ureq::tls::TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
        let tls = match connect.authorities.as_deref().map(certificates) {
            Some(roots) => tls.root_certs(ureq::tls::RootCerts::new_with_certs(&roots)),
            None => tls,
        };
        let agent = ureq::Agent::config_builder()
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(PROVIDERLE))
            .http_status_as_error(false)
            .tls_config(tls.build())
            .build();
        let (vaults, items) = (BTreeMap::new(), BTreeMap::new());
        Session { connect, agent: agent.into(), vaults, items, budget: BUDGET }
    }

    fn resolve(&mut self, reference: &Reference, variables: &BTreeMap<String, String>) -> Result<String, Error> {
        let value = Path::parse(&reference.text, variables).map_err(Stop::NotFound).and_then(|path| self.value(&path));
        value.map_err(|stop| match stop {
            Stop::NotFound(reason) => Error::Unresolved { reference: reference.clone(), reason },
            Stop::Error(error) => error,
        })
    }

    fn value(&mut self, path: &Path) -> Result<String, Stop> {
        let vault = self.vault(&path.vault)?;
        let item = self.item(&vault, path)?;
        match path.field(&item).map_err(Stop::NotFound)? {
            Found::Value(value) => Ok(value),
            Found::File(place) => {
                self.get(&format!("/{place}"), None)?.map_err(|message| nothing("the file", &message))
            }
        }
    }

    /// A vault's id.
    fn vault(&mut self, name: &str) -> Result<String, Stop> {
        if let Some(known) = self.vaults.get(name) {
            return Ok(known.clone());
        }
        let id = if is_id(name) && self.json(&format!("/v1/vaults/{name}"), None)?.is_ok() {
            name.to_owned()
        } else {
            let found = self.json("/v1/vaults", Some(("name", name)))?;
            only_one(&found.map_err(|message| nothing("the vault", &message))?, &format!("vault `{name}`"))
                .map_err(Stop::NotFound)?
        };
        self.vaults.insert(name.to_owned(), id.clone());
        Ok(id)
    }

    fn item(&mut self, vault: &str, path: &Path) -> Result<Value, Stop> {
        let key = (vault.to_owned(), path.item.clone());
        if let Some(known) = self.items.get(&key) {
            return Ok(known.clone());
        }
        let items = format!("/v1/vaults/{vault}/items");
        let by_id = if is_id(&path.item) { self.json(&format!("{items}/{}", path.item), None)?.ok() } else { None };
        let item = match by_id {
            Some(item) => item,
            None => {
                let found = self.json(&items, Some(("title", &path.item)))?;
                let found = found.map_err(|message| nothing("the vault", &message))?;
                let subject = format!("item `{}` of vault `{}`", path.item, path.vault);
                let id = only_one(&found, &subject).map_err(Stop::NotFound)?;
                self.json(&format!("{items}/{id}"), None)?.map_err(|message| nothing("the item", &message))?
            }
        };
        self.items.insert(key, item.clone());
        Ok(item)
    }

    /// The JSON at a path; or the server's message where this token may not read it.
    fn json(&mut self, path: &str, filter: Option<(&str, &str)>) -> Result<Result<Value, String>, Stop> {
        let text = self.get(path, filter)?;
        Ok(match text.map(|text| serde_json::from_str(&text)) {
            Ok(Ok(value)) => Ok(value),
            // The text may hold a secret.
            Ok(Err(_)) => {
                return Err(Stop::Error(Error::Unreachable(format!("{PROVIDER} did not return valid JSON"))));
            }
            Err(message) => Err(message),
        })
    }

    fn get(&mut self, path: &str, filter: Option<(&str, &str)>) -> Result<Result<String, String>, Stop> {
        loop {
            let mut answer = self.ask(path, filter)?;
            let text = answer.body_mut().with_config().limit(LARGEST).read_to_string();
            let text = text.map_err(|error| Stop::Error(self.unreachable(&error)))?;
            match answer.status().as_u16() {
                200 => return Ok(Ok(text)),
                401 => return Err(Stop::Error(Error::Token { provider: PROVIDER, message: message(&text) })),
                400 | 403 | 404 => return Ok(Err(message(&text))),
                429 => self.pause(&answer, &text)?,
                status => {
                    let message = format!("{PROVIDER} at {} returned {status}: {}", self.connect.host, message(&text));
                    return Err(Stop::Error(Error::Unreachable(message)));
                }
            }
        }
    }

    fn ask(&self, path: &str, filter: Option<(&str, &str)>) -> Result<Response<ureq::Body>, Stop> {
        let mut request = self.agent.get(format!("{}{path}", self.connect.host));
        if let Some((key, value)) = filter {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"");
            request = request.query("filter", format!("{key} eq \"{value}\""));
        }
        let token = format!("Bearer {}", self.connect.token.expose_secret());
        request.header("Authorization", token).call().map_err(|error| Stop::Error(self.unreachable(&error)))
    }

    fn unreachable(&self, error: &ureq::Error) -> Error {
        Error::Unreachable(format!("{PROVIDER} at {} does not respond: {error}", self.connect.host))
    }

    /// Waits as long as the server asks, while the budget lasts.
    fn pause(&mut self, answer: &Response<ureq::Body>, text: &str) -> Result<(), Stop> {
        let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let pause = after.map_or(PAUSE, Duration::from_secs);
        let Some(left) = self.budget.checked_sub(pause) else {
            return Err(Stop::Error(Error::RateLimited { message: message(text), after: Some(pause) }));
        };
        let began = Instant::now();
        std::thread::sleep(pause);
        self.budget = left.saturating_sub(began.elapsed().saturating_sub(pause));
        Ok(())
    }
}

fn certificates(pem: &str) -> Vec<ureq::tls::Certificate<'static>> {
    let blocks = pem::parse_many(pem).unwrap_or_default();
    blocks.iter().map(|block| ureq::tls::Certificate::from_der(block.contents()).to_owned()).collect()
}

fn nothing(what: &str, message: &str) -> Stop {
    Stop::NotFound(format!("{PROVIDER} does not let this token read {what}: {message}"))
}

/// The server's message in an error's body.
fn message(text: &str) -> String {
    let message = serde_json::from_str::<Value>(text).ok().and_then(|body| Some(body["message"].as_str()?.to_owned()));
    message.unwrap_or_else(|| "no message".to_owned())
}

/// Ids are 26 lower-case letters and digits.
fn is_id(text: &str) -> bool {
    text.len() == 26 && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

/// The id of the only one of a list.
fn only_one(found: &Value, subject: &str) -> Result<String, String> {
    let ids: Vec<&str> = found.as_array().into_iter().flatten().filter_map(|entry| entry["id"].as_str()).collect();
    match ids[..] {
        [id] => Ok(id.to_owned()),
        [] => Err(format!("{subject} not found, or this token may not read it")),
        _ => Err(format!("more than one match for {subject}; use an id: {}", ids.join(", "))),
    }
}

/// Where a value lies in an item.
enum Found {
    Value(String),
    /// The path of a file's content.
    File(String),
}

/// A reference, taken apart.
#[derive(Debug)]
struct Path {
    vault: String,
    item: String,
    section: Option<String>,
    field: String,
    attribute: Option<String>,
}

impl Path {
    fn parse(text: &str, variables: &BTreeMap<String, String>) -> Result<Self, String> {
        let text = expand(&text[op::SCHEME.len()..], variables)?;
        let (path, query) = text.split_once('?').map_or((text.as_str(), None), |(path, query)| (path, Some(query)));
        let attribute = match query.map(|query| query.split_once('=').unwrap_or((query, ""))) {
            None => None,
            Some(("attribute" | "attr", value)) => Some(value.to_owned()),
            Some((key, _)) => return Err(format!("`{key}` is supported by the program `op` only, not by {PROVIDER}")),
        };
        let parts: Vec<&str> = path.split('/').map(str::trim).collect();
        let (vault, item, section, field) = match parts[..] {
            [vault, item, field] => (vault, item, None, field),
            [vault, item, section, field] => (vault, item, Some(section), field),
            _ => return Err("expected `op://vault/item/[section/]field`".to_owned()),
        };
        if parts.iter().any(|part| part.is_empty()) {
            return Err("a part of the path is empty".to_owned());
        }
        let [vault, item, field] = [vault, item, field].map(str::to_owned);
        Ok(Self { vault, item, section: section.map(str::to_owned), field, attribute })
    }

    /// The value in an item under this path. Sections and fields match by id or label, ignoring case.
    fn field(&self, item: &Value) -> Result<Found, String> {
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
                    return Err(format!("the item has no section `{name}`"));
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
            [] if fields.iter().any(|field| is(field, "label", &self.field)) && self.section.is_none() => Err(format!(
                "`{}` is in several sections of the item; use one of: op://vault/item/section/field",
                self.field
            )),
            [] => {
                let files = list("files");
                let named =
                    |file: &&Value| in_section(file) && (is(file, "id", &self.field) || is(file, "name", &self.field));
                let place = files.iter().find(named).and_then(|file| file["content_path"].as_str());
                place
                    .map(|place| Found::File(place.trim_start_matches('/').to_owned()))
                    .ok_or_else(|| format!("the item has no field or file `{}`", self.field))
            }
            _ => Err(format!("the item has several fields `{}`; use an id", self.field)),
        }
    }

    fn of_field(&self, field: &Value) -> Result<Found, String> {
        let text = |key: &str| field[key].as_str().map(str::to_owned);
        let value = match self.attribute.as_deref() {
            None | Some("value") => Some(text("value").unwrap_or_default()),
            Some("otp" | "totp") => text("totp"),
            Some(key @ ("type" | "id" | "purpose")) => text(key),
            Some("title") => text("label"),
            Some(other) => return Err(format!("unknown attribute `{other}`")),
        };
        let kind = text("type").unwrap_or_default();
        value.map(Found::Value).ok_or_else(|| format!("field `{}` of type {kind} has no one-time password", self.field))
    }
}

/// Puts in the variables of a path: `$NAME`, `${NAME}`, `${NAME:-default}`.
fn expand(path: &str, variables: &BTreeMap<String, String>) -> Result<String, String> {
    let pattern = r"\$\{(?P<braced>\w+)(?::-(?P<default>[^}]*))?\}|\$(?P<bare>\w+)";
    let Ok(pattern) = Regex::new(pattern) else { return Ok(path.to_owned()) };
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
        Some(name) => Err(format!("the variable {name} is not set")),
        None => Ok(expanded.into_owned()),
    }
}
