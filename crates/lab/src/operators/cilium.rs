//! Cilium's operator: it registers Cilium's own CRDs, which no chart holds (Cilium 1.18).

use std::time::Instant;

use super::crd::Scope::{Cluster, Namespaced};
use super::crd::{Kind, definition};
use super::objects::{CRD, apply};
use crate::cluster::Inside;

/// The fact that the CRDs are there.
pub(super) const REGISTERED: &str = "cilium/crds-registered";
const GROUP: &str = "cilium.io";
const STABLE: &[&str] = &["v2"];
const BOTH: &[&str] = &["v2", "v2alpha1"];
const ALPHA: &[&str] = &["v2alpha1"];

const KINDS: [Kind; 20] = [
    ("CiliumNetworkPolicy", "ciliumnetworkpolicies", Namespaced, STABLE),
    ("CiliumClusterwideNetworkPolicy", "ciliumclusterwidenetworkpolicies", Cluster, STABLE),
    ("CiliumCIDRGroup", "ciliumcidrgroups", Cluster, BOTH),
    ("CiliumNode", "ciliumnodes", Cluster, STABLE),
    ("CiliumNodeConfig", "ciliumnodeconfigs", Namespaced, STABLE),
    ("CiliumEndpoint", "ciliumendpoints", Namespaced, STABLE),
    ("CiliumEndpointSlice", "ciliumendpointslices", Cluster, ALPHA),
    ("CiliumIdentity", "ciliumidentities", Cluster, STABLE),
    ("CiliumLoadBalancerIPPool", "ciliumloadbalancerippools", Cluster, BOTH),
    ("CiliumL2AnnouncementPolicy", "ciliuml2announcementpolicies", Cluster, ALPHA),
    ("CiliumPodIPPool", "ciliumpodippools", Cluster, ALPHA),
    ("CiliumBGPClusterConfig", "ciliumbgpclusterconfigs", Cluster, BOTH),
    ("CiliumBGPPeerConfig", "ciliumbgppeerconfigs", Cluster, BOTH),
    ("CiliumBGPAdvertisement", "ciliumbgpadvertisements", Cluster, BOTH),
    ("CiliumBGPNodeConfig", "ciliumbgpnodeconfigs", Cluster, BOTH),
    ("CiliumBGPNodeConfigOverride", "ciliumbgpnodeconfigoverrides", Cluster, BOTH),
    ("CiliumEgressGatewayPolicy", "ciliumegressgatewaypolicies", Cluster, STABLE),
    ("CiliumEnvoyConfig", "ciliumenvoyconfigs", Namespaced, STABLE),
    ("CiliumClusterwideEnvoyConfig", "ciliumclusterwideenvoyconfigs", Cluster, STABLE),
    ("CiliumLocalRedirectPolicy", "ciliumlocalredirectpolicies", Namespaced, STABLE),
];

/// Registers the CRDs once the operator's pod is Ready.
pub(super) async fn operator(inside: &Inside) {
    let (_, pod) = inside.view.until(|view| view.ready_of("cilium-operator")).await;
    let began = Instant::now();
    tokio::time::sleep(inside.world.scenario.operators.crd_registration.duration()).await;
    let client = &inside.view.client;
    for kind in KINDS {
        apply(client, CRD, "cilium-operator", &definition(GROUP, kind)).await;
    }
    inside.world.recorder.fact(REGISTERED, began, [pod]);
}
