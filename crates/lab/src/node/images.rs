//! Images: what a machine has pulled, by the old calls and by the service of 1.13.
//!
//! Nothing is pulled: a reference is an image when its form is one's, and takes the time that the scenario gives it.
//! Registries that refuse are the scenario's. What is pulled for pods is there for the kubelet, and the other way round.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use futures::Stream;
use jiff::Timestamp;
use sha2::Digest;
use tonic::{Request, Response, Status};

use super::machine_service::Api;
use super::{Node, stamp};
use crate::machine::MachineConfig;
use api::image_service_pull_layer_progress::Status as Layer;
use api::image_service_pull_response::Response as Pulled;
use api::image_service_server::ImageService;
use talos_proto::common::{ContainerDriver, ContainerdInstance, ContainerdNamespace};
use talos_proto::machine as api;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
pub(super) type OldImages = Answers<api::ImageListResponse>;

/// Images by namespace and name.
#[derive(Debug, Default)]
pub(super) struct Images(BTreeMap<(i32, String), Image>);

#[derive(Debug, Clone)]
struct Image {
    digest: String,
    size: i64,
    created: Timestamp,
    /// When the last of it is on the disk.
    there: Instant,
}

impl Images {
    /// The image, which is there after `takes` unless it was asked for before.
    fn pull(&mut self, namespace: ContainerdNamespace, reference: &str, takes: Duration) -> Image {
        let digest = format!("sha256:{}", hex(&sha2::Sha256::digest(reference)));
        let size = 20_000_000 + i64::try_from(reference.len()).unwrap_or_default() * 100_000;
        let image = Image { digest, size, created: Timestamp::now(), there: Instant::now() + takes };
        self.0.entry((namespace.into(), reference.to_owned())).or_insert(image).clone()
    }

    fn of(&self, namespace: ContainerdNamespace) -> Vec<(String, Image)> {
        let wanted = i32::from(namespace);
        let now = Instant::now();
        let all = self.0.iter().filter(|((namespace, _), image)| *namespace == wanted && image.there <= now);
        all.map(|((_, name), image)| (name.clone(), image.clone())).collect()
    }
}

