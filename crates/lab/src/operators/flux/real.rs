//! The real kustomize-controller, beside a source-controller and a helm-controller that the lab plays.

use std::path::Path;
use std::time::{Duration, Instant};

use error_report::ErrorReport;
use futures::StreamExt;
use kube::ResourceExt;
use process::{Command, Daemon};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::artifact::{Artifact, ArtifactError, ArtifactServer};
use super::instance::FluxInstance;
use super::kinds::KUSTOMIZATION;
use super::sync::{StoredArtifact, fetch};
use super::{helm_controller, sources};
use crate::cluster_context::{ClusterContext, RealKustomize};
use crate::operators::objects::{condition, is_ready, set_status};
use crate::record::{ServedTree, facts};

/// Between two looks at the program.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Serves the working tree as the instance's source and lets the controller apply it. Says that the root is `applied`.
pub(super) async fn run(
    context: &ClusterContext,
    instance: &FluxInstance,
    sync: &Value,
    applied: &Notify,
    real: &RealKustomize,
) {
    let source = context.cache.wait_until(|cache| cache.ready_pod_of("source-controller")).await;
    let (server, stored) = match serve_tree(context, instance, sync, real).await {
        Ok(served) => served,
        Err(error) => return report_no_artifact(context, instance, &error).await,
    };
    let reconcile = async {
        fetch(context, instance, sync, &stored, source.fact).await;
        let pod = context.cache.wait_until(|cache| cache.ready_pod_of("kustomize-controller")).await;
        tokio::join!(
            supervise(context, &real.program, &instance.namespace),
            sources::run(context, instance, sync, &stored),
            watch_root(context, instance, applied, &pod.fact),
            helm_controller::run(context, &pod.fact),
        );
    };
    tokio::join!(server.serve(), reconcile);
}

/// Packs the working tree. The server has it, and the artifact says where.
async fn serve_tree(
    context: &ClusterContext,
    instance: &FluxInstance,
    sync: &Value,
    real: &RealKustomize,
) -> Result<(ArtifactServer, StoredArtifact), ArtifactError> {
    let tree = real.tree.clone();
    let packed = tokio::task::spawn_blocking(move || Artifact::pack(&tree)).await;
    let artifact = packed.map_err(|error| ArtifactError::Pack(error.into()))??;
    let replaced = artifact.replaced.iter().map(|path| path.display().to_string()).collect();
    context.lab.recorder.record_tree(ServedTree { files: artifact.files, replaced });
    let (namespace, name, digest) = (&instance.namespace, instance.sync_name(), artifact.digest());
    let path = format!("{}/{namespace}/{name}/latest.tar.gz", instance.sync_kind().name.to_lowercase());
    let address = context.tools.loopback();
    let server = ArtifactServer::listen(address, path.clone(), &artifact).await?;
    let revision = artifact.revision(sync["ref"].as_str().unwrap_or("refs/heads/main"));
    let stored = StoredArtifact { revision, path, url: server.url(), digest, size: artifact.content.len() };
    Ok((server, stored))
}

async fn report_no_artifact(context: &ClusterContext, instance: &FluxInstance, error: &ArtifactError) {
    let failed = condition("Ready", "False", "ArchiveOperationFailed", &ErrorReport::new(error).to_string());
    let (client, kind) = (&context.cache.client, instance.sync_kind());
    let status = json!({"conditions": [failed]});
    set_status(client, kind, Some(&instance.namespace), instance.sync_name(), &status).await;
}

/// Runs the controller, and starts it again when it exits, as a kubelet does.
async fn supervise(context: &ClusterContext, program: &Path, namespace: &str) {
    loop {
        match start(context, program, namespace).await {
            Ok(mut daemon) => {
                let log = loop {
                    tokio::time::sleep(LOOK_INTERVAL).await;
                    if let Some(log) = daemon.ended() {
                        break log;
                    }
                };
                tracing::warn!(log, "kustomize-controller exited");
            }
            Err(error) => tracing::error!(error = %ErrorReport::new(&error), "kustomize-controller does not start"),
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Why the controller does not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("cannot create its folder")]
    Folder(#[from] std::io::Error),
    #[error(transparent)]
    Program(#[from] process::Error),
}

/// With nothing open but its connection to the API: no metrics, no health endpoint, no events, one replica.
async fn start(context: &ClusterContext, program: &Path, namespace: &str) -> Result<Daemon, StartError> {
    let folder = context.tools.folder.join("flux");
    let temporary = folder.join("tmp");
    std::fs::create_dir_all(&temporary)?;
    let command = Command::new(program)
        .args(["--metrics-addr=0", "--health-addr=0", "--events-addr=", "--watch-all-namespaces=true"])
        .args(["--enable-leader-election=false", "--no-remote-bases=true", "--requeue-dependency=2s"])
        .env("KUBECONFIG", context.tools.kubeconfig())
        .env("RUNTIME_NAMESPACE", namespace)
        .env("TMPDIR", &temporary)
        .env("HOME", &folder);
    Ok(command.spawn_daemon(&folder.join("kustomize-controller.log")).await?)
}

/// Records the root Kustomization as ready once the controller says so.
async fn watch_root(context: &ClusterContext, instance: &FluxInstance, applied: &Notify, pod: &str) {
    let began = Instant::now();
    let mut kustomizations = KUSTOMIZATION.watch(&context.cache.client);
    while let Some(object) = kustomizations.next().await {
        let is_root = object.name_any() == instance.sync_name()
            && object.namespace().as_deref() == Some(instance.namespace.as_str());
        if is_root && is_ready(&object) {
            let causes = [pod.to_owned(), facts::FLUX_REPOSITORY_READY.to_owned()];
            context.lab.recorder.record_fact(facts::FLUX_KUSTOMIZATION_READY, began, causes);
            applied.notify_one();
            return;
        }
    }
}
