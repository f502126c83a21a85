//! The images of a machine, for the legacy calls and for the image service of 1.13.
//!
//! Nothing is pulled: every well-formed reference becomes an image after the scenario's pull time. Failing registries are
//! pod faults of the scenario. The kubelet and the calls share the images.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use futures::Stream;
use jiff::Timestamp;
use sha2::Digest;
use talos_proto::common::{ContainerDriver, ContainerdInstance, ContainerdNamespace};
use talos_proto::machine as api;
use talos_proto::machine::image_service_pull_layer_progress::Status as Layer;
use talos_proto::machine::image_service_pull_response::Response as Pulled;
use talos_proto::machine::image_service_server::ImageService;
use tonic::{Request, Response, Status};

use super::api::NodeApi;
use super::{SimulatedNode, to_proto_timestamp};
use crate::machine_config::AppliedConfig;

type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
pub(super) type LegacyImageStream = ResponseStream<api::ImageListResponse>;

/// Images by namespace and name.
#[derive(Debug, Default)]
pub(super) struct ImageStore(BTreeMap<(i32, String), StoredImage>);

#[derive(Debug, Clone)]
struct StoredImage {
    name: String,
    digest: String,
    size: i64,
    created: Timestamp,
    /// When the pull is complete.
    available_at: Instant,
}

impl ImageStore {
    /// The image, which is available after `pull_time` unless it was pulled before.
    fn pull(&mut self, namespace: ContainerdNamespace, reference: &str, pull_time: Duration) -> StoredImage {
        let digest = format!("sha256:{}", hex(&sha2::Sha256::digest(reference)));
        let size = 20_000_000 + i64::try_from(reference.len()).unwrap_or_default() * 100_000;
        let name = reference.to_owned();
        let image =
            StoredImage { name, digest, size, created: Timestamp::now(), available_at: Instant::now() + pull_time };
        self.0.entry((namespace.into(), reference.to_owned())).or_insert(image).clone()
    }

    fn available(&self, namespace: ContainerdNamespace) -> Vec<StoredImage> {
        let selected = i32::from(namespace);
        let now = Instant::now();
        let all = self.0.iter().filter(|((namespace, _), image)| *namespace == selected && image.available_at <= now);
        all.map(|(_, image)| image.clone()).collect()
    }
}

