//! Renders the machine config of a node from a talconfig and a secrets bundle.

use std::collections::BTreeMap;
use std::path::Path;

use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use super::model::{Machine, Section, Talconfig};
use super::{documents, image, types};
use crate::{GenerateInput, RenderedConfig, Role, SecretsBundle, generate};
use talos_schema::document::put;
use talos_schema::{Documents, merge};
use template::{Functions, TemplateSource};
use yaml::{Diagnostic, Diagnostics, Location};

const POD_SUBNETS: &str = "10.244.0.0/16";
const SERVICE_SUBNETS: &str = "10.96.0.0/12";

/// The YAML path of a field of the legacy document.
type Steps = &'static [&'static str];

impl Talconfig {
    /// Renders all documents of a node's machine config.
    ///
    /// # Errors
    ///
    /// A patch or template cannot be applied.
    pub fn render(&self, bundle: &SecretsBundle, machine: &Machine) -> Result<RenderedConfig, Diagnostics> {
        let image = image::installer(&self.factory, &machine.section, &self.talos_version)?;
        let mut rendered = self.generated(bundle, machine, &image);
        self.cluster_fields(&mut rendered, bundle, machine);
        self.node_fields(&mut rendered, machine);
        templates(&mut rendered, &machine.section, &self.variables)?;
        self.documents(&mut rendered, machine)?;
        self.apply(&mut rendered, &machine.patches)?;
        self.apply(&mut rendered, &self.patches)?;
        self.add(&mut rendered, &machine.extra_manifests)?;
        Ok(rendered)
    }

    /// Whether the contract has network documents.
    fn generated(&self, bundle: &SecretsBundle, machine: &Machine, image: &str) -> RenderedConfig {
        let subnets = |key: &str, default: &str| {
            let given = self.section.strings(key);
            if given.is_empty() { vec![default.to_owned()] } else { given }
        };
        let (pods, services) = (subnets("clusterPodNets", POD_SUBNETS), subnets("clusterSvcNets", SERVICE_SUBNETS));
        let facts = GenerateInput {
            contract: self.contract,
            cluster_name: &self.cluster_name,
            endpoint: self.section.text("endpoint").unwrap_or_default(),
            kubernetes_version: &self.kubernetes_version,
            install_image: image,
            install_disk: machine.section.text("installDisk").unwrap_or_default(),
            dns_domain: self.section.text("domain").unwrap_or("cluster.local"),
            pod_subnets: &pods,
            service_subnets: &services,
            bundle,
        };
        let mut documents = generate(&facts, machine.role);
        // talhelper's library is newer than Talos 1.11 and omits the empty section.
        if documents.legacy().and_then(|config| config.pointer("/machine/registries")) == Some(&json!({})) {
            remove(documents.legacy_mut(), &["machine"], "registries");
        }
        let mut rendered = RenderedConfig::new(&format!("generated for Talos {}", self.contract), None, documents);
        for (key, path) in [
            ("clusterName", &["cluster", "clusterName"][..]),
            ("endpoint", &["cluster", "controlPlane", "endpoint"]),
            ("domain", &["cluster", "network", "dnsDomain"]),
            ("clusterPodNets", &["cluster", "network", "podSubnets"]),
            ("clusterSvcNets", &["cluster", "network", "serviceSubnets"]),
        ] {
            rendered.attribute(path, self.section.at(key));
        }
        rendered.attribute(&["machine", "install", "disk"], machine.section.at("installDisk"));
        let schematic = ["talosImageURL", "schematic"].into_iter().find_map(|key| machine.section.at(key));
        rendered.attribute(&["machine", "install", "image"], schematic.or_else(|| self.section.at("talosVersion")));
        rendered
    }

