//! `k8s-bootstrap node …`: inspects, reboots, upgrades or resets one node of a running cluster.

use bootstrap::ops::{AfterReboot, NodeSession, OpsError};
use secrecy::ExposeSecret;
use talos_client::{ImageSpace, RebootMode, ResetOptions, Tail, WipeTarget};

use super::args::{Afterwards, Common, How, NodeArgs, NodeCommand, Output};
use super::error::CommandError;
use super::exit::Exit;
use super::output;
use super::workspace::{LabFlag, target, workspace};
use crate::report::{NodeTable, clock_table, disk_table, image_table, resources_text, service_table};

pub(super) async fn node(common: &Common, args: NodeArgs) -> Result<Exit, CommandError> {
    let which = args.command.which();
    let workspace = workspace(common);
    let target = target(&workspace, &which.cluster, LabFlag(which.lab))?;
    let node = NodeSession::connect(&workspace, &which.cluster, &target, &which.node).await?;
    let redactor = workspace.redactor.clone();
    let print = move |text: &str| output::data(&redactor.redact(text));
    let table = |table: NodeTable| match common.output {
        Output::Json => print(&table.to_json()),
        Output::Text => print(&table.to_text()),
    };
    let client = &node.client;
    match args.command {
        NodeCommand::Logs { service, follow, tail, .. } => {
            let tail = tail.map_or(Tail::Everything, Tail::Lines);
            node.log(&service, tail, follow.mode(), &print).await?;
        }
        NodeCommand::Dmesg { follow, .. } => node.kernel_log(follow.mode(), &print).await?,
        NodeCommand::Events { .. } => node.events(&workspace, &print).await?,
        NodeCommand::Services { .. } => table(service_table(client.services().await?)),
        NodeCommand::Get { kind, id, namespace, .. } => {
            let resources = client.resources();
            let kind = resources.find_kind(&kind).await.map_err(OpsError::from)?;
            let namespace = namespace.unwrap_or(kind.default_namespace);
            print(&resources_text(&resources.read_yaml(&namespace, &kind.name, id.as_deref()).await?));
        }
        NodeCommand::Disks { .. } => table(disk_table(client.disks().await?)),
        NodeCommand::Time { against, .. } => table(clock_table(&client.clock(against.as_deref()).await?)),
        NodeCommand::Images { pull, system, .. } => {
            let space = if system { ImageSpace::System } else { ImageSpace::Pods };
            if let Some(reference) = pull {
                let pulled = client.pull_image(space, &reference, &output::print_note).await?;
                output::print_note(&format!("pulled {pulled}"));
            }
            table(image_table(client.images(space).await?));
        }
        NodeCommand::Kubeconfig { out, .. } => {
            output::private_file(&out, client.kubeconfig().await?.expose_secret())?;
        }
        NodeCommand::Reboot { how, afterwards, .. } => node.reboot(&workspace, how.into(), afterwards.into()).await?,
        NodeCommand::Upgrade { image, afterwards, .. } => node.upgrade(&workspace, &image, afterwards.into()).await?,
        NodeCommand::Rollback { afterwards, .. } => node.rollback(&workspace, afterwards.into()).await?,
        NodeCommand::Shutdown { .. } => drop(client.shutdown().await?),
        NodeCommand::Reset { graceful, wipe, .. } => {
            drop(client.reset(ResetOptions { graceful, reboot: true, wipe: WipeTarget::Partitions(wipe) }).await?);
        }
    }
    Ok(Exit::Done)
}

impl From<Afterwards> for AfterReboot {
    fn from(afterwards: Afterwards) -> Self {
        if afterwards.no_wait { Self::Return } else { Self::Wait }
    }
}

impl From<How> for RebootMode {
    fn from(how: How) -> Self {
        match how {
            How::Default => Self::Default,
            How::Powercycle => Self::PowerCycle,
            How::Force => Self::Force,
        }
    }
}
