//! The secrets bundle of a cluster: `secrets.yaml` of talosctl, `talsecret.yaml` of talhelper.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use jiff::Timestamp;
use rand::Rng;
use rand::distr::slice::Choose;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::pki;
use super::pki::{CertificateError, KeyKind};
use talos_schema::Contract;
use yaml::{Diagnostics, Fields, Node, Origin};

/// Certificate and private key of a CA, both PEM-encoded.
#[derive(Debug, Clone)]
pub struct CertificateAndKey {
    pub certificate: String,
    pub key: SecretString,
}

/// The secrets that all machine configs of a cluster share (Talos 1.12, `talosctl gen secrets`).
#[derive(Debug, Clone)]
pub struct SecretsBundle {
    pub cluster_id: String,
    pub cluster_secret: SecretString,
    pub bootstrap_token: SecretString,
    pub secretbox_key: Option<SecretString>,
    pub aescbc_key: Option<SecretString>,
    pub trustd_token: SecretString,
    pub etcd: CertificateAndKey,
    pub kubernetes: CertificateAndKey,
    pub aggregator: CertificateAndKey,
    pub service_account_key: SecretString,
    pub os: CertificateAndKey,
}

/// Why a bundle could not be generated.
#[derive(Debug, thiserror::Error)]
pub enum GenerateBundleError {
    #[error("cannot generate the secrets bundle")]
    Pki(#[from] CertificateError),
}

impl SecretsBundle {
    /// Parses a bundle.
    ///
    /// # Errors
    ///
    /// All missing, unknown and wrongly encoded fields, with their places. Values are never quoted.
    pub fn parse(origin: &Origin, text: &str) -> Result<Self, Diagnostics> {
        let node = yaml::parse_one(origin, text)?;
        let mut reader = Reader { origin, found: Diagnostics::default() };
        let mut top = Fields::from_node(origin, &node, "the secrets bundle", &mut reader.found);
        let (cluster_id, cluster_secret) = {
            let mut fields = reader.section(&mut top, "cluster");
            (reader.required(&mut fields, "id"), reader.required(&mut fields, "secret"))
        };
        let mut fields = reader.section(&mut top, "secrets");
        let bootstrap_token = reader.required(&mut fields, "bootstraptoken");
        let secretbox_key = fields.string("secretboxencryptionsecret", &mut reader.found).map(SecretString::from);
        let aescbc_key = fields.string("aescbcencryptionsecret", &mut reader.found).map(SecretString::from);
        if secretbox_key.is_some() == aescbc_key.is_some() {
            let message =
                "the secrets bundle needs exactly one of `secretboxencryptionsecret` and `aescbcencryptionsecret`";
            reader.found.error(fields.location(), message);
        }
        let trustd_token = {
            let mut fields = reader.section(&mut top, "trustdinfo");
            reader.required(&mut fields, "token")
        };
        let mut certs = reader.section(&mut top, "certs");
        let etcd = reader.pair(&mut certs, "etcd");
        let kubernetes = reader.pair(&mut certs, "k8s");
        let aggregator = reader.pair(&mut certs, "k8saggregator");
        let os = reader.pair(&mut certs, "os");
        let service_account_key = {
            let mut fields = reader.section(&mut certs, "k8sserviceaccount");
            reader.pem(&mut fields, "key")
        };
        reader.found.into_result(Self {
            cluster_id,
            cluster_secret: cluster_secret.into(),
            bootstrap_token: bootstrap_token.into(),
            secretbox_key,
            aescbc_key,
            trustd_token: trustd_token.into(),
            etcd,
            kubernetes,
            aggregator,
            service_account_key: service_account_key.into(),
            os,
        })
    }

    /// Generates a bundle for the default Talos version.
    ///
    /// # Errors
    ///
    /// Key generation failed.
    pub fn generate(now: Timestamp) -> Result<Self, GenerateBundleError> {
        Self::generate_for(Contract::DEFAULT, now)
    }

    /// Generates a bundle whose certificates are backdated by an hour, so that nodes with slow clocks accept them.
    ///
    /// # Errors
    ///
    /// Key generation failed.
    pub fn generate_for(contract: Contract, now: Timestamp) -> Result<Self, GenerateBundleError> {
        let authority = |organization, kind| pki::authority(organization, kind, now);
        Ok(Self {
            cluster_id: cluster_id(contract),
            cluster_secret: random_base64().into(),
            bootstrap_token: random_token().into(),
            secretbox_key: Some(random_base64().into()),
            aescbc_key: None,
            trustd_token: random_token().into(),
            etcd: authority(Some("etcd"), KeyKind::EcdsaP256)?,
            kubernetes: authority(Some("kubernetes"), KeyKind::EcdsaP256)?,
            aggregator: authority(None, KeyKind::EcdsaP256)?,
            service_account_key: pki::rsa_private_key()?,
            os: authority(Some("talos"), KeyKind::Ed25519)?,
        })
    }

