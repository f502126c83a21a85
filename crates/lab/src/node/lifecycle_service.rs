//! Install and upgrade with progress (1.13). Neither reboots, and a failed installer is an exit code in a successful
//! response.

use std::pin::Pin;

use futures::Stream;
use talos_proto::common::ContainerdInstance;
use talos_proto::machine as api;
use talos_proto::machine::lifecycle_service_install_progress::Response as Progress;
use talos_proto::machine::lifecycle_service_server::LifecycleService;
use tonic::{Request, Response, Status};

use super::TalosVersion;
use super::api::NodeApi;
use crate::scenario::CallFaultKind;

type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn progress(response: Progress) -> api::LifecycleServiceInstallProgress {
    api::LifecycleServiceInstallProgress { response: Some(response) }
}

impl NodeApi {
    /// The installer's messages and its exit code.
    fn run_installer(
        &self,
        containerd: Option<ContainerdInstance>,
        image: &str,
        action: &str,
        fault: Option<&CallFaultKind>,
    ) -> Result<Vec<Progress>, Status> {
        if image.is_empty() {
            return Err(Status::invalid_argument("installer image name is required"));
        }
        if !self.node.has_image(containerd, image) {
            return Err(Status::internal(format!("{action} failed: failed to get image {image:?}: not found")));
        }
        let talos =
            TalosVersion::from_image(image).map_err(|error| Status::internal(format!("{action} failed: {error}")))?;
        if let Some(CallFaultKind::ExitCode(code)) = fault {
            return Ok(vec![Progress::Message("running Talos installer".to_owned()), Progress::ExitCode(*code)]);
        }
        self.node.change(|state| state.disk.install(talos.clone()));
        Ok(vec![
            Progress::Message(format!("running Talos installer {}", talos.tag())),
            Progress::Message(format!("{action} of {} complete", talos.tag())),
            Progress::ExitCode(0),
        ])
    }
}

#[tonic::async_trait]
impl LifecycleService for NodeApi {
    type InstallStream = ResponseStream<api::LifecycleServiceInstallResponse>;
    type UpgradeStream = ResponseStream<api::LifecycleServiceUpgradeResponse>;

    async fn install(
        &self,
        request: Request<api::LifecycleServiceInstallRequest>,
    ) -> Result<Response<Self::InstallStream>, Status> {
        if self.node.state.borrow().disk.installed.is_some() {
            return Err(Status::already_exists("machine is already installed"));
        }
        let fault = request.extensions().get::<CallFaultKind>().cloned();
        let message = request.into_inner();
        let disk = message.destination.unwrap_or_default().disk;
        if disk.is_empty() {
            return Err(Status::invalid_argument("destination disk is required"));
        }
        if disk != self.node.spec.disk.path() {
            return Err(Status::invalid_argument(format!(
                "invalid disk path: lstat {disk}: no such file or directory"
            )));
        }
        let image = message.source.unwrap_or_default().image_name;
        let messages = self.run_installer(message.containerd, &image, "installation", fault.as_ref())?;
        let responses = messages
            .into_iter()
            .map(|message| Ok(api::LifecycleServiceInstallResponse { progress: Some(progress(message)) }));
        Ok(Response::new(Box::pin(futures::stream::iter(responses.collect::<Vec<_>>()))))
    }

    async fn upgrade(
        &self,
        request: Request<api::LifecycleServiceUpgradeRequest>,
    ) -> Result<Response<Self::UpgradeStream>, Status> {
        if self.node.state.borrow().disk.installed.is_none() {
            return Err(Status::failed_precondition("machine is not installed"));
        }
        let fault = request.extensions().get::<CallFaultKind>().cloned();
        let message = request.into_inner();
        let image = message.source.unwrap_or_default().image_name;
        let messages = self.run_installer(message.containerd, &image, "upgrade", fault.as_ref())?;
        let responses = messages
            .into_iter()
            .map(|message| Ok(api::LifecycleServiceUpgradeResponse { progress: Some(progress(message)) }));
        Ok(Response::new(Box::pin(futures::stream::iter(responses.collect::<Vec<_>>()))))
    }
}
