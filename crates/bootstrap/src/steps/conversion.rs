//! After a release whose service converts custom resources: their objects can be read in every version (failure H04).
//!
//! Such definitions go in before their operator, and nothing of them can be read in another version than the stored one
//! until it answers. Where the helmfile of CRDs names the release's chart, the plan shows this as a step of its own;
//! any other release that is waited for is gated by the same look at its end. The step waits even when the helmfile says
//! that nobody should: CRDs that go in first are there to be used.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::objects::{api_error, gate_error};
use super::release::Installed;
use engine::{Observation, Step, StepContext, StepError};
use helmfile::{Chart, Release};
use kubernetes::ServiceName;

/// Whether the CRDs of a release's chart go in ahead of it: by the same chart, or under the same name.
pub(super) fn is_awaited(release: &Release, crds: &[Release]) -> bool {
    crds.iter().any(|other| other.id == release.id || same_chart(&other.chart, &release.chart))
}

fn same_chart(one: &Chart, other: &Chart) -> bool {
    match (one, other) {
        (Chart::Oci { reference: one, .. }, Chart::Oci { reference: other, .. }) => one == other,
        (Chart::Local(one), Chart::Local(other)) => one == other,
        (Chart::Repository { url: one, name, .. }, Chart::Repository { url: other, name: same, .. }) => {
            one == other && name == same
        }
        _ => false,
    }
}

/// The Services among a release's objects.
pub(super) fn services(objects: &[Value]) -> BTreeSet<ServiceName> {
    let text = |object: &Value, key: &str| Some(object.get("metadata")?.get(key)?.as_str()?.to_owned());
    let services = objects.iter().filter(|object| object["kind"] == "Service" && object["apiVersion"] == "v1");
    services.filter_map(|service| Some((text(service, "namespace")?, text(service, "name")?))).collect()
}

/// Waits until everything that these services convert can be read.
pub(super) async fn wait(
    client: &kube::Client,
    services: &BTreeSet<ServiceName>,
    cx: &StepContext,
) -> Result<(), StepError> {
    let names = kubernetes::converted_by(client, services).await.map_err(|error| api_error(&error))?;
    kubernetes::wait_converted(client, &names, &cx.teller_by(|_| Some("H04"))).await.map_err(|error| gate_error(&error))
}

/// The release's webhooks convert what they are to convert.
pub(super) struct Converts(Arc<Installed>);

impl Converts {
    pub(super) fn new(installed: Arc<Installed>) -> Self {
        Self(installed)
    }
}

#[async_trait]
impl Step for Converts {
    async fn observe(&self, _cx: &StepContext) -> Result<Observation, StepError> {
        let client = self.0.client().await?;
        let names =
            kubernetes::converted_by(&client, &self.0.services().await?).await.map_err(|error| api_error(&error))?;
        for name in &names {
            let trouble = kubernetes::conversion_trouble(&client, name).await.map_err(|error| api_error(&error))?;
            if let Some(trouble) = trouble {
                return Ok(Observation::Underway(format!("{name}: {trouble}")));
            }
        }
        Ok(Observation::Holds(match names.len() {
            0 => "no webhook of it converts anything".to_owned(),
            count => format!("objects of {count} kinds can be read in every version"),
        }))
    }

    async fn apply(&self, _cx: &StepContext) -> Result<(), StepError> {
        Ok(())
    }

    async fn gate(&self, cx: &StepContext) -> Result<(), StepError> {
        wait(&self.0.client().await?, &self.0.services().await?, cx).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use helmfile::ReleaseId;
    use yaml::{Origin, Position};

    fn release(name: &str, reference: &str, version: &str) -> Release {
        let chart = Chart::Oci { reference: reference.into(), version: Some(version.into()) };
        let id = ReleaseId { namespace: "security".into(), name: name.into() };
        Release::new(id, chart, Origin::new("apps.yaml").at(Position { line: 3, column: 5 }))
    }

    #[test]
    fn a_release_whose_crds_go_in_first_is_known_by_its_chart_or_its_name() {
        let crds =
            [release("secrets-crds", "ghcr.io/acme/secrets", "1.0.0"), release("store", "ghcr.io/acme/crds", "1")];
        assert!(is_awaited(&release("secrets", "ghcr.io/acme/secrets", "1.1.0"), &crds));
        assert!(is_awaited(&release("store", "ghcr.io/acme/store", "1"), &crds));
        assert!(!is_awaited(&release("other", "ghcr.io/acme/other", "1"), &crds));
    }

    #[test]
    fn services_are_found_with_their_namespaces() {
        let service =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "webhook", "namespace": "security"}});
        let of_knative = json!({"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "x", "namespace": "y"}});
        let found = services(&[service, of_knative, json!({"kind": "Deployment"})]);
        assert_eq!(found, [("security".to_owned(), "webhook".to_owned())].into());
    }
}
