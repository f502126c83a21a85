//! The kinds of Flux 2.7.

use crate::operators::crd::{CrdNames, CrdScope};
use crate::operators::objects::ObjectKind;

pub(super) const INSTANCE: ObjectKind =
    ObjectKind { group: "fluxcd.controlplane.io", version: "v1", name: "FluxInstance", plural: "fluxinstances" };
pub(super) const GIT_REPOSITORY: ObjectKind =
    ObjectKind { group: SOURCE, version: "v1", name: "GitRepository", plural: "gitrepositories" };
pub(super) const OCI_REPOSITORY: ObjectKind =
    ObjectKind { group: SOURCE, version: "v1", name: "OCIRepository", plural: "ocirepositories" };
pub(super) const HELM_REPOSITORY: ObjectKind =
    ObjectKind { group: SOURCE, version: "v1", name: "HelmRepository", plural: "helmrepositories" };
pub(super) const BUCKET: ObjectKind = ObjectKind { group: SOURCE, version: "v1", name: "Bucket", plural: "buckets" };
pub(super) const KUSTOMIZATION: ObjectKind =
    ObjectKind { group: KUSTOMIZE, version: "v1", name: "Kustomization", plural: "kustomizations" };
pub(super) const HELM_RELEASE: ObjectKind =
    ObjectKind { group: HELM, version: "v2", name: "HelmRelease", plural: "helmreleases" };

const SOURCE: &str = "source.toolkit.fluxcd.io";
const KUSTOMIZE: &str = "kustomize.toolkit.fluxcd.io";
const HELM: &str = "helm.toolkit.fluxcd.io";
const NOTIFICATION: &str = "notification.toolkit.fluxcd.io";

const fn crd(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    versions: &'static [&'static str],
) -> CrdNames {
    CrdNames { group, kind, plural, scope: CrdScope::Namespaced, versions }
}

/// The CRDs of Flux's controllers.
pub(super) const CRDS: [CrdNames; 11] = [
    crd(SOURCE, "GitRepository", "gitrepositories", &["v1"]),
    crd(SOURCE, "OCIRepository", "ocirepositories", &["v1"]),
    crd(SOURCE, "HelmRepository", "helmrepositories", &["v1"]),
    crd(SOURCE, "HelmChart", "helmcharts", &["v1"]),
    crd(SOURCE, "Bucket", "buckets", &["v1"]),
    crd(SOURCE, "ExternalArtifact", "externalartifacts", &["v1"]),
    crd(KUSTOMIZE, "Kustomization", "kustomizations", &["v1"]),
    crd(HELM, "HelmRelease", "helmreleases", &["v2"]),
    crd(NOTIFICATION, "Alert", "alerts", &["v1beta3"]),
    crd(NOTIFICATION, "Provider", "providers", &["v1beta3"]),
    crd(NOTIFICATION, "Receiver", "receivers", &["v1"]),
];
