//! Which workloads an upgrade restarts: those whose pod template it changes.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::api::ListParams;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::spec::ReleaseKey;

/// The pod template of each workload of a release, by kind and name.
pub(super) type PodTemplates = BTreeMap<String, Value>;

pub(super) async fn pod_templates(client: &kube::Client, release: &ReleaseKey) -> Result<PodTemplates, kube::Error> {
    let mut found = of_kind::<Deployment>(client, release).await?;
    found.extend(of_kind::<StatefulSet>(client, release).await?);
    found.extend(of_kind::<DaemonSet>(client, release).await?);
    Ok(found)
}

async fn of_kind<K>(client: &kube::Client, release: &ReleaseKey) -> Result<PodTemplates, kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    let all = Api::<K>::all(client.clone()).list(&ListParams::default()).await?;
    let belongs = |object: &K| {
        let names =
            ["name", "namespace"].map(|field| object.annotations().get(&format!("meta.helm.sh/release-{field}")));
        names == [Some(&release.name), Some(&release.namespace)]
    };
    let entry = |object: K| {
        let name = format!("{} {}/{}", K::kind(&()), object.namespace().unwrap_or_default(), object.name_any());
        let template = serde_json::to_value(&object).ok()?.pointer("/spec/template").cloned()?;
        Some((name, template))
    };
    Ok(all.items.into_iter().filter(belongs).filter_map(entry).collect())
}

/// The workloads whose template has changed.
pub(super) fn restarted(before: &PodTemplates, after: &PodTemplates) -> Vec<String> {
    let changed = after.iter().filter(|(name, template)| before.get(*name).is_some_and(|before| before != *template));
    changed.map(|(name, _)| name.clone()).collect()
}
