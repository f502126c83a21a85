//! Secrets inside machine configs: extracted for the administrator's access, replaced in a rehearsal.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::{CertificateAndKey, SecretsBundle};
use talos_schema::Documents;
use yaml::{Diagnostic, Diagnostics, Origin};

/// Extracts the secrets bundle from the config of a control plane.
///
/// # Errors
///
/// All missing secrets, by path. Values are never quoted.
pub(super) fn bundle(origin: &Origin, config: &Documents) -> Result<SecretsBundle, Diagnostics> {
    let mut reader = Reader { origin, config: config.legacy().unwrap_or(&Value::Null), found: Diagnostics::default() };
    let bundle = SecretsBundle {
        cluster_id: reader.text("cluster.id"),
        cluster_secret: reader.text("cluster.secret").into(),
        bootstrap_token: reader.text("cluster.token").into(),
        secretbox_key: reader.optional("cluster.secretboxEncryptionSecret"),
        aescbc_key: reader.optional("cluster.aescbcEncryptionSecret"),
        trustd_token: reader.text("machine.token").into(),
        etcd: reader.pair("cluster.etcd.ca"),
        kubernetes: reader.pair("cluster.ca"),
        aggregator: reader.pair("cluster.aggregatorCA"),
        service_account_key: reader.pem("cluster.serviceAccount.key").into(),
        os: reader.pair("machine.ca"),
    };
    reader.found.into_result(bundle)
}

struct Reader<'r> {
    origin: &'r Origin,
    config: &'r Value,
    found: Diagnostics,
}

fn at<'v>(config: &'v Value, path: &str) -> Option<&'v str> {
    let value = config.pointer(&format!("/{}", path.replace('.', "/")))?;
    value.as_str().filter(|text| !text.is_empty())
}

impl Reader<'_> {
    fn optional(&self, path: &str) -> Option<SecretString> {
        at(self.config, path).map(SecretString::from)
    }

    fn text(&mut self, path: &str) -> String {
        if let Some(text) = at(self.config, path) {
            return text.to_owned();
        }
        let message = format!("{}: the control plane's config has no `{path}`", self.origin);
        self.found.push(
            Diagnostic::general(message).with_hint("add the bundle beside the configs: talsecret.yaml or secrets.yaml"),
        );
        String::new()
    }

    fn pem(&mut self, path: &str) -> String {
        let encoded = self.text(path);
        let decoded = STANDARD.decode(encoded.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        decoded.unwrap_or_else(|| {
            self.found.push(Diagnostic::general(format!("{}: `{path}` is not the base64 of PEM data", self.origin)));
            String::new()
        })
    }

    fn pair(&mut self, path: &str) -> CertificateAndKey {
        let certificate = self.pem(&format!("{path}.crt"));
        CertificateAndKey { certificate, key: self.pem(&format!("{path}.key")).into() }
    }
}

/// Replaces the secrets of a config with those of a bundle. Absent secrets are not added.
pub(super) fn replace(config: &mut Documents, bundle: &SecretsBundle) {
    let Some(index) = config.0.iter().position(|document| document.get("kind").is_none()) else { return };
    let config = &mut config.0[index];
    let key = |key: &SecretString| key.expose_secret().to_owned();
    let mut texts = vec![
        ("cluster.id", bundle.cluster_id.clone()),
        ("cluster.secret", key(&bundle.cluster_secret)),
        ("cluster.token", key(&bundle.bootstrap_token)),
        ("machine.token", key(&bundle.trustd_token)),
        ("cluster.serviceAccount.key", STANDARD.encode(bundle.service_account_key.expose_secret())),
    ];
    texts.extend(bundle.secretbox_key.as_ref().map(|value| ("cluster.secretboxEncryptionSecret", key(value))));
    texts.extend(bundle.aescbc_key.as_ref().map(|value| ("cluster.aescbcEncryptionSecret", key(value))));
    let mut pairs = Vec::new();
    for (path, pair) in [
        ("cluster.etcd.ca", &bundle.etcd),
        ("cluster.ca", &bundle.kubernetes),
        ("cluster.aggregatorCA", &bundle.aggregator),
        ("machine.ca", &bundle.os),
    ] {
        pairs.push((format!("{path}.crt"), STANDARD.encode(&pair.certificate)));
        pairs.push((format!("{path}.key"), STANDARD.encode(pair.key.expose_secret())));
    }
    let texts = texts.into_iter().map(|(path, text)| (path.to_owned(), text));
    for (path, text) in texts.chain(pairs) {
        let pointer = format!("/{}", path.replace('.', "/"));
        if let Some(value) =
            config.pointer_mut(&pointer).filter(|value| value.as_str().is_some_and(|text| !text.is_empty()))
        {
            *value = json!(text);
        }
    }
}
