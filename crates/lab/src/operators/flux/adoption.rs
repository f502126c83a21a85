//! helm-controller: every release that was installed before Flux gets a HelmRelease and one adopting revision.
//!
//! The upgrade is the real helm's, with the values that the stored release was installed with: what the repository's
//! HelmRelease holds is what the bootstrap took its values from.

use std::time::Instant;

use secrecy::SecretString;
use serde_json::{Value, json};

use super::kinds::{HELM_RELEASE, OCI_REPOSITORY};
use crate::cluster::Inside;
use crate::operators::objects::{apply, condition, set_status};
use crate::spec::ReleaseSpec;
use process::Command;

const MANAGER: &str = "kustomize-controller";

/// The releases that Flux will own.
fn owned(inside: &Inside) -> impl Iterator<Item = &ReleaseSpec> {
    inside.releases.iter().filter(|release| !release.crds_only)
}

/// Applies the HelmReleases and the charts' sources that the repository holds.
pub(super) async fn bring(inside: &Inside) {
    let client = &inside.view.client;
    for release in owned(inside) {
        let namespace = Some(release.namespace.as_str());
        let source = json!({
            "metadata": {},
            "spec": {
                "interval": "1h", "url": format!("oci://{}", release.chart),
                "ref": {"tag": release.version.as_deref().unwrap_or("latest")},
            },
        });
        apply(client, OCI_REPOSITORY, MANAGER, &OCI_REPOSITORY.object(namespace, &release.name, source)).await;
        let rest = json!({
            "metadata": {},
            "spec": {"interval": "1h", "chartRef": {"kind": "OCIRepository", "name": release.name}},
        });
        apply(client, HELM_RELEASE, MANAGER, &HELM_RELEASE.object(namespace, &release.name, rest)).await;
        let progress = condition("Ready", "Unknown", "Progressing", "Fulfilling prerequisites");
        set_status(client, HELM_RELEASE, namespace, &release.name, &json!({"conditions": [progress]})).await;
    }
}

/// Adopts every release, side by side as helm-controller does.
pub(super) async fn run(inside: &Inside) {
    let (_, controller) = inside.view.until(|view| view.ready_of("helm-controller")).await;
    futures::future::join_all(owned(inside).map(|release| adopt(inside, release, &controller))).await;
}

async fn adopt(inside: &Inside, release: &ReleaseSpec, controller: &str) {
    let (client, namespace, name) = (&inside.view.client, Some(release.namespace.as_str()), &release.name);
    let began = Instant::now();
    tokio::time::sleep(inside.world.scenario.operators.adoption.duration()).await;
    let found = condition("Ready", "True", "Succeeded", "stored artifact");
    set_status(client, OCI_REPOSITORY, namespace, name, &json!({"conditions": [found]})).await;
    match upgrade(inside, release).await {
        Ok(revision) => {
            let message = format!(
                "Helm upgrade succeeded for release {}/{name}.v{} with chart {}",
                release.namespace,
                revision["version"],
                revision["chart"].as_str().unwrap_or_default()
            );
            let status = json!({
                "observedGeneration": 1, "history": [history(release, &revision)],
                "lastAttemptedRevision": release.version, "lastAttemptedReleaseAction": "upgrade",
                "conditions": [
                    condition("Ready", "True", "UpgradeSucceeded", &message),
                    condition("Released", "True", "UpgradeSucceeded", &message),
                ],
            });
            set_status(client, HELM_RELEASE, namespace, name, &status).await;
            let fact = format!("release/{}/{name}/adopted", release.namespace);
            let causes = [controller.to_owned(), "flux/kustomization-ready".to_owned()];
            inside.world.recorder.fact(fact, began, causes);
        }
        Err(reason) => {
            tracing::warn!(%reason, name, "a release was not adopted");
            let failed = condition("Ready", "False", "UpgradeFailed", &reason);
            set_status(client, HELM_RELEASE, namespace, name, &json!({"conditions": [failed]})).await;
        }
    }
}

/// What helm-controller remembers of a revision.
fn history(release: &ReleaseSpec, revision: &Value) -> Value {
    json!({
        "name": release.name, "namespace": release.namespace, "status": "deployed", "version": revision["version"],
        "chartName": release.chart.rsplit('/').next(), "chartVersion": release.version,
        "firstDeployed": revision["info"]["first_deployed"], "lastDeployed": revision["info"]["last_deployed"],
    })
}

/// Upgrades a release to what it is; the new revision's version and chart.
async fn upgrade(inside: &Inside, release: &ReleaseSpec) -> Result<Value, String> {
    let registry = inside.tools.registry.ok_or("the lab has no registry to take the chart from")?;
    let chart = format!("oci://{registry}/{}", release.chart);
    let values = helm(inside, release, &["get", "values", &release.name, "--output", "json"], None).await?;
    let values = if values.is_null() { json!({}) } else { values };
    let mut arguments = vec!["upgrade", release.name.as_str(), chart.as_str(), "--plain-http"];
    if let Some(version) = &release.version {
        arguments.extend(["--version", version]);
    }
    arguments.extend(["--reset-values", "--output", "json", "--values", "-"]);
    // Flux 2.7 embeds Helm 3, which knows no server-side apply.
    if inside.tools.helm_version.major >= 4 {
        arguments.push("--server-side=false");
    }
    let mut answer = helm(inside, release, &arguments, Some(values.to_string().into())).await?;
    answer["chart"] = json!(format!(
        "{}@{}",
        release.chart.rsplit('/').next().unwrap_or_default(),
        answer.pointer("/chart/metadata/version").and_then(Value::as_str).unwrap_or_default()
    ));
    Ok(answer)
}

async fn helm(
    inside: &Inside,
    release: &ReleaseSpec,
    arguments: &[&str],
    input: Option<SecretString>,
) -> Result<Value, String> {
    let folder = &inside.tools.folder;
    let home = |name: &str| folder.join("helm").join(name);
    let mut command = Command::new(&inside.tools.helm)
        .args(arguments.iter().copied())
        .args(["--namespace", release.namespace.as_str(), "--kubeconfig"])
        .arg(inside.tools.kubeconfig())
        .env("HELM_CACHE_HOME", home("cache"))
        .env("HELM_CONFIG_HOME", home("config"))
        .env("HELM_DATA_HOME", home("data"));
    if let Some(input) = input {
        command = command.stdin(input);
    }
    let output = command.run().await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&output.stdout).map_err(|error| format!("helm answered nonsense: {error}"))
}
