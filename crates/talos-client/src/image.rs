//! Listing and pre-pulling images on a node.

use super::error::{ClientError, ClientErrorKind};
use super::link::{Flow, Link, Wait};
use super::version::TalosVersion;
use talos_proto::common::{ContainerDriver, ContainerdInstance, ContainerdNamespace};
use talos_proto::machine::image_service_pull_layer_progress::Status as Layer;
use talos_proto::machine::image_service_pull_response::Response as Pulled;
use talos_proto::machine::{ImageListRequest, ImagePullRequest, ImageServiceListRequest, ImageServicePullRequest};

/// The containerd namespace of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageSpace {
    /// Images of Talos itself: installer, etcd, kubelet.
    System,
    /// Images of pods.
    Pods,
}

impl ImageSpace {
    fn namespace(self) -> ContainerdNamespace {
        match self {
            Self::System => ContainerdNamespace::NsSystem,
            Self::Pods => ContainerdNamespace::NsCri,
        }
    }

    /// The CRI containerd, which talosctl 1.13 uses for both namespaces.
    pub(super) fn instance(self) -> ContainerdInstance {
        ContainerdInstance { driver: ContainerDriver::Cri.into(), namespace: self.namespace().into() }
    }
}

/// An image on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub name: String,
    pub digest: String,
    /// In bytes.
    pub size: i64,
}

/// Pulls an image and returns its name on the node; `progress` gets a line for each layer where the node reports them.
pub(super) async fn pull(
    link: &Link,
    version: &TalosVersion,
    space: ImageSpace,
    reference: &str,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> Result<String, ClientError> {
    if version.has_lifecycle_service() {
        match pull_with_progress(link, space, reference, progress).await {
            Err(error) if error.kind == ClientErrorKind::Unimplemented => {}
            pulled => return pulled,
        }
    }
    let request = ImagePullRequest { namespace: space.namespace().into(), reference: reference.to_owned() };
    let mut machine = link.machine();
    link.one("image pull", Wait::Long, machine.image_pull(link.request(request))).await?;
    Ok(reference.to_owned())
}

async fn pull_with_progress(
    link: &Link,
    space: ImageSpace,
    reference: &str,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> Result<String, ClientError> {
    let call = "image pull";
    let request = ImageServicePullRequest { containerd: Some(space.instance()), image_ref: reference.to_owned() };
    let mut images = link.images();
    let mut stream = link.stream(call, Flow::Works, images.pull(link.request(request))).await?;
    let mut name = None;
    while let Some(message) = stream.raw().await? {
        match message.response {
            Some(Pulled::Name(pulled)) => name = Some(pulled),
            Some(Pulled::PullProgress(update)) => {
                let layer = update.progress.unwrap_or_default();
                if matches!(layer.status(), Layer::ExtractComplete | Layer::AlreadyExists) {
                    progress(&format!("layer {} of {reference} is complete", update.layer_id));
                }
            }
            None => {}
        }
    }
    name.ok_or_else(|| link.error(call, ClientErrorKind::Unavailable, "the pull ended before it was complete"))
}

/// The images of a namespace.
pub(super) async fn list(link: &Link, version: &TalosVersion, space: ImageSpace) -> Result<Vec<Image>, ClientError> {
    let call = "image list";
    let mut found = Vec::new();
    if version.has_lifecycle_service() {
        let request = ImageServiceListRequest { containerd: Some(space.instance()) };
        let mut images = link.images();
        let mut stream = link.stream(call, Flow::Ends, images.list(link.request(request))).await?;
        while let Some(image) = stream.raw().await? {
            found.push(Image { name: image.name, digest: image.digest, size: image.size });
        }
        return Ok(found);
    }
    let (mut machine, request) = (link.machine(), ImageListRequest { namespace: space.namespace().into() });
    let mut stream = link.stream(call, Flow::Ends, machine.image_list(link.request(request))).await?;
    while let Some(image) = stream.next().await? {
        found.push(Image { name: image.name, digest: image.digest, size: image.size });
    }
    Ok(found)
}
