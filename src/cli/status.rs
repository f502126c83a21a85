//! `k8s-bootstrap status CLUSTER`: the last run, the lock, and the cluster.

use bootstrap::ops::{self, LabAccess, Target};

use super::args::{Common, Output, StatusArgs};
use super::error::CommandError;
use super::exit::Exit;
use super::output;
use super::workspace::workspace;
use crate::rehearsal;
use crate::report::{status_json, status_text};

pub(super) async fn status(common: &Common, args: StatusArgs) -> Result<Exit, CommandError> {
    let workspace = workspace(common);
    let target = if args.lab {
        // A lab that has ended still has its journal.
        let folder = rehearsal::folder(&workspace, &args.cluster)?;
        Target::Lab(LabAccess::ended(folder))
    } else {
        Target::Cluster
    };
    let report = ops::status(&workspace, &args.cluster, &target).await?;
    let lab = if args.lab { " --lab" } else { "" };
    output::data(&match common.output {
        Output::Json => status_json(&report),
        Output::Text => status_text(&args.cluster, &report, &format!("{}{lab}", args.cluster)),
    });
    Ok(Exit::Done)
}