    fn cluster_fields(&self, rendered: &mut RenderedConfig, bundle: &SecretsBundle, machine: &Machine) {
        if let Some(key) = &bundle.aescbc_key {
            set(rendered, None, &["cluster", "aescbcEncryptionSecret"], json!(key.expose_secret()));
        }
        let sans = |key: &str| self.section.strings(key);
        let machine_sans = [sans("additionalMachineCertSans"), machine.section.strings("certSANs")].concat();
        if !machine_sans.is_empty() {
            let at = machine.section.at("certSANs").or_else(|| self.section.at("additionalMachineCertSans"));
            set(rendered, at, &["machine", "certSANs"], json!(machine_sans));
        }
        if let Some(cni) = self.section.object("cniConfig") {
            set(
                rendered,
                self.section.at("cniConfig"),
                &["cluster", "network", "cni"],
                types::encode("CNIConfig", cni),
            );
        }
        if !self.inline_manifests.is_empty() {
            let at = self.section.at("inlineManifests");
            set(rendered, at, &["cluster", "inlineManifests"], json!(self.inline_manifests));
        }
        if machine.role == Role::Worker {
            return;
        }
        let api_sans = sans("additionalApiServerCertSans");
        if !api_sans.is_empty() {
            let before = rendered.documents.legacy().and_then(|config| config.pointer("/cluster/apiServer/certSANs"));
            let mut all = before.and_then(Value::as_array).cloned().unwrap_or_default();
            all.extend(api_sans.into_iter().map(Value::from));
            let at = self.section.at("additionalApiServerCertSans");
            set(rendered, at, &["cluster", "apiServer", "certSANs"], json!(all));
        }
        let schedulable = ["allowSchedulingOnControlPlanes", "allowSchedulingOnMasters"];
        if let Some(key) = schedulable.into_iter().find(|key| self.section.flag(key)) {
            set(rendered, self.section.at(key), &["cluster", "allowSchedulingOnControlPlanes"], json!(true));
        }
    }

    fn node_fields(&self, rendered: &mut RenderedConfig, machine: &Machine) {
        let section = &machine.section;
        if !documents::has_network_documents(self.contract) {
            legacy_network(rendered, machine);
        }
        if let Some(selector) = section.object("installDiskSelector") {
            let path: Steps = &["machine", "install", "diskSelector"];
            set(rendered, section.at("installDiskSelector"), path, types::encode("InstallDiskSelector", selector));
            if section.text("installDisk").is_none() {
                rendered.set("installDiskSelector", section.at("installDiskSelector"), |documents| {
                    remove(documents.legacy_mut(), &["machine", "install"], "disk");
                });
            }
        }
        if !section.list("machineDisks").is_empty() {
            set(
                rendered,
                section.at("machineDisks"),
                &["machine", "disks"],
                encoded(section, "machineDisks", "MachineDisk"),
            );
        }
        if !section.list("kernelModules").is_empty() {
            let modules = encoded(section, "kernelModules", "KernelModuleConfig");
            set(rendered, section.at("kernelModules"), &["machine", "kernel", "modules"], modules);
        }
        for key in ["nodeAnnotations", "nodeLabels", "nodeTaints"] {
            node_map(rendered, section, key);
        }
        if !machine.files.is_empty() {
            set(rendered, section.at("machineFiles"), &["machine", "files"], json!(machine.files));
        }
        let arguments = section.object("schematic").and_then(|schematic| schematic.get("customization"));
        let arguments = arguments.and_then(|customization| customization.get("extraKernelArgs"));
        let uki = section.object("machineSpec").is_some_and(|spec| spec.get("useUKI") == Some(&json!(true)));
        if let Some(arguments) =
            arguments.filter(|list| !uki && !documents::has_network_documents(self.contract) && **list != json!([]))
        {
            set(rendered, section.at("schematic"), &["machine", "install", "extraKernelArgs"], arguments.clone());
        }
    }