    /// The bundle as `talosctl gen secrets` writes it. The text is secret.
    pub fn to_yaml(&self) -> SecretString {
        let encoded = |pem: &str| STANDARD.encode(pem);
        let pair = |pair: &CertificateAndKey| json!({"crt": encoded(&pair.certificate), "key": encoded(pair.key.expose_secret())});
        let mut secrets = json!({"bootstraptoken": self.bootstrap_token.expose_secret()});
        for (key, value) in
            [("secretboxencryptionsecret", &self.secretbox_key), ("aescbcencryptionsecret", &self.aescbc_key)]
        {
            if let Some(value) = value {
                secrets[key] = json!(value.expose_secret());
            }
        }
        let bundle = json!({
            "cluster": {"id": self.cluster_id, "secret": self.cluster_secret.expose_secret()},
            "secrets": secrets,
            "trustdinfo": {"token": self.trustd_token.expose_secret()},
            "certs": {
                "etcd": pair(&self.etcd),
                "k8s": pair(&self.kubernetes),
                "k8saggregator": pair(&self.aggregator),
                "k8sserviceaccount": {"key": encoded(self.service_account_key.expose_secret())},
                "os": pair(&self.os),
            },
        });
        // Strings and maps always have a YAML form.
        yaml::to_string(&bundle).unwrap_or_default().into()
    }

    /// All secret values, for redaction.
    pub fn secret_values(&self) -> Vec<SecretString> {
        let mut values = vec![
            self.cluster_secret.clone(),
            self.bootstrap_token.clone(),
            self.trustd_token.clone(),
            self.etcd.key.clone(),
            self.kubernetes.key.clone(),
            self.aggregator.key.clone(),
            self.service_account_key.clone(),
            self.os.key.clone(),
        ];
        values.extend(self.secretbox_key.clone());
        values.extend(self.aescbc_key.clone());
        values
    }
}

struct Reader<'o> {
    origin: &'o Origin,
    found: Diagnostics,
}

static NOTHING: Node = Node { at: yaml::Position { line: 1, column: 1 }, value: yaml::Value::Null };

impl<'o> Reader<'o> {
    fn section<'n>(&mut self, parent: &mut Fields<'n>, key: &'static str) -> Fields<'n>
    where
        'o: 'n,
    {
        let node = parent.get(key).unwrap_or_else(|| {
            self.found.error(parent.location(), format!("the secrets bundle has no `{key}`"));
            &NOTHING
        });
        Fields::from_node(self.origin, node, format!("`{key}` of the secrets bundle"), &mut self.found)
    }

    fn required(&mut self, fields: &mut Fields<'_>, key: &'static str) -> String {
        fields.required_string(key, &mut self.found).unwrap_or_default()
    }

    fn pem(&mut self, fields: &mut Fields<'_>, key: &'static str) -> String {
        let encoded = self.required(fields, key);
        let decoded = STANDARD.decode(encoded.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        decoded.unwrap_or_else(|| {
            self.found.error(fields.location(), format!("`{key}` is not the base64 of PEM data"));
            String::new()
        })
    }

    fn pair(&mut self, certs: &mut Fields<'o>, key: &'static str) -> CertificateAndKey {
        let mut fields = self.section(certs, key);
        let certificate = self.pem(&mut fields, "crt");
        CertificateAndKey { certificate, key: self.pem(&mut fields, "key").into() }
    }
}

/// Talos encodes the id with the URL alphabet up to 1.13 and with the standard one from 1.14 on; nodes do not decode it.
fn cluster_id(contract: Contract) -> String {
    let alphabet = if contract < Contract::V1_14 { &URL_SAFE } else { &STANDARD };
    alphabet.encode(rand::random::<[u8; 32]>())
}

fn random_base64() -> String {
    STANDARD.encode(rand::random::<[u8; 32]>())
}

/// `[0-9a-z]{6}.[0-9a-z]{16}`, the format of a kubeadm bootstrap token.
fn random_token() -> String {
    const ALPHABET: [char; 36] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l',
        'm', 'n', 'o', 'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z',
    ];
    // The alphabet is not empty, so a choice always exists.
    let Ok(choose) = Choose::new(&ALPHABET) else { return String::new() };
    let mut characters = rand::rng().sample_iter(choose);
    let id: String = characters.by_ref().take(6).collect();
    let secret: String = characters.take(16).collect();
    format!("{id}.{secret}")
}
