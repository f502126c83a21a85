//! Configs for Talos 1.14 and later: a small legacy document and one document per subject.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::super::CertificateAndKey;
use super::{GenerateInput, GenerateOptions, KUBELET, NO_LOAD_BALANCER, Role};
use super::{audit_policy, document, image, pod_security, registry_mirrors};

/// All documents in Talos's order.
pub(super) fn all(facts: &GenerateInput<'_>, options: &GenerateOptions, role: Role) -> Vec<Value> {
    let mut all = vec![legacy(facts, options, role)];
    all.extend(discovery(facts, options));
    all.extend(machine(facts, options));
    all.extend(kubernetes(facts, role));
    if role == Role::ControlPlane {
        all.extend(kubernetes_secrets(facts));
        all.extend(kubernetes_components(facts, options));
    }
    all
}

fn legacy(facts: &GenerateInput<'_>, options: &GenerateOptions, role: Role) -> Value {
    let bundle = facts.bundle;
    let pair = |pair: &CertificateAndKey, with_key: bool| {
        let key = if with_key { STANDARD.encode(pair.key.expose_secret()) } else { String::new() };
        json!({"crt": STANDARD.encode(&pair.certificate), "key": key})
    };
    let control_plane = role == Role::ControlPlane;
    let mut config = json!({
        "version": "v1alpha1",
        "debug": false,
        "persist": options.persist,
        "machine": {
            "type": if control_plane { "controlplane" } else { "worker" },
            "token": bundle.trustd_token.expose_secret(),
            "ca": pair(&bundle.os, control_plane),
            "certSANs": options.additional_sans,
            "features": {"diskQuotaSupport": true},
        },
        "cluster": {"token": bundle.bootstrap_token.expose_secret()},
    });
    if control_plane {
        config["cluster"]["etcd"] = json!({"ca": pair(&bundle.etcd, true)});
    }
    config
}

fn discovery(facts: &GenerateInput<'_>, options: &GenerateOptions) -> Vec<Value> {
    let service = options.cluster_discovery.then(|| {
        document("DiscoveryServiceConfig", json!({"name": "default", "endpoint": "https://discovery.talos.dev/"}))
    });
    let identity = json!({
        "clusterID": facts.bundle.cluster_id,
        "clusterSecret": facts.bundle.cluster_secret.expose_secret(),
    });
    service.into_iter().chain([document("DiscoveryIdentityConfig", identity)]).collect()
}

/// Settings of the machine.
fn machine(facts: &GenerateInput<'_>, options: &GenerateOptions) -> Vec<Value> {
    let mut all = Vec::new();
    if !facts.install_disk.is_empty() {
        let selector = format!("disk.dev_path == {}", Value::from(facts.install_disk));
        all.push(document(
            "UnattendedInstallConfig",
            json!({
                "installer": {"image": facts.install_image},
                "provisioning": {"diskSelector": {"match": selector}, "wipe": false},
            }),
        ));
    }
    all.push(document("ResolverConfig", json!({"hostDNS": {"enabled": true, "forwardKubeDNSToHost": true}})));
    all.push(document("VolumeConfig", json!({"name": "EPHEMERAL", "mount": {"secure": true}})));
    all.push(document("FilesystemTrimConfig", json!({"interval": "168h0m0s"})));
    all.push(document("SecurityProfileConfig", json!({"workloadIsolation": true})));
    all.extend(registry_mirrors(options));
    all.push(document("HostnameConfig", json!({"auto": "stable"})));
    if options.kubespan {
        all.push(document("KubeSpanConfig", json!({"enabled": true})));
    }
    all
}

/// Kubernetes settings of all nodes.
fn kubernetes(facts: &GenerateInput<'_>, role: Role) -> Vec<Value> {
    let authority = &facts.bundle.kubernetes;
    let (node, ca) = match role {
        Role::ControlPlane => (
            json!({
                "labels": {"node-role.kubernetes.io/control-plane": "", NO_LOAD_BALANCER: ""},
                "taints": {"node-role.kubernetes.io/control-plane": "NoSchedule"},
            }),
            json!({"issuingCA": pem_pair(authority)}),
        ),
        Role::Worker => (json!({}), json!({"acceptedCAs": [authority.certificate]})),
    };
    let kubelet = json!({"image": image(KUBELET, facts), "defaultRuntimeSeccompProfileEnabled": true});
    let network = json!({
        "dnsDomain": facts.dns_domain,
        "podSubnets": facts.pod_subnets,
        "serviceSubnets": facts.service_subnets,
    });
    vec![
        document("KubeClusterConfig", json!({"clusterName": facts.cluster_name, "endpoint": facts.endpoint})),
        document("KubeNodeConfig", node),
        document("KubeletConfig", kubelet),
        document("KubeNetworkConfig", network),
        document("KubeAPIServerCAConfig", ca),
        document("KubePrismConfig", json!({"port": 7445})),
    ]
}

fn pem_pair(pair: &CertificateAndKey) -> Value {
    json!({"cert": pair.certificate, "key": pair.key.expose_secret()})
}

/// Authentication, authorization and encryption of the API server.
fn kubernetes_secrets(facts: &GenerateInput<'_>) -> Vec<Value> {
    let bundle = facts.bundle;
    let anonymous = ["/livez", "/readyz", "/healthz"].map(|path| json!({"path": path}));
    let authentication = json!({"anonymous": {"enabled": true, "conditions": anonymous}, "jwt": []});
    let keys = [("secretbox", "key2", &bundle.secretbox_key), ("aescbc", "key1", &bundle.aescbc_key)];
    let providers: Vec<Value> = keys
        .into_iter()
        .filter_map(|(provider, name, key)| {
            let key = key.as_ref()?.expose_secret();
            Some(json!({provider: {"keys": [{"name": name, "secret": key}]}}))
        })
        .collect();
    let encryption = json!({"resources": [{"providers": providers, "resources": ["secrets"]}]});
    let issuer = json!({"privateKey": bundle.service_account_key.expose_secret(), "issuerURL": facts.endpoint});
    vec![
        document("KubeAggregatorCAConfig", json!({"issuingCA": pem_pair(&bundle.aggregator)})),
        document("KubeAdmissionControlConfig", json!({"name": "PodSecurity", "configuration": pod_security()})),
        document("KubeAuditPolicyConfig", json!({"configuration": audit_policy()})),
        document("KubeAuthenticationConfig", json!({"configuration": authentication})),
        document("KubeAuthorizerConfig", json!({"name": "node", "type": "Node"})),
        document("KubeAuthorizerConfig", json!({"name": "rbac", "type": "RBAC"})),
        document("KubeEtcdEncryptionConfig", json!({"config": encryption})),
        document("KubeServiceAccountConfig", json!({"issuer": issuer})),
    ]
}

fn kubernetes_components(facts: &GenerateInput<'_>, options: &GenerateOptions) -> Vec<Value> {
    let component = |name: &str| json!({"image": image(&format!("registry.k8s.io/{name}"), facts)});
    let mut api_server = component("kube-apiserver");
    api_server["certExtraSANs"] = json!(options.additional_sans);
    vec![
        document("KubeAPIServerConfig", api_server),
        document("KubeControllerManagerConfig", component("kube-controller-manager")),
        document("KubeSchedulerConfig", component("kube-scheduler")),
        document("KubeProxyConfig", component("kube-proxy")),
        document("KubeFlannelCNIConfig", json!({"backendType": "vxlan", "backendPort": 4789})),
        document("KubeCoreDNSConfig", json!({"enabled": true})),
    ]
}