    /// Merges the documents beside the legacy one into the generated ones.
    fn documents(&self, rendered: &mut RenderedConfig, machine: &Machine) -> Result<(), Diagnostics> {
        for (key, document) in documents::from_machine(machine, self.contract) {
            let at = machine.section.at(key).unwrap_or(&machine.at).clone();
            let merged = merge(&rendered.documents, &Documents(vec![document]))
                .map_err(|error| Diagnostic::at_location(at.clone(), format!("cannot merge `{key}`: {error}")))?;
            rendered.set(key, Some(&at), |documents| *documents = merged);
        }
        Ok(())
    }
}

/// Sets labels, annotations or taints, which replace the generated ones. Templates are rendered later.
fn node_map(rendered: &mut RenderedConfig, section: &Section, key: &'static str) {
    let Some(map) = section.object(key) else { return };
    let plain = map.iter().filter(|(_, value)| key == "nodeTaints" || !is_template(value));
    let plain: Map<String, Value> = plain.map(|(key, value)| (key.clone(), value.clone())).collect();
    rendered.set(key, section.at(key), |documents| {
        let config = documents.legacy_mut();
        if plain.is_empty() {
            remove(config, &["machine"], key);
        } else {
            put(config, &["machine", key], Value::Object(plain));
        }
    });
}

fn encoded(section: &Section, key: &str, of: &str) -> Value {
    section.list(key).iter().filter_map(Value::as_object).map(|map| types::encode(of, map)).collect()
}

fn set(rendered: &mut RenderedConfig, at: Option<&Location>, path: Steps, value: Value) {
    rendered.set("talconfig", at, |documents| put(documents.legacy_mut(), path, value));
}

/// Sets the network fields of the legacy document (contracts before 1.12).
fn legacy_network(rendered: &mut RenderedConfig, machine: &Machine) {
    let section = &machine.section;
    if !section.flag("ignoreHostname") {
        set(rendered, section.at("hostname"), &["machine", "network", "hostname"], json!(machine.hostname));
    }
    let nameservers = section.strings("nameservers");
    if !nameservers.is_empty() {
        set(rendered, section.at("nameservers"), &["machine", "network", "nameservers"], json!(nameservers));
    }
    if section.flag("disableSearchDomain") {
        let at = section.at("disableSearchDomain");
        set(rendered, at, &["machine", "network", "disableSearchDomain"], json!(true));
    }
    if !section.list("networkInterfaces").is_empty() {
        let interfaces = encoded(section, "networkInterfaces", "Device");
        set(rendered, section.at("networkInterfaces"), &["machine", "network", "interfaces"], interfaces);
    }
}

fn is_template(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.contains("{{") || text.contains("}}"))
}

/// Renders labels and annotations that are templates. All of them see the config before the first one is set.
fn templates(
    rendered: &mut RenderedConfig,
    section: &Section,
    variables: &BTreeMap<String, String>,
) -> Result<(), Diagnostics> {
    let view = types::view(rendered.documents.legacy().unwrap_or(&Value::Null));
    let functions = Functions::new(Path::new("."), Path::new("."), variables);
    let mut found = Diagnostics::default();
    for key in ["nodeLabels", "nodeAnnotations"] {
        let Some(at) = section.at(key) else { continue };
        for (name, value) in section.object(key).into_iter().flatten().filter(|(_, value)| is_template(value)) {
            let mut source = TemplateSource::file(&at.origin, value.as_str().unwrap_or_default());
            source.start = at.position;
            match template::render(&source, &view, &functions) {
                Ok(text) => rendered.set(key, Some(at), |documents| {
                    put(documents.legacy_mut(), &["machine", key, name], json!(text));
                }),
                Err(mut diagnostic) => {
                    diagnostic.message = format!("`{key}.{name}`: {}", diagnostic.message);
                    found.push(diagnostic);
                }
            }
        }
    }
    found.into_result(())
}

fn remove(config: &mut Value, path: &[&str], key: &str) {
    let mut current = config;
    for step in path {
        current = &mut current[*step];
    }
    if let Some(map) = current.as_object_mut() {
        map.shift_remove(key);
    }
}
