//! Records when releases were installed and became ready, from Helm's storage and the workloads of each release.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use tokio::sync::watch;

use super::cluster_context::ClusterContext;
use super::record::facts;
use super::spec::ReleaseKey;

/// The first revision of a release in Helm's storage.
#[derive(Debug, Clone, Copy)]
struct FirstRevision {
    seen: Instant,
    is_deployed: bool,
}

type Revisions = BTreeMap<ReleaseKey, FirstRevision>;

/// Records each release as `installed` when Helm has deployed it, and as `ready` when its pods are Ready too.
pub(super) async fn record(context: ClusterContext) {
    let revisions = watch::Sender::new(Revisions::new());
    tokio::join!(watch_storage(&context, &revisions), record_facts(&context, &revisions));
}

/// Watches the metadata of Helm's storage Secrets. Values and manifests are not read.
async fn watch_storage(context: &ClusterContext, revisions: &watch::Sender<Revisions>) {
    let secrets: Api<PartialObjectMeta<Secret>> = Api::all(context.cache.client.clone());
    let storage = watcher::Config::default().labels("owner=helm");
    let mut events = std::pin::pin!(watcher(secrets, storage).default_backoff());
    while let Some(event) = events.next().await {
        let Ok(watcher::Event::Apply(secret) | watcher::Event::InitApply(secret)) = event else { continue };
        let (Some(namespace), Some(name)) = (secret.namespace(), secret.labels().get("name")) else { continue };
        let is_deployed = secret.labels().get("status").is_some_and(|status| status == "deployed");
        let release = ReleaseKey { namespace, name: name.clone() };
        revisions.send_modify(|revisions| {
            let first = FirstRevision { seen: Instant::now(), is_deployed: false };
            revisions.entry(release).or_insert(first).is_deployed |= is_deployed;
        });
    }
}

async fn record_facts(context: &ClusterContext, revisions: &watch::Sender<Revisions>) {
    let (mut revisions, mut changes) = (revisions.subscribe(), context.cache.changes());
    let (mut installed, mut ready) = (BTreeSet::new(), BTreeSet::new());
    let recorder = &context.lab.recorder;
    loop {
        let known = revisions.borrow_and_update().clone();
        changes.mark_unchanged();
        for (release, first) in known.into_iter().filter(|(_, first)| first.is_deployed) {
            if installed.insert(release.clone()) {
                let causes = context.release_causes(&release);
                recorder.record_fact(facts::release_installed(&release), first.seen, causes);
            }
            if context.cache.is_release_ready(&release).unwrap_or(true) && ready.insert(release.clone()) {
                let owned = |pod: &Pod| context.cache.owning_release(pod).as_ref() == Some(&release);
                let pods = context.cache.pods.state_filter(owned);
                let causes = pods.iter().map(|pod| facts::pod_ready(pod)).chain([facts::release_installed(&release)]);
                recorder.record_fact(facts::release_ready(&release), Instant::now(), causes);
            }
        }
        tokio::select! {
            changed = revisions.changed() => if changed.is_err() { return },
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}
