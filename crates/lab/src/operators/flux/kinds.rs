//! The kinds of Flux 2.7.

use crate::operators::crd;
use crate::operators::crd::Scope::Namespaced;
use crate::operators::objects::Kind;

pub(super) const INSTANCE: Kind =
    Kind { group: "fluxcd.controlplane.io", version: "v1", name: "FluxInstance", plural: "fluxinstances" };
pub(super) const GIT_REPOSITORY: Kind =
    Kind { group: "source.toolkit.fluxcd.io", version: "v1", name: "GitRepository", plural: "gitrepositories" };
pub(super) const OCI_REPOSITORY: Kind =
    Kind { group: "source.toolkit.fluxcd.io", version: "v1", name: "OCIRepository", plural: "ocirepositories" };
pub(super) const KUSTOMIZATION: Kind =
    Kind { group: "kustomize.toolkit.fluxcd.io", version: "v1", name: "Kustomization", plural: "kustomizations" };
pub(super) const HELM_RELEASE: Kind =
    Kind { group: "helm.toolkit.fluxcd.io", version: "v2", name: "HelmRelease", plural: "helmreleases" };

/// Every kind that Flux's controllers need, by group.
pub(super) const DEFINED: [(&str, crd::Kind); 11] = [
    ("source.toolkit.fluxcd.io", ("GitRepository", "gitrepositories", Namespaced, &["v1"])),
    ("source.toolkit.fluxcd.io", ("OCIRepository", "ocirepositories", Namespaced, &["v1"])),
    ("source.toolkit.fluxcd.io", ("HelmRepository", "helmrepositories", Namespaced, &["v1"])),
    ("source.toolkit.fluxcd.io", ("HelmChart", "helmcharts", Namespaced, &["v1"])),
    ("source.toolkit.fluxcd.io", ("Bucket", "buckets", Namespaced, &["v1"])),
    ("source.toolkit.fluxcd.io", ("ExternalArtifact", "externalartifacts", Namespaced, &["v1"])),
    ("kustomize.toolkit.fluxcd.io", ("Kustomization", "kustomizations", Namespaced, &["v1"])),
    ("helm.toolkit.fluxcd.io", ("HelmRelease", "helmreleases", Namespaced, &["v2"])),
    ("notification.toolkit.fluxcd.io", ("Alert", "alerts", Namespaced, &["v1beta3"])),
    ("notification.toolkit.fluxcd.io", ("Provider", "providers", Namespaced, &["v1beta3"])),
    ("notification.toolkit.fluxcd.io", ("Receiver", "receivers", Namespaced, &["v1"])),
];
