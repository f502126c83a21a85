//! The resource kinds of a machine with their names, aliases and columns, which `talosctl get` reads.

use prost::Message;
use serde_json::json;

use super::ResourceItem;
use crate::node::talos_version::TalosVersion;

/// A column of `talosctl get`.
#[derive(Debug, Clone, Copy)]
struct Column {
    name: &'static str,
    json_path: &'static str,
}

const fn column(name: &'static str, json_path: &'static str) -> Column {
    Column { name, json_path }
}

/// The names by which a kind can be queried.
struct KindNames {
    aliases: Vec<String>,
    all: Vec<String>,
}

/// A resource kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct ResourceKind {
    /// In the plural.
    name: &'static str,
    singular: &'static str,
    suffix: &'static str,
    pub(super) namespace: &'static str,
    aliases: &'static [&'static str],
    columns: &'static [Column],
    pub(super) sensitive: bool,
    /// The first minor version of Talos that has it.
    since: u64,
}

const fn kind(
    name: &'static str,
    singular: &'static str,
    suffix: &'static str,
    namespace: &'static str,
) -> ResourceKind {
    ResourceKind { name, singular, suffix, namespace, aliases: &[], columns: &[], sensitive: false, since: 11 }
}

impl ResourceKind {
    const fn columns(mut self, columns: &'static [Column]) -> Self {
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

const KINDS: &[ResourceKind] = &[
    kind("ResourceDefinitions", "ResourceDefinition", "meta.cosi.dev", "meta")
        .aliases(&["api-resources"])
        .columns(&[column("Aliases", "{.aliases[:]}")]),
    kind("Namespaces", "Namespace", "meta.cosi.dev", "meta").aliases(&["ns"]),
    kind("MachineStatuses", "MachineStatus", "runtime.talos.dev", "runtime")
        .columns(&[column("Stage", "{.stage}"), column("Ready", "{.status.ready}")]),
    kind("Versions", "Version", "runtime.talos.dev", "runtime").columns(&[column("Version", "{.version}")]),
    kind("SecurityStates", "SecurityState", "talos.dev", "runtime")
        .columns(&[column("SecureBoot", "{.secureBoot}"), column("SELinuxState", "{.seLinuxState}")]),
    kind("Diagnostics", "Diagnostic", "runtime.talos.dev", "runtime").columns(&[column("Message", "{.message}")]),
    kind("UnattendedInstallStatuses", "UnattendedInstallStatus", "runtime.talos.dev", "runtime")
        .columns(&[column("Phase", "{.phase}"), column("Error", "{.error}")])
        .since(14),
    kind("RebootRequests", "RebootRequest", "runtime.talos.dev", "runtime").since(14),
    kind("BootIDs", "BootID", "runtime.talos.dev", "runtime").columns(&[column("Boot ID", "{.bootID}")]).since(14),
    kind("MachineConfigs", "MachineConfig", "config.talos.dev", "config").sensitive(),
    kind("MachineTypes", "MachineType", "config.talos.dev", "config").columns(&[column("Type", "{@}")]),
    kind("Members", "Member", "cluster.talos.dev", "cluster").columns(&[
        column("Hostname", "{.hostname}"),
        column("Machine Type", "{.machineType}"),
        column("OS", "{.operatingSystem}"),
        column("Addresses", "{.addresses}"),
    ]),
    kind("Identities", "Identity", "cluster.talos.dev", "cluster").columns(&[column("ID", "{.nodeId}")]),
    kind("Infos", "Info", "cluster.talos.dev", "cluster")
        .columns(&[column("Cluster ID", "{.clusterId}"), column("Cluster Name", "{.clusterName}")]),
    kind("Nodenames", "Nodename", "kubernetes.talos.dev", "k8s").columns(&[column("Nodename", "{.nodename}")]),
    kind("NodeStatuses", "NodeStatus", "kubernetes.talos.dev", "k8s")
        .columns(&[column("Ready", "{.nodeReady}"), column("Unschedulable", "{.unschedulable}")]),
    kind("StaticPodStatuses", "StaticPodStatus", "kubernetes.talos.dev", "k8s")
        .aliases(&["podstatus"])
        .columns(&[column("Ready", "{.conditions[?(@.type==\"Ready\")].status}")]),
    kind("BootstrapManifestsConfigs", "BootstrapManifestsConfig", "kubernetes.talos.dev", "controlplane"),
    kind("Services", "Service", "v1alpha1.talos.dev", "runtime").aliases(&["svc"]).columns(&[
        column("Running", "{.running}"),
        column("Healthy", "{.healthy}"),
        column("Health Unknown", "{.unknown}"),
    ]),
    kind("TimeStatuses", "TimeStatus", "v1alpha1.talos.dev", "runtime").columns(&[column("Synced", "{.synced}")]),
    kind("EtcdSpecs", "EtcdSpec", "etcd.talos.dev", "etcd").columns(&[
        column("Name", "{.name}"),
        column("AdvertisedAddresses", "{.advertisedAddresses}"),
        column("ListenPeerAddresses", "{.listenPeerAddresses}"),
        column("ListenClientAddresses", "{.listenClientAddresses}"),
    ]),
    kind("CertSANs", "CertSAN", "secrets.talos.dev", "secrets").sensitive(),
    kind("EtcdMembers", "EtcdMember", "etcd.talos.dev", "etcd").columns(&[column("Member ID", "{.memberID}")]),
    kind("Disks", "Disk", "block.talos.dev", "runtime").columns(&[
        column("Size", "{.pretty_size}"),
        column("Read Only", "{.readonly}"),
        column("Transport", "{.transport}"),
        column("Rotational", "{.rotational}"),
        column("WWID", "{.wwid}"),
        column("Model", "{.model}"),
        column("Serial", "{.serial}"),
    ]),
    kind("SystemDisks", "SystemDisk", "block.talos.dev", "runtime").columns(&[column("Disk", "{.diskID}")]),
    kind("VolumeStatuses", "VolumeStatus", "block.talos.dev", "runtime").columns(&[
        column("Type", "{.type}"),
        column("Phase", "{.phase}"),
        column("Location", "{.location}"),
        column("Size", "{.prettySize}"),
    ]),
    kind("LinkStatuses", "LinkStatus", "net.talos.dev", "network").aliases(&["link", "links"]).columns(&[
        column("Alias", "{.alias}"),
        column("Type", "{.type}"),
        column("Kind", "{.kind}"),
        column("Hw Addr", "{.hardwareAddr}"),
        column("Oper State", "{.operationalState}"),
        column("Link State", "{.linkState}"),
    ]),
    kind("AddressStatuses", "AddressStatus", "net.talos.dev", "network")
        .aliases(&["address", "addresses"])
        .columns(&[column("Address", "{.address}"), column("Link", "{.linkName}")]),
    kind("NodeAddresses", "NodeAddress", "net.talos.dev", "network")
        .columns(&[column("Addresses", "{.addresses}"), column("SortAlgorithm", "{.sortAlgorithm}")]),
    kind("HostnameStatuses", "HostnameStatus", "net.talos.dev", "network")
        .aliases(&["hostname"])
        .columns(&[column("Hostname", "{.hostname}"), column("Domainname", "{.domainname}")]),
    kind("NetworkStatuses", "NetworkStatus", "net.talos.dev", "network")
        .aliases(&["netstatus", "netstatuses"])
        .columns(&[
            column("Address", "{.addressReady}"),
            column("Connectivity", "{.connectivityReady}"),
            column("Hostname", "{.hostnameReady}"),
            column("Etc", "{.etcFilesReady}"),
        ]),
];

/// The resource kinds of a Talos version.
pub(super) fn all(talos: &TalosVersion) -> impl Iterator<Item = &'static ResourceKind> {
    let minor = talos.minor();
    KINDS.iter().filter(move |kind| kind.since <= minor)
}

/// Finds a kind by its full name. Like Talos, ignores case.
pub(super) fn find(talos: &TalosVersion, name: &str) -> Option<&'static ResourceKind> {
    all(talos).find(|kind| kind.full_name().eq_ignore_ascii_case(name))
}

