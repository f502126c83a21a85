//! Which kinds of resources a machine has, as `talosctl get` needs to know them: names, aliases, columns.

use prost::Message;
use serde_json::json;

use super::Item;
use crate::node::talos::Talos;

/// A kind of resource.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// In the plural.
    name: &'static str,
    singular: &'static str,
    suffix: &'static str,
    pub(super) namespace: &'static str,
    aliases: &'static [&'static str],
    columns: &'static [(&'static str, &'static str)],
    pub(super) sensitive: bool,
    /// The first minor version of Talos that has it.
    since: u64,
}

const fn kind(name: &'static str, singular: &'static str, suffix: &'static str, namespace: &'static str) -> Kind {
    Kind { name, singular, suffix, namespace, aliases: &[], columns: &[], sensitive: false, since: 11 }
}

impl Kind {
    const fn columns(mut self, columns: &'static [(&'static str, &'static str)]) -> Self {
        self.columns = columns;
        self
    }

    const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn since(mut self, minor: u64) -> Self {
        self.since = minor;
        self
    }

    const fn sensitive(mut self) -> Self {
        self.sensitive = true;
        self
    }

    pub(super) fn full_name(&self) -> String {
        format!("{}.{}", self.name, self.suffix)
    }
}

const KINDS: &[Kind] = &[
    kind("ResourceDefinitions", "ResourceDefinition", "meta.cosi.dev", "meta")
        .aliases(&["api-resources"])
        .columns(&[("Aliases", "{.aliases[:]}")]),
    kind("Namespaces", "Namespace", "meta.cosi.dev", "meta").aliases(&["ns"]),
    kind("MachineStatuses", "MachineStatus", "runtime.talos.dev", "runtime")
        .columns(&[("Stage", "{.stage}"), ("Ready", "{.status.ready}")]),
    kind("Versions", "Version", "runtime.talos.dev", "runtime").columns(&[("Version", "{.version}")]),
    kind("SecurityStates", "SecurityState", "talos.dev", "runtime")
        .columns(&[("SecureBoot", "{.secureBoot}"), ("SELinuxState", "{.seLinuxState}")]),
    kind("Diagnostics", "Diagnostic", "runtime.talos.dev", "runtime").columns(&[("Message", "{.message}")]),
    kind("UnattendedInstallStatuses", "UnattendedInstallStatus", "runtime.talos.dev", "runtime")
        .columns(&[("Phase", "{.phase}"), ("Error", "{.error}")])
        .since(14),
    kind("RebootRequests", "RebootRequest", "runtime.talos.dev", "runtime").since(14),
    kind("BootIDs", "BootID", "runtime.talos.dev", "runtime").columns(&[("Boot ID", "{.bootID}")]).since(14),
    kind("MachineConfigs", "MachineConfig", "config.talos.dev", "config").sensitive(),
    kind("MachineTypes", "MachineType", "config.talos.dev", "config").columns(&[("Type", "{@}")]),
    kind("Members", "Member", "cluster.talos.dev", "cluster").columns(&[
        ("Hostname", "{.hostname}"),
        ("Machine Type", "{.machineType}"),
        ("OS", "{.operatingSystem}"),
        ("Addresses", "{.addresses}"),
    ]),
    kind("Identities", "Identity", "cluster.talos.dev", "cluster").columns(&[("ID", "{.nodeId}")]),
    kind("Infos", "Info", "cluster.talos.dev", "cluster")
        .columns(&[("Cluster ID", "{.clusterId}"), ("Cluster Name", "{.clusterName}")]),
    kind("Nodenames", "Nodename", "kubernetes.talos.dev", "k8s").columns(&[("Nodename", "{.nodename}")]),
    kind("NodeStatuses", "NodeStatus", "kubernetes.talos.dev", "k8s")
        .columns(&[("Ready", "{.nodeReady}"), ("Unschedulable", "{.unschedulable}")]),
    kind("StaticPodStatuses", "StaticPodStatus", "kubernetes.talos.dev", "k8s")
        .aliases(&["podstatus"])
        .columns(&[("Ready", "{.conditions[?(@.type==\"Ready\")].status}")]),
    kind("BootstrapManifestsConfigs", "BootstrapManifestsConfig", "kubernetes.talos.dev", "controlplane"),
    kind("Services", "Service", "v1alpha1.talos.dev", "runtime").aliases(&["svc"]).columns(&[
        ("Running", "{.running}"),
        ("Healthy", "{.healthy}"),
        ("Health Unknown", "{.unknown}"),
    ]),
    kind("TimeStatuses", "TimeStatus", "v1alpha1.talos.dev", "runtime").columns(&[("Synced", "{.synced}")]),
    kind("EtcdMembers", "EtcdMember", "etcd.talos.dev", "etcd").columns(&[("Member ID", "{.memberID}")]),
    kind("Disks", "Disk", "block.talos.dev", "runtime").columns(&[
        ("Size", "{.pretty_size}"),
        ("Read Only", "{.readonly}"),
        ("Transport", "{.transport}"),
        ("Rotational", "{.rotational}"),
        ("WWID", "{.wwid}"),
        ("Model", "{.model}"),
        ("Serial", "{.serial}"),
    ]),
    kind("SystemDisks", "SystemDisk", "block.talos.dev", "runtime").columns(&[("Disk", "{.diskID}")]),
    kind("VolumeStatuses", "VolumeStatus", "block.talos.dev", "runtime").columns(&[
        ("Type", "{.type}"),
        ("Phase", "{.phase}"),
        ("Location", "{.location}"),
        ("Size", "{.prettySize}"),
    ]),
    kind("LinkStatuses", "LinkStatus", "net.talos.dev", "network").aliases(&["link", "links"]).columns(&[
        ("Alias", "{.alias}"),
        ("Type", "{.type}"),
        ("Kind", "{.kind}"),
        ("Hw Addr", "{.hardwareAddr}"),
        ("Oper State", "{.operationalState}"),
        ("Link State", "{.linkState}"),
    ]),
    kind("AddressStatuses", "AddressStatus", "net.talos.dev", "network")
        .aliases(&["address", "addresses"])
        .columns(&[("Address", "{.address}"), ("Link", "{.linkName}")]),
    kind("NodeAddresses", "NodeAddress", "net.talos.dev", "network")
        .columns(&[("Addresses", "{.addresses}"), ("SortAlgorithm", "{.sortAlgorithm}")]),
    kind("HostnameStatuses", "HostnameStatus", "net.talos.dev", "network")
        .aliases(&["hostname"])
        .columns(&[("Hostname", "{.hostname}"), ("Domainname", "{.domainname}")]),
    kind("NetworkStatuses", "NetworkStatus", "net.talos.dev", "network")
        .aliases(&["netstatus", "netstatuses"])
        .columns(&[
            ("Address", "{.addressReady}"),
            ("Connectivity", "{.connectivityReady}"),
            ("Hostname", "{.hostnameReady}"),
            ("Etc", "{.etcFilesReady}"),
        ]),
];

