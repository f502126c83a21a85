//! Members of etcd, matched with the nodes of the inventory by identity.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use futures::future::join_all;

use super::super::context::RunContext;
use super::super::errors::step_error;
use super::connect;
use engine::{Code, StepError};
use talos_client::{EtcdMember, Probe, probe};
use talos_config::{InventoryNode, Role};

/// A Kubernetes API that is up responds within this.
pub(super) const RESPONSE: Duration = Duration::from_secs(3);

/// The members of one etcd cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Membership<'n> {
    /// Members that run on a control plane of the inventory.
    pub matched: Vec<MatchedMember<'n>>,
    /// Members that have a name and run on no control plane of the inventory.
    pub outsiders: Vec<EtcdMember>,
    /// Members that were added and have not started.
    pub unstarted: usize,
}

/// A control plane and its member.
#[derive(Debug, Clone, PartialEq)]
pub struct MatchedMember<'n> {
    pub node: &'n InventoryNode,
    pub member: EtcdMember,
}

impl<'n> Membership<'n> {
    /// Matches members with control planes: by peer address, and the rest by name. An address decides first, because a
    /// machine that was replaced leaves a member of the same name.
    pub fn new(members: Vec<EtcdMember>, control_planes: &[&'n InventoryNode]) -> Self {
        let mut open: Vec<&InventoryNode> = control_planes.to_vec();
        let (mut matched, mut rest) = (Vec::new(), members);
        for is_same in [has_address, has_name] {
            let mut unmatched = Vec::new();
            for member in rest {
                match open.iter().position(|node| is_same(&member, node)) {
                    Some(position) => matched.push(MatchedMember { node: open.remove(position), member }),
                    None => unmatched.push(member),
                }
            }
            rest = unmatched;
        }
        let (outsiders, unstarted): (Vec<_>, Vec<_>) = rest.into_iter().partition(|member| !member.hostname.is_empty());
        Self { matched, outsiders, unstarted: unstarted.len() }
    }

    /// The control planes that vote.
    pub fn voting(&self) -> usize {
        self.matched.iter().filter(|matched| !matched.member.is_learner).count()
    }
}

fn has_address(member: &EtcdMember, node: &InventoryNode) -> bool {
    member.peer_urls.iter().filter_map(|url| peer_address(url)).any(|address| address == node.address)
}

fn has_name(member: &EtcdMember, node: &InventoryNode) -> bool {
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_lowercase();
    !member.hostname.is_empty() && short(&member.hostname) == short(&node.hostname)
}

/// The address in a peer URL, such as `https://10.0.0.1:2380` or `https://[fd00::1]:2380`.
fn peer_address(url: &str) -> Option<IpAddr> {
    let (_, rest) = url.split_once("://")?;
    let (host, _) = rest.rsplit_once(':')?;
    host.trim_matches(['[', ']']).parse().ok()
}

/// The member list of a control plane.
#[derive(Debug)]
pub struct MemberList {
    pub node: IpAddr,
    pub members: Vec<EtcdMember>,
}

/// Checks that no two control planes list the members of different clusters.
///
/// # Errors
///
/// Two clusters (T03).
pub fn check_one_cluster(lists: &[MemberList]) -> Result<(), StepError> {
    let ids = |list: &MemberList| list.members.iter().map(|member| member.id).collect::<BTreeSet<_>>();
    let hexadecimal = |ids: &BTreeSet<u64>| ids.iter().map(|id| format!("{id:016x}")).collect::<Vec<_>>().join(", ");
    for (index, one) in lists.iter().enumerate() {
        for other in &lists[index + 1..] {
            let (ours, theirs) = (ids(one), ids(other));
            if !ours.is_empty() && !theirs.is_empty() && ours.is_disjoint(&theirs) {
                return Err(StepError::needs_operator("etcd needs a manual decision")
                    .because(format!(
                        "{} and {} run two different etcd clusters: members {} on the one, {} on the other",
                        one.node,
                        other.node,
                        hexadecimal(&ours),
                        hexadecimal(&theirs)
                    ))
                    .code(Code::T03));
            }
        }
    }
    Ok(())
}

/// The member list of every control plane that answers, one cluster for certain.
///
/// # Errors
///
/// Two clusters; the last control plane's error when none answers.
pub(in crate::steps) async fn member_lists(context: &RunContext) -> Result<Vec<MemberList>, StepError> {
    let list = async |node: &InventoryNode| {
        let client = connect(context, node).await?;
        let members = client.etcd_members().await.map_err(|error| step_error(&error, node))?;
        Ok::<_, StepError>(MemberList { node: node.address, members })
    };
    let mut lists = Vec::new();
    let mut last = None;
    for listed in join_all(context.control_planes().into_iter().map(list)).await {
        match listed {
            Ok(list) => lists.push(list),
            Err(error) => last = Some(error),
        }
    }
    check_one_cluster(&lists)?;
    match last {
        Some(error) if lists.is_empty() => Err(error),
        _ => Ok(lists),
    }
}

/// The error of a member that runs on no control plane of the inventory: one that left it (T22), or a stranger (T23).
pub(in crate::steps) async fn outsider(context: &RunContext, member: &EtcdMember) -> StepError {
    outsider_error(member, evidence(context, member).await)
}

/// What is known of a member's machine.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Evidence {
    /// It belongs to this cluster; what shows it.
    Ours(String),
    /// Nothing shows that.
    Nothing { machine: MachineAnswer, node: NodeLookup },
}

