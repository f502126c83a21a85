//! Images pulled onto a node before a pod waits for them: in the background of the run, which never fails because of it.
//!
//! One pure function decides which node pulls what, from what the releases render. Images that a node has, and those of
//! releases that are installed already, are left out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, StreamExt};
use retry::policies::IMAGE_PULL;
use retry::{Verdict, retry};
use tokio::sync::{OnceCell, Semaphore};

use super::context::RunContext;
use super::errors::step_error;
use super::release::Installed;
use super::workload::{Host, images_of};
use engine::{Action, Code, Effect, ErrorClass, Observation, StepContext, StepError, StepWait};
use talos_client::{Client, ClientError, ClientErrorKind, ImageSpace};
use talos_config::InventoryNode;

/// Pulls at once, on one node and on all together: registries count requests.
const ON_A_NODE: usize = 2;
const ON_ALL: usize = 16;
/// A cluster that exists responds within this.
const API_TIMEOUT: Duration = Duration::from_secs(3);

/// The images that each node pulls for the releases that are still to be installed. One for the whole run.
pub(super) struct ImagePrepull {
    context: Arc<RunContext>,
    releases: Vec<Arc<Installed>>,
    lanes: Semaphore,
    /// By the node's name.
    images: OnceCell<BTreeMap<String, Vec<String>>>,
}

impl ImagePrepull {
    pub(super) fn new(context: Arc<RunContext>, releases: Vec<Arc<Installed>>) -> Self {
        Self { context, releases, lanes: Semaphore::new(ON_ALL), images: OnceCell::new() }
    }

    async fn images(&self) -> Result<&BTreeMap<String, Vec<String>>, StepError> {
        self.images.get_or_try_init(|| self.decide()).await
    }

    async fn decide(&self) -> Result<BTreeMap<String, Vec<String>>, StepError> {
        let api = tokio::time::timeout(API_TIMEOUT, self.context.kubernetes()).await.ok().and_then(Result::ok);
        let mut releases = Vec::new();
        for release in &self.releases {
            let there = match &api {
                Some(api) => release.is_installed(api).await?,
                None => false,
            };
            if !there {
                releases.push(release.workloads().await?);
            }
        }
        let nodes = &self.context.cluster.inventory.nodes;
        let hosts: Vec<Host> = nodes.iter().map(|node| Host::of(node, self.context.config(node))).collect();
        let of_each = nodes.iter().zip(&hosts);
        Ok(of_each.map(|(node, host)| (node.hostname.clone(), images_of(host, &hosts, &releases))).collect())
    }
}

/// The node has the images of the releases that are still to be installed.
pub(super) struct NodeImages {
    prepull: Arc<ImagePrepull>,
    node: InventoryNode,
}

impl NodeImages {
    pub(super) fn new(prepull: Arc<ImagePrepull>, node: InventoryNode) -> Self {
        Self { prepull, node }
    }

    async fn client(&self) -> Result<Client, StepError> {
        let context = &self.prepull.context;
        let connected = context.node_client(&self.node).await;
        connected.map_err(|error| step_error(&error, &self.node))
    }

    /// The images that the node still has to pull.
    async fn missing(&self, client: &Client) -> Result<Vec<String>, StepError> {
        let mut missing = self.prepull.images().await?.get(&self.node.hostname).cloned().unwrap_or_default();
        if !missing.is_empty() {
            let there = client.images(ImageSpace::Pods).await.map_err(|error| step_error(&error, &self.node))?;
            missing.retain(|image| !there.iter().any(|known| known.name == *image));
        }
        Ok(missing)
    }

    async fn pull(&self, client: &Client, image: &str, cx: &StepContext) -> Result<String, ClientError> {
        let pull = || async {
            // Held for as long as the pull takes; the semaphore is never closed.
            let _lane = self.prepull.lanes.acquire().await;
            client.pull_image(ImageSpace::Pods, image, &|_| {}).await
        };
        // The container runtime of a node that has just booted starts a moment later.
        let passes =
            |error: &ClientError| matches!(error.kind, ClientErrorKind::Unavailable | ClientErrorKind::NotReady);
        let pulled = retry(IMAGE_PULL, pull, Verdict::by(passes)).await;
        if let Err(error) = &pulled {
            let line = format!("{image} is not pulled in advance: {}; the kubelet will retry", error.reason);
            cx.waiting(StepWait::new(line).code(Code::H13));
        }
        pulled
    }

    /// Pulls what is missing; images that cannot be pulled are left to the kubelet.
    async fn pull_all(&self, cx: &StepContext) -> Result<Effect, StepError> {
        let client = self.client().await?;
        let missing = self.missing(&client).await?;
        let (client, total) = (&client, missing.len());
        let pulls = stream::iter(missing).map(|image| async move {
            let pulled = self.pull(client, &image, cx).await;
            (image, pulled)
        });
        let mut pulls = std::pin::pin!(pulls.buffer_unordered(ON_A_NODE));
        let mut failed = Vec::new();
        while let Some((image, pulled)) = pulls.next().await {
            match pulled {
                Ok(_) => {}
                Err(ClientError { kind: ClientErrorKind::Unimplemented, .. }) => {
                    return Ok(Effect::Degraded("this Talos version cannot pull images in advance".to_owned()));
                }
                Err(error) => failed.push(format!("{image} ({})", error.reason)),
            }
        }
        failed.sort();
        Ok(match failed.as_slice() {
            [] => Effect::Complete,
            failed => Effect::Degraded(format!(
                "{} of {total} images are left to the kubelet: {}",
                failed.len(),
                failed.join("; ")
            )),
        })
    }
}

#[async_trait]
impl Action for NodeImages {
    async fn observe(&self, cx: &StepContext) -> Result<Observation, StepError> {
        let missing = async { self.missing(&self.client().await?).await };
        Ok(match missing.await {
            Ok(missing) if missing.is_empty() => Observation::UpToDate("every image is on the node".to_owned()),
            Ok(missing) => Observation::Missing(format!("{} images are missing", missing.len())),
            Err(error) if error.code.is_none() && cx.attempt < 3 => {
                return Err(StepError { class: ErrorClass::Unavailable, ..error });
            }
            Err(error) => Observation::Degraded(format!("images are left to the kubelet: {error}")),
        })
    }

    async fn apply(&self, cx: &StepContext) -> Result<Effect, StepError> {
        let pulled = self.pull_all(cx).await;
        pulled.or_else(|error| Ok(Effect::Degraded(format!("images are left to the kubelet: {error}"))))
    }
}
