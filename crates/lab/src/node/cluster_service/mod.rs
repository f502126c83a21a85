//! The cluster service: the health of the cluster as one control plane sees it.

mod checks;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use talos_proto::cluster::cluster_service_server::ClusterService;
use talos_proto::cluster::{ClusterInfo, HealthCheckProgress, HealthCheckRequest};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use self::checks::{CHECKS, CheckOutcome, CheckedCluster, HealthCheckItem};
use super::SimulatedNode;
use super::api::NodeApi;
use crate::machine_config::NodeRole;

/// Between two evaluations of a condition that does not hold yet.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

type Progress = mpsc::Sender<Result<HealthCheckProgress, Status>>;

/// The nodes to check: those in the request, or else those that discovery knows.
fn members(node: &SimulatedNode, requested: &ClusterInfo) -> Vec<Arc<SimulatedNode>> {
    let all = node.lab.directory.all();
    let names: Vec<&String> = requested.control_plane_nodes.iter().chain(&requested.worker_nodes).collect();
    let own = node.config().map(|config| config.cluster_id.clone());
    let is_member = |other: &Arc<SimulatedNode>| {
        if !names.is_empty() {
            return names.iter().any(|name| other.is_addressed_by(name));
        }
        let installed = other.state.borrow().disk.installed.is_some();
        installed && other.config().map(|config| config.cluster_id.clone()) == own
    };
    let mut members: Vec<Arc<SimulatedNode>> = all.into_iter().filter(is_member).collect();
    // Control planes come first, as in Talos's list.
    members.sort_by_key(|member| {
        let is_control_plane = member.config().is_some_and(|config| config.role == NodeRole::ControlPlane);
        (!is_control_plane, member.address())
    });
    members
}

async fn report(progress: &Progress, message: String) -> Result<(), Status> {
    let message = HealthCheckProgress { metadata: None, message };
    progress.send(Ok(message)).await.map_err(|_| Status::cancelled("context canceled"))
}

/// Waits until the condition holds, and reports why it does not whenever that changes.
async fn wait_for(
    check: &HealthCheckItem,
    cluster: &CheckedCluster,
    until: Instant,
    progress: &Progress,
) -> Result<(), Status> {
    let mut reported = "...".to_owned();
    report(progress, format!("waiting for {}: {reported}", check.name)).await?;
    loop {
        let result = checks::run(check, cluster).await;
        let text = match &result {
            Ok(CheckOutcome::Passed) => "OK".to_owned(),
            Ok(CheckOutcome::Skipped) => "SKIP".to_owned(),
            Err(reason) => reason.to_string(),
        };
        if text != reported {
            reported = text;
            report(progress, format!("waiting for {}: {reported}", check.name)).await?;
        }
        if result.is_ok() {
            return Ok(());
        }
        if Instant::now() + POLL_INTERVAL > until {
            return Err(Status::deadline_exceeded("context deadline exceeded"));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

async fn run(cluster: CheckedCluster, until: Instant, progress: &Progress) -> Result<(), Status> {
    let addresses: Vec<String> =
        cluster.members.iter().map(|member| format!("{:?}", member.address().to_string())).collect();
    report(progress, format!("discovered nodes: [{}]", addresses.join(" "))).await?;
    for check in CHECKS {
        if Instant::now() >= until {
            return Err(Status::deadline_exceeded("context deadline exceeded"));
        }
        wait_for(check, &cluster, until, progress).await?;
    }
    Ok(())
}

#[tonic::async_trait]
impl ClusterService for NodeApi {
    type HealthCheckStream = Pin<Box<dyn Stream<Item = Result<HealthCheckProgress, Status>> + Send>>;

    async fn health_check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::HealthCheckStream>, Status> {
        self.control_plane_only("cluster health check")?;
        let request = request.into_inner();
        let timeout = request.wait_timeout.and_then(|timeout| Duration::try_from(timeout).ok()).unwrap_or_default();
        let until = Instant::now() + timeout;
        let members = members(&self.node, &request.cluster_info.unwrap_or_default());
        let cluster = CheckedCluster { node: self.node.clone(), members };
        let (progress, responses) = mpsc::channel(4);
        tokio::spawn(async move {
            if let Err(status) = run(cluster, until, &progress).await {
                // This fails only after the caller has disconnected.
                let _ = progress.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }
}
