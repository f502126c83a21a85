//! Installing and upgrading with progress (1.13): neither reboots, and a failure is an exit code in a good answer.

use std::pin::Pin;

use futures::Stream;
use tonic::{Request, Response, Status};

use super::Talos;
use super::machine_service::Api;
use crate::scenario::Trouble;
use api::lifecycle_service_install_progress::Response as Progress;
use api::lifecycle_service_server::LifecycleService;
use talos_proto::common::ContainerdInstance;
use talos_proto::machine as api;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn progress(response: Progress) -> api::LifecycleServiceInstallProgress {
    api::LifecycleServiceInstallProgress { response: Some(response) }
}

impl Api {
    /// What the installer says, and how it ends.
    fn run_installer(
        &self,
        containerd: Option<ContainerdInstance>,
        image: &str,
        what: &str,
        trouble: Option<&Trouble>,
    ) -> Result<Vec<Progress>, Status> {
        if image.is_empty() {
            return Err(Status::invalid_argument("installer image name is required"));
        }
        if !self.node.has_image(containerd, image) {
            return Err(Status::internal(format!("{what} failed: failed to get image {image:?}: not found")));
        }
        let talos = Talos::of_image(image).map_err(|reason| Status::internal(format!("{what} failed: {reason}")))?;
        if let Some(Trouble::ExitCode(code)) = trouble {
            return Ok(vec![Progress::Message("running Talos installer".to_owned()), Progress::ExitCode(*code)]);
        }
        self.node.change(|state| state.disk.install(talos.clone()));
        Ok(vec![
            Progress::Message(format!("running Talos installer {}", talos.tag())),
            Progress::Message(format!("{what} of {} complete", talos.tag())),
            Progress::ExitCode(0),
        ])
    }
}

#[tonic::async_trait]
impl LifecycleService for Api {
    type InstallStream = Answers<api::LifecycleServiceInstallResponse>;
    type UpgradeStream = Answers<api::LifecycleServiceUpgradeResponse>;

    async fn install(
        &self,
        request: Request<api::LifecycleServiceInstallRequest>,
    ) -> Result<Response<Self::InstallStream>, Status> {
        if self.node.state.borrow().disk.installed.is_some() {
            return Err(Status::already_exists("machine is already installed"));
        }
        let trouble = request.extensions().get::<Trouble>().cloned();
        let wanted = request.into_inner();
        let disk = wanted.destination.unwrap_or_default().disk;
        if disk.is_empty() {
            return Err(Status::invalid_argument("destination disk is required"));
        }
        if disk != self.node.spec.disk.path() {
            return Err(Status::invalid_argument(format!(
                "invalid disk path: lstat {disk}: no such file or directory"
            )));
        }
        let image = wanted.source.unwrap_or_default().image_name;
        let said = self.run_installer(wanted.containerd, &image, "installation", trouble.as_ref())?;
        let answers =
            said.into_iter().map(|said| Ok(api::LifecycleServiceInstallResponse { progress: Some(progress(said)) }));
        Ok(Response::new(Box::pin(futures::stream::iter(answers.collect::<Vec<_>>()))))
    }

    async fn upgrade(
        &self,
        request: Request<api::LifecycleServiceUpgradeRequest>,
    ) -> Result<Response<Self::UpgradeStream>, Status> {
        if self.node.state.borrow().disk.installed.is_none() {
            return Err(Status::failed_precondition("machine is not installed"));
        }
        let trouble = request.extensions().get::<Trouble>().cloned();
        let wanted = request.into_inner();
        let image = wanted.source.unwrap_or_default().image_name;
        let said = self.run_installer(wanted.containerd, &image, "upgrade", trouble.as_ref())?;
        let answers =
            said.into_iter().map(|said| Ok(api::LifecycleServiceUpgradeResponse { progress: Some(progress(said)) }));
        Ok(Response::new(Box::pin(futures::stream::iter(answers.collect::<Vec<_>>()))))
    }
}