/// How a member's machine answers to the credentials of this cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MachineAnswer {
    /// It may be off, or of this cluster all the same.
    Unreachable,
    WithoutConfig,
    Rejected,
}

/// Whether Kubernetes has a Node of a member's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NodeLookup {
    NotFound,
    /// The API does not respond.
    Unknown,
}

fn outsider_error(member: &EtcdMember, evidence: Evidence) -> StepError {
    let (name, id) = (&member.hostname, format!("{:016x}", member.id));
    let place = format!("etcd member {id} ({name}, {})", member.peer_urls.join(", "));
    let (machine, node) = match evidence {
        Evidence::Ours(evidence) => {
            return StepError::needs_operator(format!(
                "{name} is an etcd member and not a control plane of the inventory"
            ))
            .with_place(place)
            .because(format!("it belongs to this cluster: {evidence}"))
            .next(format!(
                "put {name} back into the inventory; or reset it while it runs, or `talosctl etcd remove-member {id}` if it is gone"
            ))
            .code(Code::T22);
        }
        Evidence::Nothing { machine, node } => (machine, node),
    };
    let machine = match machine {
        MachineAnswer::Unreachable => "its machine does not respond",
        MachineAnswer::WithoutConfig => "its machine waits for its first config",
        MachineAnswer::Rejected => "its machine does not accept this cluster's credentials",
    };
    let node = match node {
        NodeLookup::NotFound => "Kubernetes has no Node of its name",
        NodeLookup::Unknown => "the Kubernetes API does not respond",
    };
    StepError::needs_operator("an etcd member belongs to no node of the inventory")
        .with_place(place)
        .because(format!("{machine}, and {node}"))
        .code(Code::T23)
}

