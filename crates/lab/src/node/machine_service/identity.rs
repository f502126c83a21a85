//! Calls for the machine's version, files and credentials, and for META.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use error_report::ErrorReport;
use serde_json::json;
use talos_proto::common::Data;
use talos_proto::machine as api;
use tonic::Status;

use crate::control_plane;
use crate::node::api::NodeApi;
use crate::node::logs::{DataStream, to_chunks};
use crate::pki::{CertificateAuthority, CertificatePurpose, CertificateSubject, KeyAlgorithm, TlsMaterialError};
use crate::yaml_text::to_yaml;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

pub(super) fn memory_info() -> api::Memory {
    let meminfo = api::MemInfo { memtotal: 32 << 20, memfree: 24 << 20, memavailable: 28 << 20 };
    api::Memory { metadata: None, meminfo: Some(meminfo) }
}

impl NodeApi {
    pub(super) fn version_info(&self) -> api::Version {
        let version = api::VersionInfo {
            tag: self.node.talos().tag().to_owned(),
            sha: "rehearsal".to_owned(),
            built: String::new(),
            go_version: "go1.25.0".to_owned(),
            os: "linux".to_owned(),
            arch: "amd64".to_owned(),
        };
        api::Version {
            metadata: None,
            version: Some(version),
            platform: Some(api::PlatformInfo { name: "metal".to_owned(), mode: "metal".to_owned() }),
            features: self.node.config().map(|_| api::FeaturesInfo { rbac: true }),
        }
    }

    pub(super) fn boot_time(&self) -> api::SystemStat {
        let seconds = self.node.state.borrow().booted_at.as_second();
        api::SystemStat { metadata: None, boot_time: u64::try_from(seconds).unwrap_or_default() }
    }

    pub(super) fn file(&self, path: &str) -> Result<DataStream, Status> {
        if !path.starts_with('/') {
            return Err(Status::unknown(format!("path is not absolute {path}")));
        }
        if path != BOOT_ID {
            return Err(Status::not_found(format!("stat {path}: no such file or directory")));
        }
        let boot_id = self.node.state.borrow().boot_id.clone();
        Ok(to_chunks(format!("{boot_id}\n").as_bytes()))
    }

    pub(super) fn kubeconfig_archive(&self) -> Result<DataStream, Status> {
        let config = self.control_plane_only("kubeconfig")?;
        let archive = control_plane::kubeconfig_archive(&config)
            .map_err(|error| Status::internal(ErrorReport::new(&error).to_string()))?;
        // Talos sends it in one chunk.
        Ok(Box::pin(futures::stream::iter([Ok(Data { metadata: None, bytes: archive })])))
    }

    pub(super) fn client_configuration(
        &self,
        request: &api::GenerateClientConfigurationRequest,
    ) -> Result<api::GenerateClientConfiguration, Status> {
        let config = if self.node.talos().rejects_control_plane_methods_uniformly() {
            self.control_plane_only("generate client configuration")?
        } else {
            let message = "client configuration (talosconfig) can't be generated on worker nodes";
            self.control_plane_only("").map_err(|_| Status::failed_precondition(message))?
        };
        let ttl = request.crt_ttl.unwrap_or_default();
        let ttl = std::time::Duration::try_from(ttl).ok().filter(|ttl| !ttl.is_zero());
        let ttl = ttl.ok_or_else(|| Status::invalid_argument("crt_ttl should be positive"))?;
        let unknown = |error: TlsMaterialError| Status::unknown(ErrorReport::new(&error).to_string());
        let authority = CertificateAuthority::from_pem(&config.ca.certificate, &config.ca.key).map_err(unknown)?;
        let subject = CertificateSubject {
            common_name: "",
            organizations: request.roles.iter().map(String::as_str).collect(),
            addresses: vec![],
            dns_names: vec![],
            purpose: CertificatePurpose::Client,
            key: KeyAlgorithm::Ed25519,
        };
        let leaf = authority.issue_for(&subject, ttl).map_err(unknown)?;
        let role = request.roles.first().map(|role| role.trim_start_matches("os:"));
        let context = match (role, request.roles.len()) {
            (Some(role), 1) => format!("{role}@{}", config.cluster_name),
            _ => config.cluster_name.clone(),
        };
        let talosconfig = json!({"context": context, "contexts": {context.clone(): {
            "endpoints": [],
            "ca": STANDARD.encode(&config.ca.certificate),
            "crt": STANDARD.encode(&leaf.certificate),
            "key": STANDARD.encode(&leaf.key),
        }}});
        Ok(api::GenerateClientConfiguration {
            metadata: None,
            ca: config.ca.certificate.clone().into_bytes(),
            crt: leaf.certificate.into_bytes(),
            key: leaf.key.into_bytes(),
            talosconfig: to_yaml(&talosconfig).into_bytes(),
        })
    }

    fn meta_key(key: u32) -> Result<u8, Status> {
        u8::try_from(key).map_err(|_| Status::invalid_argument("key must be a uint8"))
    }

    pub(super) fn write_meta(&self, request: api::MetaWriteRequest) -> Result<api::MetaWrite, Status> {
        let key = Self::meta_key(request.key)?;
        self.node.change(|state| {
            state.disk.meta.insert(key, request.value);
        });
        Ok(api::MetaWrite::default())
    }

    pub(super) fn delete_meta(&self, key: u32) -> Result<api::MetaDelete, Status> {
        let key = Self::meta_key(key)?;
        let mut found = false;
        self.node.change(|state| found = state.disk.meta.remove(&key).is_some());
        if found { Ok(api::MetaDelete::default()) } else { Err(Status::not_found("meta key not found")) }
    }
}
