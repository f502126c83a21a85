//! Which releases are there, and when they were: Helm's storage and the workloads that each release owns.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use tokio::sync::watch;

use super::cluster::Inside;

/// A release by namespace and name.
type Key = (String, String);

/// Records each release twice: as `installed` when Helm says that it is, and as `ready` when its pods are as well.
pub(super) async fn record(inside: Inside) {
    let stored = watch::Sender::new(BTreeMap::<Key, (Instant, bool)>::new());
    tokio::join!(follow(&inside, &stored), conclude(&inside, &stored));
}

/// Follows the first revisions in Helm's storage; values and manifests in it are not looked at.
async fn follow(inside: &Inside, stored: &watch::Sender<BTreeMap<Key, (Instant, bool)>>) {
    let secrets: Api<PartialObjectMeta<Secret>> = Api::all(inside.view.client.clone());
    let revisions = watcher::Config::default().labels("owner=helm");
    let mut events = std::pin::pin!(watcher(secrets, revisions).default_backoff());
    while let Some(event) = events.next().await {
        let Ok(watcher::Event::Apply(secret) | watcher::Event::InitApply(secret)) = event else { continue };
        let (Some(namespace), Some(name)) = (secret.namespace(), secret.labels().get("name")) else { continue };
        let deployed = secret.labels().get("status").is_some_and(|status| status == "deployed");
        stored.send_modify(|stored| {
            let release = stored.entry((namespace, name.clone())).or_insert((Instant::now(), false));
            release.1 |= deployed;
        });
    }
}

async fn conclude(inside: &Inside, stored: &watch::Sender<BTreeMap<Key, (Instant, bool)>>) {
    let (mut stored, mut changes) = (stored.subscribe(), inside.view.changes());
    let (mut installed, mut ready) = (BTreeSet::new(), BTreeSet::new());
    loop {
        let releases = stored.borrow_and_update().clone();
        changes.mark_unchanged();
        for ((namespace, name), (began, deployed)) in releases {
            let release = format!("release/{namespace}/{name}");
            if deployed && installed.insert(release.clone()) {
                inside.world.recorder.fact(format!("{release}/installed"), began, inside.needs(&namespace, &name));
            }
            let owned = inside.view.release_ready(&namespace, &name);
            if deployed && owned.unwrap_or(true) && ready.insert(release.clone()) {
                let own = inside.view.pods.state_filter(|pod| {
                    inside.view.release_of(pod).is_some_and(|(space, of)| space == namespace && of == name)
                });
                let pods = own
                    .iter()
                    .map(|pod| format!("pod/{}/{}/ready", pod.namespace().unwrap_or_default(), pod.name_any()));
                let causes = pods.chain([format!("{release}/installed")]);
                inside.world.recorder.fact(format!("{release}/ready"), Instant::now(), causes);
            }
        }
        tokio::select! {
            changed = stored.changed() => if changed.is_err() { return },
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}