/// The kinds of this version.
pub(super) fn all(talos: &Talos) -> impl Iterator<Item = &'static Kind> {
    let minor = talos.minor();
    KINDS.iter().filter(move |kind| kind.since <= minor)
}

/// By full name, in whatever case, as Talos looks it up.
pub(super) fn find(talos: &Talos, name: &str) -> Option<&'static Kind> {
    all(talos).find(|kind| kind.full_name().eq_ignore_ascii_case(name))
}

pub(super) fn is_namespace(name: &str) -> bool {
    KINDS.iter().any(|kind| kind.namespace == name)
}

/// Every namespace.
pub(super) fn namespaces() -> Vec<Item> {
    let names: std::collections::BTreeSet<_> = KINDS.iter().map(|kind| kind.namespace).collect();
    names.into_iter().map(|name| Item::new(name, &(), json!({"description": ""}))).collect()
}

#[derive(Clone, PartialEq, Message)]
struct PrintColumn {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    json_path: String,
}

#[derive(Clone, PartialEq, Message)]
struct Definition {
    #[prost(string, tag = "1")]
    resource_type: String,
    #[prost(string, tag = "2")]
    display_type: String,
    #[prost(string, tag = "3")]
    default_namespace: String,
    #[prost(string, repeated, tag = "4")]
    aliases: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    all_aliases: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    print_columns: Vec<PrintColumn>,
    #[prost(int32, tag = "7")]
    sensitivity: i32,
}