impl SimulatedNode {
    fn with_images<T>(&self, operate: impl FnOnce(&mut ImageStore) -> T) -> T {
        operate(&mut self.images.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds the images that a machine pulls when it boots.
    pub(super) fn add_boot_images(&self, config: &AppliedConfig) {
        self.with_images(|images| {
            if !config.kubelet_image.is_empty() {
                images.pull(ContainerdNamespace::NsSystem, &config.kubelet_image, Duration::ZERO);
            }
            images.pull(ContainerdNamespace::NsCri, "registry.k8s.io/pause:3.10", Duration::ZERO);
        });
    }

    fn pull(&self, namespace: ContainerdNamespace, reference: &str) -> StoredImage {
        let pull_time = self.lab.scenario.pods.pull_time(reference);
        self.with_images(|images| images.pull(namespace, reference, pull_time))
    }

    /// Starts to pull an image for a pod, unless it is being pulled already. Returns when it is available.
    pub(crate) fn pull_for_pod(&self, image: &str) -> Instant {
        self.pull(ContainerdNamespace::NsCri, &runtime_name(image)).available_at
    }

    pub(super) fn has_image(&self, instance: Option<ContainerdInstance>, reference: &str) -> bool {
        let namespace = instance.unwrap_or_default().namespace;
        self.with_images(|images| images.0.contains_key(&(namespace, reference.to_owned())))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The container runtime's name for the image of a pod.
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
fn check_reference(reference: &str) -> Result<(), Status> {
    let name = reference.split('@').next().unwrap_or_default();
    let named = name.split_once('/').is_some_and(|(host, path)| !host.is_empty() && !path.is_empty());
    if !named || name.contains(char::is_whitespace) || name.chars().any(|letter| letter.is_ascii_uppercase()) {
        return Err(Status::unknown(format!(
            "failed to parse image reference {reference:?}: invalid reference format"
        )));
    }
    Ok(())
}

fn legacy_namespace(namespace: ContainerdNamespace) -> Result<ContainerdNamespace, Status> {
    match namespace {
        ContainerdNamespace::NsUnknown => Err(Status::invalid_argument("invalid namespace NS_UNKNOWN")),
        known => Ok(known),
    }
}

fn containerd_namespace(instance: Option<ContainerdInstance>) -> Result<ContainerdNamespace, Status> {
    let instance = instance.ok_or_else(|| Status::invalid_argument("containerd instance is required"))?;
    match (instance.driver(), instance.namespace()) {
        (_, ContainerdNamespace::NsUnknown) => Err(Status::invalid_argument("invalid namespace NS_UNKNOWN")),
        (ContainerDriver::Containerd, ContainerdNamespace::NsCri) => {
            Err(Status::invalid_argument("cannot use CRI namespace with containerd driver"))
        }
        (_, namespace) => Ok(namespace),
    }
}

impl NodeApi {
    pub(super) fn list_images_legacy(&self, namespace: ContainerdNamespace) -> Result<LegacyImageStream, Status> {
        let images =
            self.node.with_images(|images| legacy_namespace(namespace).map(|namespace| images.available(namespace)))?;
        let images = images.into_iter().map(|image| {
            let StoredImage { name, digest, size, created, .. } = image;
            let created_at = Some(to_proto_timestamp(created));
            Ok(api::ImageListResponse { metadata: None, name, digest, size, created_at })
        });
        Ok(Box::pin(futures::stream::iter(images.collect::<Vec<_>>())))
    }

    pub(super) async fn pull_image_legacy(&self, request: &api::ImagePullRequest) -> Result<api::ImagePull, Status> {
        let namespace = legacy_namespace(request.namespace())?;
        check_reference(&request.reference)?;
        tokio::time::sleep_until(self.node.pull(namespace, &request.reference).available_at.into()).await;
        Ok(api::ImagePull::default())
    }
}

#[tonic::async_trait]
impl ImageService for NodeApi {
    type ListStream = ResponseStream<api::ImageServiceListResponse>;
    type PullStream = ResponseStream<api::ImageServicePullResponse>;

    async fn list(&self, request: Request<api::ImageServiceListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let namespace = containerd_namespace(request.get_ref().containerd)?;
        let images = self.node.with_images(|images| images.available(namespace)).into_iter().map(|image| {
            Ok(api::ImageServiceListResponse {
                name: image.name,
                digest: image.digest,
                size: image.size,
                created_at: Some(to_proto_timestamp(image.created)),
                ..Default::default()
            })
        });
        Ok(Response::new(Box::pin(futures::stream::iter(images.collect::<Vec<_>>()))))
    }

    async fn pull(&self, request: Request<api::ImageServicePullRequest>) -> Result<Response<Self::PullStream>, Status> {
        let message = request.get_ref();
        let namespace = containerd_namespace(message.containerd)?;
        check_reference(&message.image_ref)?;
        let image = self.node.pull(namespace, &message.image_ref);
        tokio::time::sleep_until(image.available_at.into()).await;
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
        let path = message.image_ref.split('@').next().unwrap_or_default();
        let untagged = untagged(path);
        let responses = [
            layer(Layer::Downloading, 0),
            layer(Layer::DownloadComplete, image.size),
            layer(Layer::ExtractComplete, image.size),
            Pulled::Name(format!("{untagged}@{}", image.digest)),
        ];
        let responses = responses.map(|response| Ok(api::ImageServicePullResponse { response: Some(response) }));
        Ok(Response::new(Box::pin(futures::stream::iter(responses))))
    }

    async fn remove(&self, request: Request<api::ImageServiceRemoveRequest>) -> Result<Response<()>, Status> {
        let message = request.get_ref();
        let key = (containerd_namespace(message.containerd)?.into(), message.image_ref.clone());
        let removed = self.node.with_images(|images| images.0.remove(&key));
        removed.map(|_| Response::new(())).ok_or_else(|| Status::not_found(format!("image {} not found", key.1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtime_knows_images_by_their_full_names() {
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