/// What shows that a member's machine is one of this cluster.
async fn evidence(context: &RunContext, member: &EtcdMember) -> Evidence {
    let worker = context
        .cluster
        .inventory
        .nodes
        .iter()
        .find(|node| node.role == Role::Worker && (has_address(member, node) || has_name(member, node)));
    if let Some(worker) = worker {
        return Evidence::Ours(format!("the inventory has it as worker {}", worker.hostname));
    }
    let mut machine = MachineAnswer::Unreachable;
    for address in member.peer_urls.iter().filter_map(|url| peer_address(url)) {
        match probe(&context.dialer, address, &context.client_identity, None).await {
            Ok(Probe::Configured { .. }) => {
                return Evidence::Ours(format!("{address} accepts the cluster's credentials"));
            }
            Ok(Probe::Maintenance { .. }) => machine = MachineAnswer::WithoutConfig,
            Ok(Probe::Foreign(_)) => machine = MachineAnswer::Rejected,
            Ok(Probe::Closed(_)) | Err(_) => {}
        }
    }
    let nodes = async {
        let client = context.kubernetes().await.ok()?;
        kubernetes::nodes(&client).await.ok()
    };
    match tokio::time::timeout(RESPONSE, nodes).await.ok().flatten() {
        Some(nodes) if nodes.contains_key(&member.hostname) => {
            Evidence::Ours(format!("Kubernetes has a Node {}", member.hostname))
        }
        Some(_) => Evidence::Nothing { machine, node: NodeLookup::NotFound },
        None => Evidence::Nothing { machine, node: NodeLookup::Unknown },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, name: &str, address: &str) -> EtcdMember {
        EtcdMember {
            id,
            hostname: name.to_owned(),
            peer_urls: vec![format!("https://{address}:2380")],
            client_urls: vec![],
            is_learner: false,
        }
    }

    fn names(members: &[EtcdMember]) -> Vec<&str> {
        members.iter().map(|member| member.hostname.as_str()).collect()
    }

    fn node(name: &str, address: &str) -> InventoryNode {
        InventoryNode {
            hostname: name.to_owned(),
            address: address.parse().unwrap(),
            role: Role::ControlPlane,
            at: yaml::Location {
                origin: yaml::Origin::new("talconfig.yaml"),
                position: yaml::Position { line: 1, column: 1 },
            },
        }
    }

    #[test]
    fn members_are_matched_by_address_and_then_by_name() {
        let nodes = [node("cp-1", "10.0.0.1"), node("cp-2", "10.0.0.2"), node("cp-3", "fd00::3")];
        let nodes: Vec<&InventoryNode> = nodes.iter().collect();
        let members = vec![
            // An earlier machine of the name cp-1.
            member(1, "cp-1", "10.0.0.99"),
            member(2, "other-name", "10.0.0.1"),
            // etcd is on another network there.
            member(3, "cp-2.example.org", "192.168.0.2"),
            member(4, "", "[fd00::3]"),
            member(5, "cp-4", "10.0.0.4"),
            member(6, "", "10.0.0.5"),
        ];
        let membership = Membership::new(members, &nodes);
        let matched: Vec<(&str, u64)> =
            membership.matched.iter().map(|matched| (matched.node.hostname.as_str(), matched.member.id)).collect();
        assert_eq!(matched, [("cp-1", 2), ("cp-3", 4), ("cp-2", 3)]);
        assert_eq!(names(&membership.outsiders), ["cp-1", "cp-4"]);
        assert_eq!((membership.unstarted, membership.voting()), (1, 3));
    }

    #[test]
    fn a_machine_that_is_off_is_not_reported_as_one_that_rejects_the_credentials() {
        let why = |machine, node| {
            let error = outsider_error(&member(1, "cp-9", "10.0.0.9"), Evidence::Nothing { machine, node });
            assert_eq!(error.code, Some(Code::T23));
            error.why.unwrap()
        };
        assert_eq!(
            why(MachineAnswer::Unreachable, NodeLookup::Unknown),
            "its machine does not respond, and the Kubernetes API does not respond"
        );
        assert_eq!(
            why(MachineAnswer::Rejected, NodeLookup::NotFound),
            "its machine does not accept this cluster's credentials, and Kubernetes has no Node of its name"
        );
        let ours = outsider_error(&member(1, "cp-9", "10.0.0.9"), Evidence::Ours("x".to_owned()));
        assert_eq!(ours.code, Some(Code::T22));
    }

    #[test]
    fn two_clusters_are_found_by_their_members() {
        let list = |last: u8, ids: &[u64]| MemberList {
            node: IpAddr::from([10, 0, 0, last]),
            members: ids.iter().map(|id| member(*id, "x", "10.0.0.1")).collect(),
        };
        assert!(check_one_cluster(&[list(1, &[1, 2]), list(2, &[2]), list(3, &[])]).is_ok());
        let error = check_one_cluster(&[list(1, &[1]), list(2, &[1]), list(3, &[7])]).unwrap_err();
        assert_eq!(error.code, Some(Code::T03));
        assert!(error.why.unwrap().contains("10.0.0.1 and 10.0.0.3 run two different etcd clusters"));
    }
}
