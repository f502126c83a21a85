//! The cluster service: the health of the whole cluster as one control plane sees it.

mod checks;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use self::checks::{CHECKS, Check, Cluster, Verdict};
use super::Node;
use super::machine_service::Api;
use crate::machine::Role;
use talos_proto::cluster::cluster_service_server::ClusterService;
use talos_proto::cluster::{ClusterInfo, HealthCheckProgress, HealthCheckRequest};

/// Between two looks at a condition that does not hold yet.
const PAUSE: Duration = Duration::from_millis(200);

type Progress = mpsc::Sender<Result<HealthCheckProgress, Status>>;

/// The machines that a check is about: those that were named, else those that discovery knows.
fn members(node: &Node, named: &ClusterInfo) -> Vec<Arc<Node>> {
    let all = node.world.neighbours.all();
    let names: Vec<&String> = named.control_plane_nodes.iter().chain(&named.worker_nodes).collect();
    let own = node.config().map(|config| config.cluster_id.clone());
    let belongs = |other: &Arc<Node>| {
        if !names.is_empty() {
            return names.iter().any(|name| other.is_called(name));
        }
        let installed = other.state.borrow().disk.installed.is_some();
        installed && other.config().map(|config| config.cluster_id.clone()) == own
    };
    let mut members: Vec<Arc<Node>> = all.into_iter().filter(belongs).collect();
    // Control planes come first, as in Talos's list.
    members.sort_by_key(|member| {
        let serves = member.config().is_some_and(|config| config.role == Role::ControlPlane);
        (!serves, member.address())
    });
    members
}

async fn tell(progress: &Progress, message: String) -> Result<(), Status> {
    let message = HealthCheckProgress { metadata: None, message };
    progress.send(Ok(message)).await.map_err(|_| Status::cancelled("context canceled"))
}

/// Tells what the check waits for whenever that changes, until it holds.
async fn wait_for(check: &Check, cluster: &Cluster, until: Instant, progress: &Progress) -> Result<(), Status> {
    let mut said = "...".to_owned();
    tell(progress, format!("waiting for {}: {said}", check.name)).await?;
    loop {
        let (verdict, done) = match checks::run(check, cluster).await {
            Verdict::Ok => ("OK".to_owned(), true),
            Verdict::Skip => ("SKIP".to_owned(), true),
            Verdict::NotYet(reason) => (reason, false),
        };
        if verdict != said {
            said.clone_from(&verdict);
            tell(progress, format!("waiting for {}: {said}", check.name)).await?;
        }
        if done {
            return Ok(());
        }
        if Instant::now() + PAUSE > until {
            return Err(Status::deadline_exceeded("context deadline exceeded"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn run(cluster: Cluster, until: Instant, progress: &Progress) -> Result<(), Status> {
    let addresses: Vec<String> =
        cluster.members.iter().map(|member| format!("{:?}", member.address().to_string())).collect();
    tell(progress, format!("discovered nodes: [{}]", addresses.join(" "))).await?;
    for check in CHECKS {
        if Instant::now() >= until {
            return Err(Status::deadline_exceeded("context deadline exceeded"));
        }
        wait_for(check, &cluster, until, progress).await?;
    }
    Ok(())
}

#[tonic::async_trait]
impl ClusterService for Api {
    type HealthCheckStream = Pin<Box<dyn Stream<Item = Result<HealthCheckProgress, Status>> + Send>>;

    async fn health_check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::HealthCheckStream>, Status> {
        self.control_plane_only("cluster health check")?;
        let request = request.into_inner();
        let patience = request.wait_timeout.and_then(|timeout| Duration::try_from(timeout).ok()).unwrap_or_default();
        let until = Instant::now() + patience;
        let members = members(&self.node, &request.cluster_info.unwrap_or_default());
        let cluster = Cluster { asked: self.node.clone(), members };
        let (progress, answers) = mpsc::channel(4);
        tokio::spawn(async move {
            if let Err(status) = run(cluster, until, &progress).await {
                // Nobody listens any more when this fails.
                let _ = progress.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}
