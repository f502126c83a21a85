//! `k8s-bootstrap etcd …`: a running cluster's etcd.

use super::args::{Common, EtcdArgs, EtcdCommand, Output};
use super::error::CommandError;
use super::exit::Exit;
use super::output;
use super::workspace::{LabFlag, target, workspace};
use crate::report::{etcd_json, etcd_table};
use bootstrap::ops;

pub(super) async fn etcd(common: &Common, args: EtcdArgs) -> Result<Exit, CommandError> {
    let (EtcdCommand::Snapshot { of, .. } | EtcdCommand::Status { of } | EtcdCommand::Disarm { of }) = &args.command;
    let workspace = workspace(common);
    let target = target(&workspace, &of.cluster, LabFlag(of.lab))?;
    let access = ops::node_access(&workspace, &of.cluster, &target).await?;
    match args.command {
        EtcdCommand::Snapshot { out, .. } => {
            let bytes = ops::etcd_snapshot(&access, &out).await?;
            output::print_note(&format!("{}: {bytes} bytes, digest checked", out.display()));
        }
        EtcdCommand::Status { .. } => {
            let members = ops::etcd_status(&access).await;
            output::data(&workspace.redactor.redact(&match common.output {
                Output::Json => etcd_json(&members),
                Output::Text => etcd_table(&members),
            }));
        }
        EtcdCommand::Disarm { .. } => {
            output::print_note(&format!("{} alarms disarmed", ops::etcd_disarm(&access).await?));
        }
    }
    Ok(Exit::Done)
}
