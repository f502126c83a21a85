//! 1Password Connect against a stand-in that refuses what the real one refuses.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use error_report::ErrorReport;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::{Connect, Error, ErrorKind, ResolvedTemplate};

const TOKEN: &str = "connect-token-of-the-test";
const VAULT: &str = "vaultaaaaaaaaaaaaaaaaaaaa1";
const APP: &str = "itemaaaaaaaaaaaaaaaaaaaaa1";

/// A Connect server with one vault; it counts the calls of each path.
struct StandIn {
    address: SocketAddr,
    calls: Arc<Mutex<Vec<String>>>,
}

impl StandIn {
    /// `busy` are the answers 429 before the first other one, each with this `Retry-After`.
    fn start(mut busy: Vec<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let log = calls.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (path, token) = request(&stream);
                log.lock().unwrap().push(path.clone());
                let (status, more, body) = match busy.pop() {
                    Some(after) => (429, format!("Retry-After: {after}\r\n"), error(429, "rate limit exceeded")),
                    None if token != format!("Bearer {TOKEN}") => {
                        (401, String::new(), error(401, "Invalid token signature"))
                    }
                    None => {
                        let (status, body) = answer(&path);
                        (status, String::new(), body)
                    }
                };
                let head =
                    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n{more}\r\n", body.len());
                let mut stream = stream;
                let _ = stream.write_all((head + &body).as_bytes());
            }
        });
        Self { address, calls }
    }

    async fn fill(&self, token: &str, template: &str) -> Result<ResolvedTemplate, Error> {
        let variables = [("VAULT".to_owned(), "k8s-ops".to_owned())].into();
        Connect::new(&format!("http://{}/", self.address), token.into()).inject(template, &variables).await
    }
}

/// The path of a GET and its `Authorization`.
fn request(stream: &TcpStream) -> (String, String) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let path = first.strip_prefix("GET ").and_then(|rest| rest.strip_suffix(" HTTP/1.1")).unwrap_or("?").to_owned();
    let token = lines.fold(String::new(), |token, line| {
        let (name, value) = line.split_once(": ").unwrap_or(("", ""));
        if name.eq_ignore_ascii_case("authorization") { value.to_owned() } else { token }
    });
    (path, token)
}

fn error(status: u16, message: &str) -> String {
    json!({"status": status, "message": message}).to_string()
}

fn answer(path: &str) -> (u16, String) {
    let (path, filter) = path.split_once("?filter=").map_or((path, None), |(path, filter)| (path, Some(filter)));
    let filter = filter.map(|filter| filter.replace("%20", " ").replace('+', " ").replace("%22", "\""));
    let list = |entries: Vec<Value>| (200, Value::from(entries).to_string());
    let items = format!("/v1/vaults/{VAULT}/items");
    match (path, filter.as_deref()) {
        ("/v1/vaults", Some("name eq \"k8s-ops\"")) => list(vec![json!({"id": VAULT, "name": "k8s-ops"})]),
        ("/v1/vaults", Some(filter)) if filter.starts_with("name eq \"") => list(vec![]),
        (path, None) if path == format!("/v1/vaults/{VAULT}") => (200, json!({"id": VAULT}).to_string()),
        (path, Some("title eq \"app\"")) if path == items => list(vec![json!({"id": APP})]),
        (path, Some("title eq \"twin\"")) if path == items => list(vec![json!({"id": "one"}), json!({"id": "two"})]),
        (path, Some(filter)) if path == items && filter.starts_with("title eq \"") => list(vec![]),
        (path, None) if path == format!("{items}/{APP}") => (200, item().to_string()),
        (path, None) if path == format!("{items}/{APP}/files/f1/content") => (200, "content of the file".to_owned()),
        (_, Some(_)) => (400, error(400, "invalid filter")),
        _ => (404, error(404, "not found")),
    }
}

fn item() -> Value {
    let content = format!("/v1/vaults/{VAULT}/items/{APP}/files/f1/content");
    json!({
        "id": APP, "title": "app", "sections": [{"id": "s1", "label": "Production"}, {"id": "s2", "label": "Test"}],
        "fields": [
            {"id": "password", "type": "CONCEALED", "label": "password", "value": "t0p \"secret\""},
            {"id": "f1", "type": "CONCEALED", "label": "API token", "value": "of-production", "section": {"id": "s1"}},
            {"id": "f2", "type": "CONCEALED", "label": "API token", "value": "of-test", "section": {"id": "s2"}},
            {"id": "f3", "type": "OTP", "label": "one-time", "value": "otpauth://x", "totp": "123456"},
        ],
        "files": [{"id": "f1", "name": "kube.yaml", "content_path": content}],
    })
}

