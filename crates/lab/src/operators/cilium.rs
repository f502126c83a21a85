//! Cilium's operator, which registers Cilium's CRDs. They are not part of the chart (Cilium 1.18).

use std::time::Instant;

use super::crd::CrdScope::{Cluster, Namespaced};
use super::crd::{CrdNames, CrdScope, definition};
use super::objects::{CRD, apply};
use crate::cluster_context::ClusterContext;
use crate::record::facts;

const GROUP: &str = "cilium.io";
const STABLE: &[&str] = &["v2"];
const BOTH: &[&str] = &["v2", "v2alpha1"];
const ALPHA: &[&str] = &["v2alpha1"];

const CRDS: [CrdNames; 20] = [
    crd("CiliumNetworkPolicy", "ciliumnetworkpolicies", Namespaced, STABLE),
    crd("CiliumClusterwideNetworkPolicy", "ciliumclusterwidenetworkpolicies", Cluster, STABLE),
    crd("CiliumCIDRGroup", "ciliumcidrgroups", Cluster, BOTH),
    crd("CiliumNode", "ciliumnodes", Cluster, STABLE),
    crd("CiliumNodeConfig", "ciliumnodeconfigs", Namespaced, STABLE),
    crd("CiliumEndpoint", "ciliumendpoints", Namespaced, STABLE),
    crd("CiliumEndpointSlice", "ciliumendpointslices", Cluster, ALPHA),
    crd("CiliumIdentity", "ciliumidentities", Cluster, STABLE),
    crd("CiliumLoadBalancerIPPool", "ciliumloadbalancerippools", Cluster, BOTH),
    crd("CiliumL2AnnouncementPolicy", "ciliuml2announcementpolicies", Cluster, ALPHA),
    crd("CiliumPodIPPool", "ciliumpodippools", Cluster, ALPHA),
    crd("CiliumBGPClusterConfig", "ciliumbgpclusterconfigs", Cluster, BOTH),
    crd("CiliumBGPPeerConfig", "ciliumbgppeerconfigs", Cluster, BOTH),
    crd("CiliumBGPAdvertisement", "ciliumbgpadvertisements", Cluster, BOTH),
    crd("CiliumBGPNodeConfig", "ciliumbgpnodeconfigs", Cluster, BOTH),
    crd("CiliumBGPNodeConfigOverride", "ciliumbgpnodeconfigoverrides", Cluster, BOTH),
    crd("CiliumEgressGatewayPolicy", "ciliumegressgatewaypolicies", Cluster, STABLE),
    crd("CiliumEnvoyConfig", "ciliumenvoyconfigs", Namespaced, STABLE),
    crd("CiliumClusterwideEnvoyConfig", "ciliumclusterwideenvoyconfigs", Cluster, STABLE),
    crd("CiliumLocalRedirectPolicy", "ciliumlocalredirectpolicies", Namespaced, STABLE),
];

const fn crd(kind: &'static str, plural: &'static str, scope: CrdScope, versions: &'static [&'static str]) -> CrdNames {
    CrdNames { group: GROUP, kind, plural, scope, versions }
}

/// Registers the CRDs once the operator's pod is Ready.
pub(super) async fn run(context: &ClusterContext) {
    let pod = context.cache.wait_until(|cache| cache.ready_pod_of("cilium-operator")).await;
    let began = Instant::now();
    tokio::time::sleep(context.lab.scenario.operators.crd_registration.duration()).await;
    for names in CRDS {
        apply(&context.cache.client, CRD, "cilium-operator", &definition(names)).await;
    }
    context.lab.recorder.record_fact(facts::CILIUM_CRDS_REGISTERED, began, [pod.fact]);
}
