//! Whether a machine is the node that its address stands for (T09).

use std::net::IpAddr;
use std::time::Duration;

use futures::future::select_ok;
use talos_client::{Client, EtcdMember, HostnameStatus};
use talos_config::InventoryNode;
use tokio::time::timeout;

use super::context::RunContext;
use super::errors::place;
use engine::{Code, StepError};

/// A cluster that is up responds within this.
const THERE: Duration = Duration::from_secs(3);

/// Fails when the machine at a node's address is another node of the inventory. What it does not report yet proves nothing.
pub(super) async fn check_machine(
    context: &RunContext,
    node: &InventoryNode,
    client: &Client,
) -> Result<(), StepError> {
    let Ok(Some(status)) = client.resources().find::<HostnameStatus>("hostname").await else { return Ok(()) };
    match other_node(&status, node, &context.cluster.inventory.nodes) {
        None => Ok(()),
        Some(other) => Err(StepError::failed_precondition("another node has this address")
            .with_place(place(node))
            .because(format!(
                "the machine at this address is {}, which the inventory has at {}",
                other.hostname, other.address
            ))
            .code(Code::T09)),
    }
}

/// The other node of the inventory that a machine is by its own hostname. One that is not in the inventory is renamed by its
/// config.
fn other_node<'n>(
    reported: &HostnameStatus,
    node: &InventoryNode,
    inventory: &'n [InventoryNode],
) -> Option<&'n InventoryNode> {
    let is_named = |node: &InventoryNode| {
        let full = format!("{}.{}", reported.hostname, reported.domainname);
        [&reported.hostname, &full].into_iter().any(|name| name.eq_ignore_ascii_case(&node.hostname))
    };
    if is_named(node) { None } else { inventory.iter().find(|other| is_named(other)) }
}

/// Where the cluster has a node that does not respond at its address, if it has it elsewhere.
pub(super) async fn seen_elsewhere(context: &RunContext, node: &InventoryNode) -> Option<String> {
    let registered = async {
        let nodes = kubernetes::nodes(&context.kubernetes().await.ok()?).await.ok()?;
        Some(nodes.get(&node.hostname)?.addresses.clone())
    };
    let (registered, members) = tokio::join!(timeout(THERE, registered), timeout(THERE, members(context, node)));
    elsewhere(node, &registered.ok().flatten().unwrap_or_default(), &members.ok().flatten().unwrap_or_default())
}

/// etcd's members, from another control plane that responds first.
async fn members(context: &RunContext, node: &InventoryNode) -> Option<Vec<EtcdMember>> {
    let others = context.control_planes().into_iter().filter(|other| other.address != node.address);
    let asked: Vec<_> =
        others.map(|other| Box::pin(async move { context.node_client(other).await?.etcd_members().await })).collect();
    if asked.is_empty() { None } else { select_ok(asked).await.ok().map(|(members, _)| members) }
}

/// What Kubernetes and etcd have of a node at another address than its own.
fn elsewhere(node: &InventoryNode, registered: &[IpAddr], members: &[EtcdMember]) -> Option<String> {
    let list = |addresses: &[String]| addresses.join(", ");
    if !registered.is_empty() && !registered.contains(&node.address) {
        let addresses: Vec<String> = registered.iter().map(IpAddr::to_string).collect();
        return Some(format!("Kubernetes lists {} at {}", node.hostname, list(&addresses)));
    }
    let member = members.iter().find(|member| member.hostname == node.hostname)?;
    let own = node.address.to_string();
    let is_own = |url: &String| url.contains(&format!("//{own}:")) || url.contains(&format!("//[{own}]:"));
    let is_elsewhere = !member.peer_urls.is_empty() && !member.peer_urls.iter().any(is_own);
    is_elsewhere.then(|| format!("etcd lists {} at {}", node.hostname, list(&member.peer_urls)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use talos_config::Role;

    fn node(name: &str, last: u8) -> InventoryNode {
        InventoryNode {
            hostname: name.to_owned(),
            address: IpAddr::from([10, 0, 0, last]),
            role: Role::ControlPlane,
            at: yaml::Location {
                origin: yaml::Origin::new("talconfig.yaml"),
                position: yaml::Position { line: 1, column: 1 },
            },
        }
    }

    #[test]
    fn a_machine_is_another_node_only_by_a_name_of_the_inventory() {
        let inventory = [node("a", 1), node("b", 2), node("c.example.org", 3)];
        let other = |hostname: &str, domainname: &str| {
            let reported = HostnameStatus { hostname: hostname.to_owned(), domainname: domainname.to_owned() };
            other_node(&reported, &inventory[0], &inventory).map(|node| node.hostname.as_str())
        };
        assert_eq!(other("b", ""), Some("b"));
        assert_eq!(other("c", "example.org"), Some("c.example.org"));
        assert_eq!(other("A", "lan"), None);
        // A machine that is to be renamed, and one without a name of its own yet.
        assert_eq!((other("old-a", ""), other("talos-x7k-1pq", "")), (None, None));
    }

    #[test]
    fn what_the_cluster_has_at_another_address_is_evidence() {
        let member = |url: &str| EtcdMember {
            id: 1,
            hostname: "a".to_owned(),
            peer_urls: vec![url.to_owned()],
            client_urls: vec![],
            is_learner: false,
        };
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        let seen = |registered: &[IpAddr], members: &[EtcdMember]| elsewhere(&node("a", 1), registered, members);
        assert_eq!(seen(&[address(9)], &[]).as_deref(), Some("Kubernetes lists a at 10.0.0.9"));
        assert_eq!(
            seen(&[], &[member("https://10.0.0.9:2380")]).as_deref(),
            Some("etcd lists a at https://10.0.0.9:2380")
        );
        assert_eq!(seen(&[address(1), address(9)], &[member("https://10.0.0.1:2380")]), None);
        // 10.0.0.1 is not 10.0.0.11.
        assert!(seen(&[], &[member("https://10.0.0.11:2380")]).is_some());
        assert_eq!(seen(&[], &[]), None);
    }
}
