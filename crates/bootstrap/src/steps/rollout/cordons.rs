//! Nodes that a run cordoned and did not uncordon.

use std::collections::{BTreeMap, BTreeSet};

use engine::StepError;
use kubernetes::{NodeView, Scheduling};
use retry::policies::ROLLOUT_LOOK;
use tokio::time::Instant;

use super::super::context::RunContext;

/// The nodes that an earlier run left cordoned.
#[derive(Debug)]
pub(super) enum LeftCordoned {
    /// The Kubernetes API has not responded yet.
    Unread {
        tried: Option<Instant>,
    },
    Read(BTreeSet<String>),
}

/// Whether a run left a node cordoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cordon {
    None,
    Left,
    /// The Kubernetes API does not respond.
    Unknown,
}

impl Cordon {
    /// The cordon of a node by what Kubernetes lists; `registered` is absent or empty while the API is unreachable.
    pub(super) fn from_nodes(name: &str, registered: Option<&BTreeMap<String, NodeView>>) -> Self {
        let Some(registered) = registered.filter(|registered| !registered.is_empty()) else { return Self::Unknown };
        match registered.get(name) {
            Some(node) if node.scheduling == Scheduling::CordonedByUs => Self::Left,
            _ => Self::None,
        }
    }
}

impl LeftCordoned {
    pub(super) fn of_node(&self, name: &str) -> Cordon {
        match self {
            Self::Read(nodes) if nodes.contains(name) => Cordon::Left,
            Self::Read(_) => Cordon::None,
            Self::Unread { .. } => Cordon::Unknown,
        }
    }

    /// Whether the API is asked now: again after an attempt that failed, but not by every node at once.
    pub(super) fn is_read_now(&self, now: Instant) -> bool {
        match self {
            Self::Read(_) => false,
            Self::Unread { tried } => tried.is_none_or(|tried| now.duration_since(tried) >= ROLLOUT_LOOK),
        }
    }
}

/// The nodes that a run of this program cordoned and did not uncordon.
pub(super) async fn cordoned_by_us(context: &RunContext) -> Result<BTreeSet<String>, StepError> {
    let nodes = kubernetes::nodes(&context.kubernetes().await?).await;
    let nodes = nodes.map_err(|error| super::super::api_errors::api_error(&error))?;
    let is_ours = |node: &NodeView| node.scheduling == Scheduling::CordonedByUs;
    Ok(nodes.into_iter().filter(|(_, node)| is_ours(node)).map(|(name, _)| name).collect())
}

/// The nodes of the inventory that a run left cordoned although they run their config: the Kubernetes API was away when
/// they came back.
pub(in crate::steps) async fn still_cordoned(context: &RunContext) -> Result<Vec<String>, StepError> {
    let ours = context.hostnames();
    Ok(cordoned_by_us(context).await?.into_iter().filter(|name| ours.contains(name)).collect())
}

/// Uncordons them.
pub(in crate::steps) async fn uncordon_all(context: &RunContext) -> Result<(), StepError> {
    for name in still_cordoned(context).await? {
        let api = context.kubernetes().await?;
        kubernetes::uncordon(&api, &name)
            .await
            .map_err(|error| super::super::api_errors::api_error(&error).with_place(&name))?;
    }
    Ok(())
}
