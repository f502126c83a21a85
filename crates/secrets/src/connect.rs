//! 1Password Connect: references are resolved by its HTTP API, without the program `op`.
//!
//! Source: 1Password Connect API 1.8. A token is limited to some vaults; names are looked up by filters, and every
//! vault and item is asked for once.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use net::{Authorities, FetchError, FetchLimits, Fetcher, Get};
use retry::policies::CONNECT_RATE_LIMIT;
use retry::{Backoff, Verdict};
use secrecy::SecretString;
use serde_json::Value;

use super::connect_path::{Found, Path};
use super::{ConnectObject, Error, Provider, Reference, UnresolvedReason, op};
use secret_references::replace;

/// The largest response is an item with its fields, or a file in one.
const LIMITS: FetchLimits =
    FetchLimits { connect: Duration::from_secs(5), attempt: Duration::from_secs(30), max_bytes: 16 << 20 };

/// A Connect server and a token for it.
#[derive(Debug, Clone)]
pub struct Connect {
    host: String,
    token: SecretString,
    /// PEM: where given, only these are trusted.
    authorities: Option<String>,
}

/// A template with its references resolved, and each value that was inserted.
#[derive(Debug)]
pub struct ResolvedTemplate {
    pub text: SecretString,
    pub values: Vec<SecretString>,
}

impl Connect {
    pub fn new(host: &str, token: SecretString) -> Self {
        Self { host: host.trim_end_matches('/').to_owned(), token, authorities: None }
    }

    /// The server that `OP_CONNECT_HOST` and `OP_CONNECT_TOKEN` name, when both do; `SSL_CERT_FILE` names the
    /// certificates that are trusted instead of the public ones.
    pub fn from_variables(variables: &BTreeMap<String, String>) -> Option<Self> {
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
    pub async fn inject(
        &self,
        template: &str,
        variables: &BTreeMap<String, String>,
    ) -> Result<ResolvedTemplate, Error> {
        let references = op::references(template);
        let mut session = Session::new(self);
        let mut values = Vec::new();
        for reference in &references {
            values.push(session.resolve(reference, variables).await?);
        }
        let mut next = values.iter();
        let Ok(text) =
            replace(template, &references, |_| Ok::<_, Infallible>(next.next().cloned().unwrap_or_default()));
        Ok(ResolvedTemplate { text: text.into(), values: values.into_iter().map(SecretString::from).collect() })
    }
}

/// One template being filled in.
struct Session<'c> {
    connect: &'c Connect,
    fetcher: Fetcher,
    vaults: BTreeMap<String, String>,
    items: BTreeMap<(String, String), Value>,
    /// Shared by all requests.
    backoff: Backoff,
}

/// Why a lookup has no result.
enum LookupError {
    /// The path does not exist, or this token may not read it; the server's message.
    NotReadable(String),
    Failed(Error),
}

/// Why a reference is not resolved, before its place is known.
enum Stop {
    Unresolved(UnresolvedReason),
    Failed(Error),
}

impl LookupError {
    fn about(self, object: ConnectObject) -> Stop {
        match self {
            Self::NotReadable(message) => Stop::Unresolved(UnresolvedReason::NotReadable { object, message }),
            Self::Failed(error) => Stop::Failed(error),
        }
    }
}

impl From<UnresolvedReason> for Stop {
    fn from(reason: UnresolvedReason) -> Self {
        Self::Unresolved(reason)
    }
}

