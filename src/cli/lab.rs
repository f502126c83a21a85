//! `k8s-bootstrap lab up|down|status`: a lab by itself.

use ::lab::{ApiServers, ChartsFrom, EncryptedFiles, Lab};
use bootstrap::ops::{SecretsMode, input_warnings, read_cluster};
use engine::Code;

use super::args::{ChartsArg, Common, ControlPlanesArg, FluxArg, LabCommand, LabOptionsArgs, Output};
use super::error::CommandError;
use super::exit::Exit;
use super::output;
use super::signals::StopSignals;
use super::workspace::workspace;
use crate::rehearsal::{self, Afterwards, FluxChoice, LabOptions};
use crate::report::lab_table;

pub(super) async fn lab(common: &Common, command: LabCommand) -> Result<Exit, CommandError> {
    match command {
        LabCommand::Up { cluster, lab } => up(common, &cluster, &lab).await?,
        LabCommand::Down { cluster } => down(common, &cluster).await?,
        LabCommand::Status { cluster } => status(common, &cluster).await?,
    }
    Ok(Exit::Done)
}

/// With real `secrets`, encrypted files of the working tree are decrypted; otherwise their values are replaced.
pub(super) fn options(args: &LabOptionsArgs, secrets: SecretsMode) -> LabOptions {
    let charts = match args.charts {
        ChartsArg::StandIns => ChartsFrom::StandIns,
        ChartsArg::Real => ChartsFrom::Real,
    };
    let api_servers = match args.control_planes {
        ControlPlanesArg::One => ApiServers::One,
        ControlPlanesArg::All => ApiServers::All,
    };
    let flux = match (args.flux, secrets) {
        (FluxArg::Played, _) => FluxChoice::Played,
        (FluxArg::Real, SecretsMode::Real) => FluxChoice::Real(EncryptedFiles::Keep),
        (FluxArg::Real, SecretsMode::Placeholder) => FluxChoice::Real(EncryptedFiles::Placeholders),
    };
    LabOptions { scenario: args.scenario.clone(), charts, api_servers, flux }
}

pub(super) fn afterwards(args: &LabOptionsArgs) -> Afterwards {
    if args.keep { Afterwards::Keep } else { Afterwards::Remove }
}

/// Waits for Ctrl-C, SIGTERM, SIGHUP or `lab down`.
pub(super) async fn stay(lab: &Lab, usage: &str) -> Result<(), CommandError> {
    let fail =
        |error: std::io::Error| CommandError::precondition(Code::X01, format!("cannot listen to signals: {error}"));
    let mut signals = StopSignals::listen().map_err(fail)?;
    let (cluster, nodes) = (&lab.spec().cluster, lab.spec().nodes.len());
    output::print_note(&format!(
        "the lab of {cluster} is up: {nodes} nodes, seed {}; stop it with Ctrl-C or `k8s-bootstrap lab down {cluster}`\n{usage}",
        lab.seed()
    ));
    signals.wait().await;
    Ok(())
}

async fn up(common: &Common, cluster: &str, args: &LabOptionsArgs) -> Result<(), CommandError> {
    let workspace = workspace(common);
    let cluster = read_cluster(&workspace, cluster, SecretsMode::Placeholder).await?;
    input_warnings(&cluster).for_each(|warning| workspace.note(&format!("warning: {warning}")));
    let lab = rehearsal::start(&workspace, &cluster, &options(args, SecretsMode::Placeholder)).await?;
    stay(&lab, &format!("run against it: k8s-bootstrap {} --lab", cluster.name)).await?;
    Ok(rehearsal::end(lab, &workspace, afterwards(args)).await?)
}

async fn down(common: &Common, cluster: &str) -> Result<(), CommandError> {
    let folder = rehearsal::folder(&workspace(common), cluster)?;
    let failed = |error| CommandError::caused_by(Exit::PreconditionFailed, Code::P04, &error);
    ::lab::request_shutdown(&folder).await.map_err(failed)
}

async fn status(common: &Common, cluster: &str) -> Result<(), CommandError> {
    let folder = rehearsal::folder(&workspace(common), cluster)?;
    let failed = |code, error: &dyn std::error::Error| CommandError::caused_by(Exit::PreconditionFailed, code, error);
    let status = ::lab::query_status(&folder).await.map_err(|error| failed(Code::P04, &error))?;
    output::data(&match common.output {
        Output::Json => serde_json::to_string_pretty(&status).map_err(|error| failed(Code::X01, &error))?,
        Output::Text => lab_table(&status),
    });
    Ok(())
}