impl Kind {
    /// Given ones, the singular, the initials; and for matching the plural with every shorter suffix too.
    fn names(&self) -> (Vec<String>, Vec<String>) {
        let mut aliases: Vec<String> = self.aliases.iter().map(|&alias| alias.to_owned()).collect();
        aliases.push(self.singular.to_lowercase());
        let initials: String = self.name.chars().filter(char::is_ascii_uppercase).collect();
        if initials.len() > 1 {
            aliases.push(initials.to_lowercase());
            if !initials.ends_with('S') {
                aliases.push(format!("{}s", initials.to_lowercase()));
            }
        }
        let plural = self.name.to_lowercase();
        let suffixes: Vec<&str> = self.suffix.split('.').collect();
        let dotted = (1..suffixes.len()).map(|end| format!("{plural}.{}", suffixes[..end].join(".")));
        let all = std::iter::once(plural.clone()).chain(dotted).chain(aliases.iter().cloned()).collect();
        (aliases, all)
    }

    fn definition(&self) -> Item {
        let (aliases, all_aliases) = self.names();
        let column =
            |(name, path): &(&str, &str)| PrintColumn { name: (*name).to_owned(), json_path: (*path).to_owned() };
        let message = Definition {
            resource_type: self.full_name(),
            display_type: self.singular.to_owned(),
            default_namespace: self.namespace.to_owned(),
            aliases: aliases.clone(),
            all_aliases: all_aliases.clone(),
            print_columns: self.columns.iter().map(column).collect(),
            sensitivity: self.sensitive.into(),
        };
        let columns: Vec<_> = self.columns.iter().map(|(name, path)| json!({"name": name, "jsonPath": path})).collect();
        let mut text = json!({
            "type": self.full_name(), "displayType": self.singular, "defaultNamespace": self.namespace,
            "aliases": aliases, "allAliases": all_aliases, "printColumns": columns,
        });
        if self.sensitive {
            text["sensitivity"] = json!("sensitive");
        }
        Item::new(&self.full_name().to_lowercase(), &message, text)
    }
}

/// The definitions of all kinds.
pub(super) fn definitions(talos: &Talos) -> Vec<Item> {
    all(talos).map(Kind::definition).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_as_cosi_makes_them() {
        let talos = Talos::parse("v1.12.4").unwrap();
        let status = find(&talos, "machinestatuses.runtime.talos.dev").unwrap();
        let (aliases, all) = status.names();
        assert_eq!(aliases, ["machinestatus", "ms"]);
        let all_expected =
            ["machinestatuses", "machinestatuses.runtime", "machinestatuses.runtime.talos", "machinestatus", "ms"];
        assert_eq!(all, all_expected);
        let (aliases, _) = find(&talos, "MachineConfigs.config.talos.dev").unwrap().names();
        assert_eq!(aliases, ["machineconfig", "mc", "mcs"]);
    }

    #[test]
    fn no_two_kinds_of_a_version_share_a_name_that_is_asked_for() {
        let talos = Talos::parse("v1.14.0").unwrap();
        for name in
            ["machinestatus", "members", "member", "mc", "machineconfig", "disks", "links", "services", "version"]
        {
            let matching = all(&talos).filter(|kind| kind.names().1.iter().any(|alias| alias == name)).count();
            assert_eq!(matching, 1, "{name}");
        }
    }

    #[test]
    fn kinds_of_later_versions_are_unknown_to_earlier_ones() {
        assert!(find(&Talos::parse("v1.13.0").unwrap(), "BootIDs.runtime.talos.dev").is_none());
        assert!(find(&Talos::parse("v1.14.0").unwrap(), "BootIDs.runtime.talos.dev").is_some());
    }
}