impl Session<'_> {
    fn new(connect: &Connect) -> Session<'_> {
        let authorities = connect.authorities.as_deref().map_or(Authorities::Public, Authorities::Private);
        let (vaults, items) = (BTreeMap::new(), BTreeMap::new());
        Session {
            connect,
            fetcher: Fetcher::new(LIMITS, authorities),
            vaults,
            items,
            backoff: CONNECT_RATE_LIMIT.backoff(),
        }
    }

    async fn resolve(&mut self, reference: &Reference, variables: &BTreeMap<String, String>) -> Result<String, Error> {
        let value = match Path::parse(&reference.text, variables) {
            Ok(path) => self.value(&path).await,
            Err(reason) => Err(reason.into()),
        };
        value.map_err(|stop| match stop {
            Stop::Unresolved(reason) => Error::Unresolved { reference: reference.clone(), reason },
            Stop::Failed(error) => error,
        })
    }

    async fn value(&mut self, path: &Path) -> Result<String, Stop> {
        let vault = self.vault(&path.vault).await?;
        let item = self.item(&vault, path).await?;
        match path.field(&item)? {
            Found::Value(value) => Ok(value),
            Found::File(place) => {
                let content = self.get(&format!("/{place}"), None).await;
                let content = content.map_err(|error| error.about(ConnectObject::File))?;
                String::from_utf8(content).map_err(|_| UnresolvedReason::BinaryFile.into())
            }
        }
    }

    /// A vault's id.
    async fn vault(&mut self, name: &str) -> Result<String, Stop> {
        if let Some(known) = self.vaults.get(name) {
            return Ok(known.clone());
        }
        let id = if is_id(name) && self.readable(&format!("/v1/vaults/{name}")).await?.is_some() {
            name.to_owned()
        } else {
            let object = ConnectObject::Vault { name: name.to_owned() };
            let found = self.json("/v1/vaults", Some(("name", name))).await;
            only_one(&found.map_err(|error| error.about(object.clone()))?, object)?
        };
        self.vaults.insert(name.to_owned(), id.clone());
        Ok(id)
    }

    async fn item(&mut self, vault: &str, path: &Path) -> Result<Value, Stop> {
        let key = (vault.to_owned(), path.item.clone());
        if let Some(known) = self.items.get(&key) {
            return Ok(known.clone());
        }
        let object = ConnectObject::Item { name: path.item.clone(), vault: path.vault.clone() };
        let items = format!("/v1/vaults/{vault}/items");
        let by_id = if is_id(&path.item) { self.readable(&format!("{items}/{}", path.item)).await? } else { None };
        let item = match by_id {
            Some(item) => item,
            None => {
                let found = self.json(&items, Some(("title", &path.item))).await;
                let vault = ConnectObject::Vault { name: path.vault.clone() };
                let id = only_one(&found.map_err(|error| error.about(vault))?, object.clone())?;
                self.json(&format!("{items}/{id}"), None).await.map_err(|error| error.about(object))?
            }
        };
        self.items.insert(key, item.clone());
        Ok(item)
    }

    /// The JSON at a path, if this token may read it.
    async fn readable(&mut self, path: &str) -> Result<Option<Value>, Stop> {
        match self.json(path, None).await {
            Ok(value) => Ok(Some(value)),
            Err(LookupError::NotReadable(_)) => Ok(None),
            Err(LookupError::Failed(error)) => Err(Stop::Failed(error)),
        }
    }

    async fn json(&mut self, path: &str, filter: Option<(&str, &str)>) -> Result<Value, LookupError> {
        let body = self.get(path, filter).await?;
        // The text may hold a secret, and so may serde's message.
        serde_json::from_slice(&body).map_err(|_| LookupError::Failed(Error::NotJson))
    }

    async fn get(&mut self, path: &str, filter: Option<(&str, &str)>) -> Result<Vec<u8>, LookupError> {
        let mut get = Get::new(format!("{}{path}", self.connect.host)).bearer(self.connect.token.clone());
        if let Some((key, value)) = filter {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"");
            get = get.query("filter", format!("{key} eq \"{value}\""));
        }
        self.fetcher.fetch_with(&get, &mut self.backoff, rate_limit).await.map_err(lookup_error)
    }
}

/// Only a rate limit is retried here; the engine retries the rest.
fn rate_limit(error: &FetchError) -> Verdict {
    match error {
        FetchError::Status { status: 429, retry_after, .. } => retry_after.map_or(Verdict::Retry, Verdict::RetryAfter),
        _ => Verdict::GiveUp,
    }
}

fn lookup_error(error: FetchError) -> LookupError {
    let FetchError::Status { status, retry_after, body, .. } = &error else {
        return LookupError::Failed(Error::Fetch(error));
    };
    let message = message(body);
    LookupError::Failed(match status {
        401 => Error::Token { provider: Provider::Connect, message },
        400 | 403 | 404 => return LookupError::NotReadable(message),
        429 => Error::RateLimited { message, retry_after: *retry_after },
        _ => Error::Connect { message, source: error },
    })
}

/// The server's message in an error's body.
fn message(body: &str) -> String {
    let message = serde_json::from_str::<Value>(body).ok().and_then(|body| Some(body["message"].as_str()?.to_owned()));
    message.unwrap_or_else(|| "no message".to_owned())
}

/// Ids are 26 lower-case letters and digits.
fn is_id(text: &str) -> bool {
    text.len() == 26 && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

/// The id of the only one of a list.
fn only_one(found: &Value, object: ConnectObject) -> Result<String, UnresolvedReason> {
    let ids: Vec<&str> = found.as_array().into_iter().flatten().filter_map(|entry| entry["id"].as_str()).collect();
    match ids[..] {
        [id] => Ok(id.to_owned()),
        [] => Err(UnresolvedReason::NotFound { object }),
        _ => {
            let ids = ids.into_iter().map(str::to_owned).collect();
            Err(UnresolvedReason::Ambiguous { object, ids })
        }
    }
}