impl Node {
    fn with_images<T>(&self, act: impl FnOnce(&mut Images) -> T) -> T {
        act(&mut self.images.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a booted machine has pulled by itself.
    pub(super) fn note_images(&self, config: &MachineConfig) {
        self.with_images(|images| {
            if !config.kubelet_image.is_empty() {
                images.pull(ContainerdNamespace::NsSystem, &config.kubelet_image, Duration::ZERO);
            }
            images.pull(ContainerdNamespace::NsCri, "registry.k8s.io/pause:3.10", Duration::ZERO);
        });
    }

    fn pull(&self, namespace: ContainerdNamespace, reference: &str) -> Image {
        let takes = self.world.scenario.pods.pull(reference);
        self.with_images(|images| images.pull(namespace, reference, takes))
    }

    /// When an image that a pod needs is there; the kubelet begins to pull it now, unless somebody did before.
    pub(crate) fn pull_for_pod(&self, image: &str) -> Instant {
        self.pull(ContainerdNamespace::NsCri, &runtime_name(image)).there
    }

    pub(super) fn has_image(&self, instance: Option<ContainerdInstance>, reference: &str) -> bool {
        let namespace = instance.unwrap_or_default().namespace;
        self.with_images(|images| images.0.contains_key(&(namespace, reference.to_owned())))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name under which the container runtime looks for the image of a pod.
fn runtime_name(image: &str) -> String {
    let (name, version) = match image.split_once('@') {
        Some((name, digest)) => (untagged(name), format!("@{digest}")),
        None if untagged(image) == image => (image, ":latest".to_owned()),
        None => (untagged(image), image[untagged(image).len()..].to_owned()),
    };
    match name.split('/').collect::<Vec<_>>().as_slice() {
        [_] => format!("docker.io/library/{name}{version}"),
        [host, ..] if host.contains(['.', ':']) || *host == "localhost" => format!("{name}{version}"),
        _ => format!("docker.io/{name}{version}"),
    }
}

fn untagged(name: &str) -> &str {
    name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(name, |(name, _)| name)
}

/// `HOST/PATH:TAG`, with or without a digest.
fn check(reference: &str) -> Result<(), Status> {
    let name = reference.split('@').next().unwrap_or_default();
    let named = name.split_once('/').is_some_and(|(host, path)| !host.is_empty() && !path.is_empty());
    if !named || name.contains(char::is_whitespace) || name.chars().any(|letter| letter.is_ascii_uppercase()) {
        return Err(Status::unknown(format!(
            "failed to parse image reference {reference:?}: invalid reference format"
        )));
    }
    Ok(())
}

fn namespace_of_old(namespace: ContainerdNamespace) -> Result<ContainerdNamespace, Status> {
    match namespace {
        ContainerdNamespace::NsUnknown => Err(Status::invalid_argument("invalid namespace NS_UNKNOWN")),
        known => Ok(known),
    }
}

fn namespace_of(instance: Option<ContainerdInstance>) -> Result<ContainerdNamespace, Status> {
    let instance = instance.ok_or_else(|| Status::invalid_argument("containerd instance is required"))?;
    match (instance.driver(), instance.namespace()) {
        (_, ContainerdNamespace::NsUnknown) => Err(Status::invalid_argument("invalid namespace NS_UNKNOWN")),
        (ContainerDriver::Containerd, ContainerdNamespace::NsCri) => {
            Err(Status::invalid_argument("cannot use CRI namespace with containerd driver"))
        }
        (_, namespace) => Ok(namespace),
    }
}

impl Api {
    pub(super) fn old_images(&self, namespace: ContainerdNamespace) -> Result<OldImages, Status> {
        let images =
            self.node.with_images(|images| namespace_of_old(namespace).map(|namespace| images.of(namespace)))?;
        let images = images.into_iter().map(|(name, image)| {
            let created_at = Some(stamp(image.created));
            Ok(api::ImageListResponse { metadata: None, name, digest: image.digest, size: image.size, created_at })
        });
        Ok(Box::pin(futures::stream::iter(images.collect::<Vec<_>>())))
    }

    pub(super) async fn pull_image_as_of_old(&self, request: &api::ImagePullRequest) -> Result<api::ImagePull, Status> {
        let namespace = namespace_of_old(request.namespace())?;
        check(&request.reference)?;
        tokio::time::sleep_until(self.node.pull(namespace, &request.reference).there.into()).await;
        Ok(api::ImagePull::default())
    }
}

#[tonic::async_trait]
impl ImageService for Api {
    type ListStream = Answers<api::ImageServiceListResponse>;
    type PullStream = Answers<api::ImageServicePullResponse>;

    async fn list(&self, request: Request<api::ImageServiceListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let namespace = namespace_of(request.get_ref().containerd)?;
        let images = self.node.with_images(|images| images.of(namespace)).into_iter().map(|(name, image)| {
            Ok(api::ImageServiceListResponse {
                name,
                digest: image.digest,
                size: image.size,
                created_at: Some(stamp(image.created)),
                ..Default::default()
            })
        });
        Ok(Response::new(Box::pin(futures::stream::iter(images.collect::<Vec<_>>()))))
    }

    async fn pull(&self, request: Request<api::ImageServicePullRequest>) -> Result<Response<Self::PullStream>, Status> {
        let wanted = request.get_ref();
        let namespace = namespace_of(wanted.containerd)?;
        check(&wanted.image_ref)?;
        let image = self.node.pull(namespace, &wanted.image_ref);
        tokio::time::sleep_until(image.there.into()).await;
        let layer = |status: Layer, offset| {
            let progress = api::ImageServicePullLayerProgress {
                status: status.into(),
                elapsed: Some(prost_types::Duration::default()),
                offset,
                total: image.size,
            };
            let layer_id = image.digest.clone();
            Pulled::PullProgress(api::ImageServicePullProgress { layer_id, progress: Some(progress) })
        };
        let path = wanted.image_ref.split('@').next().unwrap_or_default();
        let untagged = untagged(path);
        let answers = [
            layer(Layer::Downloading, 0),
            layer(Layer::DownloadComplete, image.size),
            layer(Layer::ExtractComplete, image.size),
            Pulled::Name(format!("{untagged}@{}", image.digest)),
        ];
        let answers = answers.map(|response| Ok(api::ImageServicePullResponse { response: Some(response) }));
        Ok(Response::new(Box::pin(futures::stream::iter(answers))))
    }

    async fn remove(&self, request: Request<api::ImageServiceRemoveRequest>) -> Result<Response<()>, Status> {
        let wanted = request.get_ref();
        let key = (namespace_of(wanted.containerd)?.into(), wanted.image_ref.clone());
        let removed = self.node.with_images(|images| images.0.remove(&key));
        removed.map(|_| Response::new(())).ok_or_else(|| Status::not_found(format!("image {} not found", key.1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtime_knows_the_images_of_pods_by_their_whole_names() {
        for (image, name) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("envoyproxy/envoy:v1@sha256:0a", "docker.io/envoyproxy/envoy@sha256:0a"),
            ("localhost/a", "localhost/a:latest"),
            ("registry.lan:5000/a/b", "registry.lan:5000/a/b:latest"),
            ("quay.io/cilium/cilium:v1", "quay.io/cilium/cilium:v1"),
        ] {
            assert_eq!(runtime_name(image), name);
        }
    }
}