/// A namespace, its description, and the first minor version of Talos that has it.
type Namespace = (&'static str, &'static str, u64);

/// COSI's own and those of Talos (1.11 to 1.14, `v1alpha2_state.go`).
const NAMESPACES: [Namespace; 19] = [
    ("meta", "Metadata namespace which contains resource and namespace definitions.", 11),
    ("runtime", "Talos v1alpha1 subsystems glue resources.", 11),
    ("cluster", "Cluster configuration and discovery resources.", 11),
    ("cluster-raw", "Cluster unmerged raw resources.", 11),
    ("config", "Talos node configuration.", 11),
    ("etcd", "etcd resources.", 11),
    ("files", "Files and file-like resources.", 11),
    ("hardware", "Hardware resources.", 11),
    ("k8s", "Kubernetes all node types resources.", 11),
    ("controlplane", "Kubernetes control plane resources.", 11),
    ("kubespan", "KubeSpan resources.", 11),
    ("network", "Networking resources.", 11),
    ("network-config", "Networking configuration resources.", 11),
    ("cri", "CRI Seccomp resources.", 11),
    ("secrets", "Resources with secret material.", 11),
    ("perf", "Stats resources.", 11),
    ("containers", "Talos-managed container resources.", 14),
    ("security", "Security resources.", 14),
    ("storage", "Storage resources.", 14),
];

