//! Manifests that hold secrets: decrypted or resolved in memory, once for all steps.

use std::borrow::Cow;
use std::sync::Arc;

use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::context::{RunContext, SecretsFrom};
use super::errors::secrets_code;
use super::{kustomize, namespaces};
use engine::{Code, StepError};
use repository::{SecretKind, SecretSource};
use secrets::sops;
use yaml::Origin;

/// The manifests that hold secrets, resolved in memory.
pub(super) struct SecretManifests {
    context: Arc<RunContext>,
    objects: OnceCell<Vec<Value>>,
}

impl SecretManifests {
    pub(super) fn new(context: Arc<RunContext>) -> Self {
        Self { context, objects: OnceCell::new() }
    }

    pub(super) async fn objects(&self) -> Result<&[Value], StepError> {
        self.objects
            .get_or_try_init(|| async {
                let mut objects = Vec::new();
                for source in &self.context.cluster.bootstrap.secrets {
                    objects.extend(self.resolve(source).await?);
                }
                let namespaces = namespaces::missing_namespaces(&self.context, &objects);
                Ok(namespaces.into_iter().chain(objects).collect())
            })
            .await
            .map(Vec::as_slice)
    }

    async fn resolve(&self, source: &SecretSource) -> Result<Vec<Value>, StepError> {
        let name = self.context.cluster.relative(&source.path).display().to_string();
        let template = if source.kustomized {
            Cow::from(kustomize::build(&self.context, &source.path).await?)
        } else {
            Cow::from(&source.text)
        };
        let text = match (&self.context.secrets, source.kind) {
            (SecretsFrom::Placeholders, SecretKind::References) => {
                secrets::placeholders(&template, &self.context.cluster.settings.sources).into()
            }
            (SecretsFrom::Placeholders, SecretKind::Sops) => sops::placeholders(&template).into(),
            (SecretsFrom::Operator { references, .. }, SecretKind::References) => {
                references.fill(&template).await.map_err(|error| reference_error(&error, &name))?
            }
            (SecretsFrom::Operator { sops, .. }, SecretKind::Sops) => {
                let sops = sops.as_ref().ok_or_else(|| missing(&name))?;
                sops::decrypt(sops, &source.path).await.map_err(|error| {
                    StepError::failed_precondition("a SOPS file cannot be decrypted")
                        .with_place(&name)
                        .caused_by(&error)
                        .code(Code::O03)
                })?
            }
        };
        let documents = yaml::parse(&Origin::new(&name), text.expose_secret());
        // The parser's message may quote the text, which holds secrets by now; only the place is reported.
        let documents = documents.map_err(|error| {
            let place = error.location.map_or_else(|| name.clone(), |location| location.to_string());
            StepError::invalid_input("the manifests are not valid YAML once their secrets are filled in")
                .with_place(place)
        })?;
        let objects: Vec<Value> =
            documents.iter().filter(|document| !document.is_null()).map(yaml::Node::to_json).collect();
        for object in &objects {
            self.context.redactor.learn_manifest(object);
        }
        let nameless = documents.iter().find(|document| {
            let has = |key: &str| document.find(&[key]).and_then(yaml::Node::as_str).is_some();
            !document.is_null() && ["apiVersion", "kind"].iter().any(|key| !has(key))
        });
        if let Some(document) = nameless {
            return Err(StepError::invalid_input(
                "a document among the manifests with secrets is not a Kubernetes manifest",
            )
            .with_place(format!("{name}:{}:{}", document.at.line, document.at.column))
            .because("it has no `apiVersion` or no `kind`")
            .next("correct it, or list the right files in k8s-bootstrap.yaml: clusters.<name>.secrets"));
        }
        match documents.iter().find_map(not_a_string) {
            Some((key, node)) => {
                Err(StepError::invalid_input(format!("the value of `{key}` in a Secret is not a string"))
                    .with_place(format!("{name}:{}:{}", node.at.line, node.at.column))
                    .because(format!(
                        "the resolved value is {}; the API server accepts only strings",
                        node.value.kind()
                    ))
                    .next("quote the reference, or write it into a block scalar (`|`)"))
            }
            None => Ok(objects),
        }
    }
}

/// The first value of a Secret that is not a string in YAML, such as a number or a JSON document without quotes, with
/// its key.
fn not_a_string(document: &yaml::Node) -> Option<(&str, &yaml::Node)> {
    if document.find(&["kind"]).and_then(yaml::Node::as_str) != Some("Secret") {
        return None;
    }
    let fields = ["stringData", "data"].into_iter().filter_map(|field| document.find(&[field])?.as_mapping());
    let mut values = fields.flat_map(|mapping| mapping.iter());
    let found = values.find(|entry| !entry.value.is_null() && entry.value.as_str().is_none())?;
    Some((found.key.as_str(), &found.value))
}

fn missing(file: &str) -> StepError {
    StepError::failed_precondition("`sops` not found")
        .with_place(file)
        .because("the file is encrypted with SOPS")
        .next("install sops, or set its folder with --tools-dir")
        .code(Code::P01)
}

fn reference_error(error: &secrets::Error, file: &str) -> StepError {
    let base = if error.is_retryable() {
        StepError::unavailable("the secrets provider did not respond")
    } else {
        StepError::failed_precondition("a secret reference cannot be resolved")
    };
    let place = match error {
        secrets::Error::Unresolved { reference, .. } => format!("{file}:{}:{}", reference.line, reference.column),
        _ => file.to_owned(),
    };
    let mut base = base.with_place(place).caused_by(error).next(error.next());
    base.retry_after = error.retry_after();
    base.code(secrets_code(error.kind()))
}
