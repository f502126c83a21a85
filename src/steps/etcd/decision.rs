//! Whether etcd may be bootstrapped, and where: a pure function of what every control plane says.
//!
//! Bootstrap on two nodes makes two clusters, and Talos refuses a second call on the same node only (failure T03). So
//! nothing is decided while any control plane is unknown, the choice is the lowest address whatever the order of the
//! inventory, and a repeat goes to the node of the recorded intent, with evidence that the first call was lost.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What a control plane says of its etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Etcd {
    /// It does not answer, so it may be anything.
    Unknown {
        reason: String,
    },
    /// It waits for a bootstrap or for a cluster to join; its data directory is empty.
    Waiting {
        boot: String,
    },
    /// It accepted a bootstrap in this boot and is starting.
    Requested {
        boot: String,
    },
    /// It runs, and sees these members.
    Running {
        members: Vec<u64>,
    },
    Failed {
        reason: String,
    },
}

impl fmt::Display for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { reason } => write!(f, "unknown ({reason})"),
            Self::Waiting { .. } => f.write_str("waiting"),
            Self::Requested { .. } => f.write_str("starting"),
            Self::Running { members } => write!(f, "running, {} members", members.len()),
            Self::Failed { reason } => write!(f, "failed ({reason})"),
        }
    }
}

/// One control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    pub node: IpAddr,
    pub etcd: Etcd,
}

/// A bootstrap that was about to be sent, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    pub node: IpAddr,
    /// The node's boot id at that moment.
    pub boot: String,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    WaitFor(String),
    /// Send the call to this node.
    Bootstrap(IpAddr),
    /// This node accepted it; wait until etcd runs.
    Verify(IpAddr),
    /// etcd runs.
    Adopt,
    /// A person has to look.
    Refuse(String),
}

/// Decides. `views` holds every control plane of the inventory, in any order.
pub fn decide(views: &[View], intent: Option<&Intent>) -> Decision {
    if let Some(reason) = split(views) {
        return Decision::Refuse(reason);
    }
    if views.iter().any(|view| matches!(view.etcd, Etcd::Running { .. })) {
        return Decision::Adopt;
    }
    let mut requested = views.iter().filter(|view| matches!(view.etcd, Etcd::Requested { .. }));
    match (requested.next(), requested.next()) {
        (Some(first), Some(second)) => {
            return Decision::Refuse(format!("{} and {} both accepted a bootstrap", first.node, second.node));
        }
        (Some(one), None) => return Decision::Verify(one.node),
        _ => {}
    }
    if let Some(view) = views.iter().find(|view| matches!(view.etcd, Etcd::Unknown { .. })) {
        return Decision::WaitFor(format!("{}: {}", view.node, view.etcd));
    }
    if let Some(view) = views.iter().find(|view| matches!(view.etcd, Etcd::Failed { .. })) {
        return Decision::Refuse(format!("etcd on {} {}", view.node, view.etcd));
    }
    match intent {
        None => views
            .iter()
            .map(|view| view.node)
            .min()
            .map_or_else(|| Decision::Refuse("there is no control plane".to_owned()), Decision::Bootstrap),
        // Every control plane waits with an empty data directory, so the call that was intended is lost: in the same
        // boot it never arrived, in a later one the reboot forgot it (T02). Only that node may get it again.
        Some(intent) if views.iter().any(|view| view.node == intent.node) => Decision::Bootstrap(intent.node),
        Some(intent) => Decision::Refuse(format!(
            "a bootstrap was intended for {}, which is no control plane of this inventory",
            intent.node
        )),
    }
}

/// Two running members that do not know of each other are two clusters.
fn split(views: &[View]) -> Option<String> {
    let running: Vec<(IpAddr, &Vec<u64>)> = views
        .iter()
        .filter_map(|view| match &view.etcd {
            Etcd::Running { members } if !members.is_empty() => Some((view.node, members)),
            _ => None,
        })
        .collect();
    let (first, members) = running.first()?;
    let apart = running.iter().find(|(_, other)| !other.iter().any(|id| members.contains(id)))?;
    Some(format!("{first} and {} run two different etcd clusters", apart.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    /// Every state that a control plane can be in, seen from node `last`.
    fn states() -> Vec<Etcd> {
        vec![
            Etcd::Unknown { reason: "no route".into() },
            Etcd::Waiting { boot: "a".into() },
            Etcd::Requested { boot: "a".into() },
            Etcd::Running { members: vec![1] },
            Etcd::Running { members: vec![2] },
            Etcd::Failed { reason: "disk".into() },
        ]
    }

    fn combinations(nodes: usize) -> Vec<Vec<View>> {
        let mut all = vec![vec![]];
        for index in 0..nodes {
            all = all
                .into_iter()
                .flat_map(|views: Vec<View>| {
                    states().into_iter().map(move |etcd| {
                        let mut views = views.clone();
                        views.push(View { node: address(u8::try_from(index).unwrap() + 1), etcd });
                        views
                    })
                })
                .collect();
        }
        all
    }

    fn intents() -> Vec<Option<Intent>> {
        let intent = |last| Some(Intent { node: address(last), boot: "a".into() });
        vec![None, intent(1), intent(2), intent(9)]
    }

    #[test]
    fn bootstrap_is_called_only_when_every_control_plane_is_known_to_wait() {
        for nodes in [1, 3, 5] {
            for views in combinations(nodes) {
                for intent in intents() {
                    let decision = decide(&views, intent.as_ref());
                    let all_wait = views.iter().all(|view| matches!(view.etcd, Etcd::Waiting { .. }));
                    if let Decision::Bootstrap(node) = &decision {
                        assert!(all_wait, "{views:?} {intent:?}");
                        assert_eq!(*node, intent.as_ref().map_or(address(1), |intent| intent.node));
                    } else {
                        let known =
                            intent.as_ref().is_none_or(|intent| views.iter().any(|view| view.node == intent.node));
                        assert!(!(all_wait && known), "no progress: {views:?} {intent:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_choice_does_not_depend_on_the_order_of_the_inventory() {
        for mut views in combinations(3) {
            let forwards = decide(&views, None);
            views.reverse();
            let backwards = decide(&views, None);
            match (forwards, backwards) {
                (Decision::WaitFor(_), Decision::WaitFor(_)) | (Decision::Refuse(_), Decision::Refuse(_)) => {}
                (forwards, backwards) => assert_eq!(forwards, backwards),
            }
        }
    }

    #[test]
    fn two_clusters_are_refused_by_name() {
        let views = vec![
            View { node: address(1), etcd: Etcd::Running { members: vec![1] } },
            View { node: address(2), etcd: Etcd::Running { members: vec![2] } },
        ];
        assert_eq!(
            decide(&views, None),
            Decision::Refuse("10.0.0.1 and 10.0.0.2 run two different etcd clusters".into())
        );
    }

    #[test]
    fn a_running_member_is_adopted_although_another_node_is_silent() {
        let views = vec![
            View { node: address(1), etcd: Etcd::Running { members: vec![1] } },
            View { node: address(2), etcd: Etcd::Unknown { reason: "rebooting".into() } },
        ];
        assert_eq!(decide(&views, None), Decision::Adopt);
    }
}
