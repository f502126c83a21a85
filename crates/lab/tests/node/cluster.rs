//! A cluster's identity and machine configs, made here and for this: nothing of it comes from the code under test.

use std::ops::RangeInclusive;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm,
};
use serde_json::{Value, json};

/// A certificate with its key, as PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

pub struct Cluster {
    pub machine: Pair,
    kubernetes: Pair,
    aggregator: Pair,
    etcd: Pair,
    service_account: String,
    endpoint: String,
}

fn named(organization: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if !organization.is_empty() {
        name.push(DnType::OrganizationName, organization);
    }
    name
}

fn authority(organization: &str, algorithm: &'static SignatureAlgorithm) -> Pair {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = named(organization);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Pair { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

/// A P-256 key in the older form, the only one in which the API server reads a public key out of a private one.
fn sec1(key: &KeyPair) -> String {
    const BEGIN: [u8; 5] = [0x02, 0x01, 0x01, 0x04, 0x20];
    const CURVE: [u8; 12] = [0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let der = key.serialize_der();
    let begin = der.windows(BEGIN.len()).position(|bytes| bytes == BEGIN).unwrap();
    let inner = [&der[begin..begin + BEGIN.len() + 32], &CURVE[..]].concat();
    let length = u8::try_from(inner.len()).unwrap();
    pem::encode(&pem::Pem::new("EC PRIVATE KEY", [&[0x30, length][..], &inner].concat()))
}

fn encoded(text: &str) -> String {
    STANDARD.encode(text)
}

impl Pair {
    fn both(&self) -> Value {
        json!({"crt": encoded(&self.certificate), "key": encoded(&self.key)})
    }

    fn certificate(&self) -> Value {
        json!({"crt": encoded(&self.certificate)})
    }
}

impl Cluster {
    /// A cluster whose Kubernetes API is at the address.
    pub fn new(address: std::net::Ipv4Addr) -> Self {
        let service_account = sec1(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap());
        Self {
            machine: authority("talos", &PKCS_ED25519),
            kubernetes: authority("kubernetes", &PKCS_ECDSA_P256_SHA256),
            aggregator: authority("", &PKCS_ECDSA_P256_SHA256),
            etcd: authority("etcd", &PKCS_ECDSA_P256_SHA256),
            service_account,
            endpoint: format!("https://{address}:6443"),
        }
    }

    pub fn control_plane(&self, hostname: &str) -> String {
        yaml::to_string(&self.control_plane_value(hostname)).unwrap()
    }

    /// A control plane without etcd's CA.
    pub fn without_etcd(&self, hostname: &str) -> String {
        let mut config = self.control_plane_value(hostname);
        config["cluster"].as_object_mut().unwrap().remove("etcd");
        yaml::to_string(&config).unwrap()
    }

    /// A control plane whose installation is a document of its own (1.14).
    pub fn unattended(&self, hostname: &str) -> String {
        let mut config = self.control_plane_value(hostname);
        config["machine"].as_object_mut().unwrap().remove("install");
        let document = json!({
            "apiVersion": "v1alpha1", "kind": "UnattendedInstallConfig",
            "installer": {"image": "ghcr.io/siderolabs/installer:v1.14.0"},
            "provisioning": {"diskSelector": {"match": "disk.dev_path == '/dev/nvme0n1'"}},
        });
        format!("{}---\n{}", yaml::to_string(&config).unwrap(), yaml::to_string(&document).unwrap())
    }

    fn control_plane_value(&self, hostname: &str) -> Value {
        let mut config = self.worker_value(hostname);
        config["machine"]["type"] = json!("controlplane");
        config["machine"]["ca"] = self.machine.both();
        let cluster = &mut config["cluster"];
        cluster["ca"] = self.kubernetes.both();
        cluster["aggregatorCA"] = self.aggregator.both();
        cluster["serviceAccount"] = json!({"key": encoded(&self.service_account)});
        cluster["etcd"] = json!({"ca": self.etcd.both()});
        cluster["secretboxEncryptionSecret"] = json!(STANDARD.encode([7; 32]));
        cluster["allowSchedulingOnControlPlanes"] = json!(true);
        cluster["apiServer"] = json!({"image": "registry.k8s.io/kube-apiserver:v1.34.3"});
        config
    }

    pub fn worker(&self, hostname: &str) -> String {
        yaml::to_string(&self.worker_value(hostname)).unwrap()
    }

    fn worker_value(&self, hostname: &str) -> Value {
        json!({
            "version": "v1alpha1", "debug": false, "persist": true,
            "machine": {
                "type": "worker", "token": "abcdef.0123456789abcdef", "ca": self.machine.certificate(), "certSANs": [],
                "kubelet": {"image": "ghcr.io/siderolabs/kubelet:v1.34.3"},
                "network": {"hostname": hostname},
                "install": {"disk": "/dev/nvme0n1", "image": "ghcr.io/siderolabs/installer:v1.12.4", "wipe": false},
                "features": {"hostDNS": {"enabled": true}},
            },
            "cluster": {
                "id": STANDARD.encode([3; 32]), "secret": STANDARD.encode([5; 32]),
                "controlPlane": {"endpoint": self.endpoint}, "clusterName": "lab", "token": "abcdef.0123456789abcdef",
                "network": {
                    "dnsDomain": "cluster.local", "cni": {"name": "none"},
                    "podSubnets": ["10.244.0.0/16"], "serviceSubnets": ["10.96.0.0/12"],
                },
                "proxy": {"disabled": true}, "discovery": {"enabled": true},
                "ca": self.kubernetes.certificate(),
            },
        })
    }

    /// A client certificate for these roles.
    pub fn client(&self, roles: &[&str]) -> Pair {
        self.client_in(roles, 1975..=4096)
    }

    /// The same, valid in these years, as it is issued by a machine whose clock is wrong.
    pub fn client_in(&self, roles: &[&str], years: RangeInclusive<i32>) -> Pair {
        let authority =
            Issuer::from_ca_cert_pem(&self.machine.certificate, KeyPair::from_pem(&self.machine.key).unwrap());
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for role in roles {
            params.distinguished_name.push(DnType::OrganizationName, *role);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = rcgen::date_time_ymd(*years.start(), 1, 1);
        params.not_after = rcgen::date_time_ymd(*years.end(), 1, 1);
        let certificate = params.signed_by(&key, &authority.unwrap()).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    pub fn talosconfig(&self, endpoint: &str, nodes: &[&str]) -> String {
        let admin = self.client(&["os:admin"]);
        let config = json!({"context": "lab", "contexts": {"lab": {
            "endpoints": [endpoint], "nodes": nodes,
            "ca": encoded(&self.machine.certificate), "crt": encoded(&admin.certificate), "key": encoded(&admin.key),
        }}});
        yaml::to_string(&config).unwrap()
    }
}
