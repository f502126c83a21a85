//! Waiting for nodes that do not respond.

use futures::future::select_all;
use talos_config::InventoryNode;

use super::super::context::RunContext;

/// Returns when one of these nodes, which do not respond, accepts a connection. Never without nodes.
pub(super) async fn reconnected(context: &RunContext, nodes: &[&InventoryNode]) {
    if nodes.is_empty() {
        return std::future::pending().await;
    }
    select_all(nodes.iter().map(|node| Box::pin(accepts(context, node)))).await;
}

async fn accepts(context: &RunContext, node: &InventoryNode) {
    context.connections.due(node.address).await;
    while context.node_client(node).await.is_err() {
        context.connections.due(node.address).await;
    }
}
