//! Custom kinds: by the conditions that their controllers report.

use serde_json::Value;

use super::{Readiness, condition, failed, group, observed, progressing, stalled, text};

/// Groups whose controllers report `Ready` on every object of these kinds once they have observed it. HelmRepository is
/// missing: one of the type `oci` never gets a status.
const REPORT_READY: [(&str, &[&str]); 8] = [
    ("source.toolkit.fluxcd.io", &["GitRepository", "OCIRepository", "HelmChart", "Bucket"]),
    ("kustomize.toolkit.fluxcd.io", &["Kustomization"]),
    ("helm.toolkit.fluxcd.io", &["HelmRelease"]),
    ("notification.toolkit.fluxcd.io", &["Receiver"]),
    ("image.toolkit.fluxcd.io", &["ImageRepository", "ImagePolicy", "ImageUpdateAutomation"]),
    ("fluxcd.controlplane.io", &["FluxInstance", "FluxReport", "ResourceSet", "ResourceSetInputProvider"]),
    ("cert-manager.io", &["Issuer", "ClusterIssuer", "Certificate"]),
    (
        "external-secrets.io",
        &["SecretStore", "ClusterSecretStore", "ExternalSecret", "ClusterExternalSecret", "PushSecret"],
    ),
];

pub(super) fn custom(object: &Value) -> Readiness {
    if let Some(stalled) = stalled(object) {
        return failed(format!("is stalled: {}", stalled.summary()));
    }
    if let Some(outdated) = observed(object) {
        return outdated;
    }
    let current = |kind: &str| condition(object, kind).filter(|condition| condition.is_current(object));
    match (condition(object, "Ready"), current("Ready"), current("Reconciling")) {
        (Some(_), None, _) => progressing("has a change that its controller has not observed yet"),
        (_, _, Some(reconciling)) if reconciling.is_true() => {
            progressing(with_reason("is reconciling", &reconciling.summary()))
        }
        (_, Some(ready), _) if ready.is_true() => Readiness::Ready,
        (_, Some(ready), _) => progressing(with_reason("is not ready", &ready.summary())),
        (None, None, _) if reports_ready(object) => progressing("was not observed by its controller yet"),
        (None, None, _) => Readiness::Ready,
    }
}

fn with_reason(what: &str, why: &str) -> String {
    if why.is_empty() { what.to_owned() } else { format!("{what}: {why}") }
}

fn reports_ready(object: &Value) -> bool {
    let (group, kind) = (group(object), text(object, "/kind"));
    // A suspended object need not get a status.
    object.pointer("/spec/suspend") != Some(&Value::Bool(true))
        && REPORT_READY.iter().any(|(reporting, kinds)| *reporting == group && kinds.contains(&kind))
}
