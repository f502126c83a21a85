//! The boot that each machine is in, by Talos: a Node that reports from another one is the Node of before.

use std::time::Duration;

use engine::StepContext;
use futures::future::join_all;
use kubernetes::{ExpectedNodes, GateError};
use tokio::time::timeout;

use super::api_errors::progress;
use super::context::RunContext;

/// A machine that runs responds within this.
const THERE: Duration = Duration::from_secs(3);
/// A machine may boot while it is waited for.
const VALID: Duration = Duration::from_secs(20);

impl RunContext {
    /// Every node of the inventory; without a boot where the machine does not respond.
    pub(super) async fn expected_nodes(&self) -> ExpectedNodes {
        let nodes = self.cluster.inventory.nodes.iter().map(|node| async {
            let boot = async { self.node_client(node).await?.boot_id().await };
            let boot = timeout(THERE, boot).await.ok().and_then(Result::ok);
            (node.hostname.clone(), boot)
        });
        join_all(nodes).await.into_iter().collect()
    }
}

/// What nodes are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeGoal {
    Registered,
    Ready,
}

/// Waits for every node, and reads again which boots the machines are in while that takes long.
pub(super) async fn wait_for_nodes(
    context: &RunContext,
    client: &kube::Client,
    goal: NodeGoal,
    cx: &StepContext,
) -> Result<(), GateError> {
    let show = progress(cx);
    loop {
        let expected = context.expected_nodes().await;
        let ended = match goal {
            NodeGoal::Registered => timeout(VALID, kubernetes::wait_registered(client, &expected, &show)).await,
            NodeGoal::Ready => timeout(VALID, kubernetes::wait_nodes_ready(client, &expected, &show)).await,
        };
        if let Ok(ended) = ended {
            return ended;
        }
    }
}