async fn unresolved(template: &str) -> String {
    let error = StandIn::start(vec![]).fill(TOKEN, template).await.unwrap_err();
    error_report::ErrorReport::new(&error).to_string()
}

#[tokio::test]
async fn references_are_resolved_by_name_and_by_id_with_one_request_each() {
    let server = StandIn::start(vec![]);
    let template = format!(
        "a: '{{{{ op://k8s-ops/app/password }}}}'\nb: op://$VAULT/app/production/api token\nc: op://{VAULT}/{APP}/f2\n\
         d: op://${{GONE:-k8s-ops}}/app/one-time?attribute=otp\ne: op://k8s-ops/app/kube.yaml\nshop: shop://no/refe/rence\n"
    );
    let filled = server.fill(TOKEN, &template).await.unwrap();
    insta::assert_snapshot!(filled.text.expose_secret(), @r#"
    a: 't0p "secret"'
    b: of-production
    c: of-test
    d: 123456
    e: content of the file
    shop: shop://no/refe/rence
    "#);
    assert_eq!(filled.values.len(), 5);
    let calls = server.calls.lock().unwrap();
    let counts = calls.iter().fold(BTreeMap::new(), |mut counts, path| {
        *counts.entry(path.clone()).or_insert(0) += 1;
        counts
    });
    // Twice the item: once found by its title, once by its id.
    assert!(counts.values().filter(|count| **count > 1).count() <= 1 && calls.len() == 6, "{counts:?}");
}

#[tokio::test]
async fn an_unresolved_reference_is_named_with_its_position_and_the_reason() {
    for (reference, expected) in [
        ("op://nowhere/app/password", "vault `nowhere` not found, or this token may not read it"),
        ("op://k8s-ops/gone/password", "item `gone` of vault `k8s-ops` not found, or this token may not read it"),
        ("op://k8s-ops/twin/password", "use an id: one, two"),
        ("op://k8s-ops/app/gone", "the item has no field or file `gone`"),
        ("op://k8s-ops/app/API token", "is in several sections of the item"),
        ("op://k8s-ops/app/Staging/API token", "the item has no section `Staging`"),
        ("op://k8s-ops/app/password?attribute=otp", "field `password` of type CONCEALED has no one-time password"),
        ("op://k8s-ops/app/password?ssh-format=openssh", "supported by the program `op` only"),
        ("op://k8s-ops/password", "expected `op://vault/item/[section/]field`"),
        ("op://$GONE/app/password", "the variable GONE is not set"),
    ] {
        let error = unresolved(&format!("ok: 1\nb: {reference}\n")).await;
        assert!(error.contains(&format!("cannot resolve {reference} (line 2, column 4): ")), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_rejected_token_a_rate_limit_and_an_outage_are_different_errors() {
    let error = StandIn::start(vec![]).fill("wrong", "a: op://k8s-ops/app/password\n").await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unauthenticated, false));
    insta::assert_snapshot!(format!("{error}; {}", error.next()), @"1Password Connect rejected the token: Invalid token signature; set OP_CONNECT_TOKEN to a token of this server: `op connect token create`");

    let server = StandIn::start(vec!["0", "0"]);
    let filled = server.fill(TOKEN, "op://k8s-ops/app/password").await.unwrap();
    assert_eq!((filled.text.expose_secret(), server.calls.lock().unwrap().len()), ("t0p \"secret\"", 5));

    let error = StandIn::start(vec!["3600"]).fill(TOKEN, "op://k8s-ops/app/password").await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::RateLimited, true));
    assert!(matches!(error, Error::RateLimited { retry_after: Some(after), .. } if after.as_secs() == 3600));

    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let connect = Connect::new(&format!("http://{closed}"), TOKEN.into());
    let error = connect.inject("op://a/b/c", &BTreeMap::new()).await.unwrap_err();
    assert!(error.is_retryable());
    let report = ErrorReport::new(&error).to_string();
    assert!(report.contains("does not respond") && !report.contains(TOKEN), "{report}");
}

#[test]
fn both_variables_are_needed() {
    let of = |pairs: &[(&str, &str)]| {
        Connect::from_variables(&pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
            .is_some()
    };
    assert!(of(&[("OP_CONNECT_HOST", "http://x"), ("OP_CONNECT_TOKEN", "t")]));
    assert!(!of(&[("OP_CONNECT_HOST", "http://x")]) && !of(&[("OP_CONNECT_HOST", ""), ("OP_CONNECT_TOKEN", "t")]));
}