fn known_namespaces(talos: &TalosVersion) -> impl Iterator<Item = Namespace> {
    let minor = talos.minor();
    NAMESPACES.into_iter().filter(move |(_, _, since)| *since <= minor)
}

pub(super) fn is_namespace(talos: &TalosVersion, name: &str) -> bool {
    known_namespaces(talos).any(|(known, ..)| known == name)
}

/// Every namespace, by name.
pub(super) fn namespaces(talos: &TalosVersion) -> Vec<ResourceItem> {
    let item = |(name, description, _): Namespace| ResourceItem::new(name, &(), json!({"description": description}));
    let mut items: Vec<ResourceItem> = known_namespaces(talos).map(item).collect();
    items.sort_by(|a, b| a.id.cmp(&b.id));
    items
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

impl ResourceKind {
    /// The aliases are the declared ones, the singular and the initials. For matching, COSI adds the plural with every
    /// prefix of the suffix.
    fn names(&self) -> KindNames {
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
        KindNames { aliases, all }
    }

    fn definition(&self) -> ResourceItem {
        let KindNames { aliases, all: all_aliases } = self.names();
        let column =
            |column: &Column| PrintColumn { name: column.name.to_owned(), json_path: column.json_path.to_owned() };
        let message = Definition {
            resource_type: self.full_name(),
            display_type: self.singular.to_owned(),
            default_namespace: self.namespace.to_owned(),
            aliases: aliases.clone(),
            all_aliases: all_aliases.clone(),
            print_columns: self.columns.iter().map(column).collect(),
            sensitivity: self.sensitive.into(),
        };
        let columns = self.columns.iter();
        let columns: Vec<_> =
            columns.map(|column| json!({"name": column.name, "jsonPath": column.json_path})).collect();
        let mut text = json!({
            "type": self.full_name(), "displayType": self.singular, "defaultNamespace": self.namespace,
            "aliases": aliases, "allAliases": all_aliases, "printColumns": columns,
        });
        if self.sensitive {
            text["sensitivity"] = json!("sensitive");
        }
        ResourceItem::new(&self.full_name().to_lowercase(), &message, text)
    }
}

/// The definitions of all kinds.
pub(super) fn definitions(talos: &TalosVersion) -> Vec<ResourceItem> {
    all(talos).map(ResourceKind::definition).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_cosi() {
        let talos = TalosVersion::parse("v1.12.4").unwrap();
        let status = find(&talos, "machinestatuses.runtime.talos.dev").unwrap();
        let KindNames { aliases, all } = status.names();
        assert_eq!(aliases, ["machinestatus", "ms"]);
        let all_expected =
            ["machinestatuses", "machinestatuses.runtime", "machinestatuses.runtime.talos", "machinestatus", "ms"];
        assert_eq!(all, all_expected);
        let aliases = find(&talos, "MachineConfigs.config.talos.dev").unwrap().names().aliases;
        assert_eq!(aliases, ["machineconfig", "mc", "mcs"]);
    }

    #[test]
    fn queried_names_are_unambiguous() {
        let talos = TalosVersion::parse("v1.14.0").unwrap();
        for name in
            ["machinestatus", "members", "member", "mc", "machineconfig", "disks", "links", "services", "version"]
        {
            let matching = all(&talos).filter(|kind| kind.names().all.iter().any(|alias| alias == name)).count();
            assert_eq!(matching, 1, "{name}");
        }
    }

    #[test]
    fn kinds_of_later_versions_are_unknown_to_earlier_ones() {
        assert!(find(&TalosVersion::parse("v1.13.0").unwrap(), "BootIDs.runtime.talos.dev").is_none());
        assert!(find(&TalosVersion::parse("v1.14.0").unwrap(), "BootIDs.runtime.talos.dev").is_some());
    }
}
