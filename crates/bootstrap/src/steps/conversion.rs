//! After a release with a conversion webhook: the webhook serves every version of its objects (H04).
//!
//! Such definitions are applied before their operator, and their objects can only be read in the stored version until
//! the webhook responds. Where the CRD helmfile names the release's chart, the plan shows this as a step of its own;
//! any other release that is waited for ends with the same gate. The step waits even where the helmfile sets
//! `wait: false`: CRDs that are applied first are there to be used.

use std::collections::BTreeSet;

use serde_json::Value;

use super::api_errors::{api_error, gate_error, progress_with};
use engine::{Code, StepContext, StepError};
use helmfile::{Chart, Release};
use kubernetes::ServiceName;

/// Whether the CRDs of a release's chart are applied before it: by the same chart, or under the same name.
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
    let name =
        |service: &Value| Some(ServiceName { namespace: text(service, "namespace")?, name: text(service, "name")? });
    services.filter_map(name).collect()
}

/// Waits until the conversion webhooks of these services serve every version.
pub(super) async fn wait(
    client: &kube::Client,
    services: &BTreeSet<ServiceName>,
    cx: &StepContext,
) -> Result<(), StepError> {
    let names = kubernetes::converted_by(client, services).await.map_err(|error| api_error(&error))?;
    kubernetes::wait_converted(client, &names, &progress_with(cx, Code::H04)).await.map_err(|error| gate_error(&error))
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
        Release::new(id, chart, Origin::new("apps.yaml").location(Position { line: 3, column: 5 }))
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
        assert_eq!(found, [ServiceName { namespace: "security".to_owned(), name: "webhook".to_owned() }].into());
    }
}
