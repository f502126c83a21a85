//! Proof that Flux can decrypt what it applies (F03): its keys decrypt the repository's SOPS files.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use error_report::ErrorReport;
use secrecy::SecretString;
use serde_json::Value;

use super::api_errors::api_error;
use super::context::{RunContext, SecretsFrom};
use super::secret_manifests::SecretManifests;
use engine::{Check, CheckResult, Code, StepContext, StepError};
use kubernetes::ObjectRef;
use repository::Decryption;
use secrets::sops;

/// How Flux knows an age key among the entries of a Secret (Flux 2.7, "Kustomization: decryption").
const AGE: &str = ".agekey";

/// Where the keys are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// The manifests that will be applied: before any machine is changed.
    Manifests,
    /// The cluster: what was applied is what Flux will read.
    Cluster,
}

/// Flux's keys decrypt every file that Flux is to decrypt.
pub(super) struct FluxKeys {
    context: Arc<RunContext>,
    manifests: Arc<SecretManifests>,
    keys: Keys,
}

impl FluxKeys {
    pub(super) fn new(context: Arc<RunContext>, manifests: Arc<SecretManifests>, keys: Keys) -> Self {
        Self { context, manifests, keys }
    }

    /// The Secret with the keys; nothing when no manifest contains it.
    async fn secret(&self, decryption: &Decryption) -> Result<Option<Value>, StepError> {
        if self.keys == Keys::Manifests {
            let text =
                |object: &Value, pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
            let is_it = |object: &&Value| {
                object["kind"] == "Secret"
                    && text(object, "/metadata/name").as_deref() == Some(&decryption.secret)
                    && text(object, "/metadata/namespace").as_deref() == Some(&decryption.namespace)
            };
            return Ok(self.manifests.objects().await?.iter().find(is_it).cloned());
        }
        let object = ObjectRef {
            api_version: "v1".to_owned(),
            kind: "Secret".to_owned(),
            namespace: Some(decryption.namespace.clone()),
            name: decryption.secret.clone(),
        };
        kubernetes::get(&self.context.kubernetes().await?, &object).await.map_err(|error| api_error(&error))
    }

    async fn check(&self, program: &Path, decryption: &Decryption) -> Result<String, StepError> {
        let name = format!("{}/{}", decryption.namespace, decryption.secret);
        let Some(secret) = self.secret(decryption).await? else {
            return Ok(format!("the Secret {name} is not in the manifests, so decryption was not checked"));
        };
        let fails = |place: String, why: &dyn Display| {
            StepError::failed_precondition("Flux cannot decrypt the repository")
                .with_place(place)
                .because(why)
                .code(Code::F03)
        };
        let keys = age_keys(&secret).map_err(|error| fails(format!("Secret {name}"), &error))?;
        for file in &decryption.files {
            let shown = self.context.cluster.relative(file).display();
            let decrypted = sops::check_decryption(program, file, &keys).await;
            decrypted.map_err(|error| {
                let error = ErrorReport::new(&error);
                let why = format!("the keys in the Secret {name} do not decrypt it: {error}");
                fails(shown.to_string(), &why)
            })?;
        }
        Ok(format!("the keys in {name} decrypt {} files", decryption.count))
    }
}

/// No entry of the Secret is an age key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("none of its entries ends in `{AGE}`; it has {}", .entries.join(", "))]
struct NoAgeKeys {
    entries: Vec<String>,
}

/// The age keys of a Secret, one a line, as a manifest or the API server has it.
fn age_keys(secret: &Value) -> Result<SecretString, NoAgeKeys> {
    let entries = |field: &str| secret[field].as_object().into_iter().flatten().collect::<Vec<_>>();
    let decoded = |value: &str| STANDARD.decode(value.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let plain = entries("stringData").into_iter().map(|(key, value)| (key, value.as_str().map(str::to_owned)));
    let encoded = entries("data").into_iter().map(|(key, value)| (key, value.as_str().and_then(decoded)));
    let (of_age, others): (Vec<_>, Vec<_>) = encoded.chain(plain).partition(|(key, _)| key.ends_with(AGE));
    if of_age.is_empty() {
        return Err(NoAgeKeys { entries: others.into_iter().map(|(key, _)| key.clone()).collect() });
    }
    let keys: Vec<String> = of_age.into_iter().filter_map(|(_, value)| value).collect();
    Ok(keys.join("\n").into())
}

#[async_trait]
impl Check for FluxKeys {
    async fn observe(&self, _cx: &StepContext) -> Result<CheckResult, StepError> {
        let SecretsFrom::Operator { sops, .. } = &self.context.secrets else {
            return Ok(CheckResult::Skipped("placeholder secrets cannot decrypt files".to_owned()));
        };
        let Some(sops) = sops else {
            return Ok(CheckResult::Skipped("sops not found, so decryption was not checked".to_owned()));
        };
        let mut results = Vec::new();
        for decryption in self.context.cluster.flux.decryptions() {
            results.push(self.check(&sops.program, &decryption).await?);
        }
        Ok(CheckResult::Passed(results.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_found_by_the_names_of_their_entries() {
        let keys = |secret: Value| age_keys(&secret).map(|keys| keys.expose_secret().to_owned());
        assert_eq!(keys(json!({"stringData": {"age.agekey": "A", "x": "B"}})).unwrap(), "A");
        assert_eq!(keys(json!({"data": {"b.agekey": "Qg==", "a.agekey": "QQ=="}})).unwrap(), "B\nA");
        assert_eq!(
            keys(json!({"data": {"keys.txt": "QQ=="}})).unwrap_err().to_string(),
            "none of its entries ends in `.agekey`; it has keys.txt"
        );
    }
}
