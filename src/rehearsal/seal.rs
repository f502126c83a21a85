//! Isolation of a rehearsal: whether its programs can reach more than loopback.

use bootstrap::ops::{SecretsMode, Workspace};
use lab::ChartsFrom;
use process::seal;
use tools::Tool;

use super::{FluxChoice, RehearsalError};

/// How a rehearsal is isolated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// It runs in a network namespace with nothing but loopback.
    Namespace,
    /// Outside programs can reach the network, and why.
    None(String),
}

/// What a rehearsal needs from outside.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutsideNeeds {
    pub(crate) keep: bool,
    pub(crate) secrets: SecretsMode,
    pub(crate) charts: ChartsFrom,
    pub(crate) flux: FluxChoice,
    /// This process was started again for a namespace.
    pub(crate) restarted: bool,
}

/// Provides the tools, and starts this program again in a network namespace of its own where one can be created. Does not
/// return then.
pub(crate) async fn isolate(workspace: &Workspace, needs: OutsideNeeds) -> Result<Isolation, RehearsalError> {
    if seal::is_sealed() {
        return Ok(Isolation::Namespace);
    }
    let reasons = [
        (needs.keep, "--keep makes the lab available to other programs"),
        (needs.secrets == SecretsMode::Real, "--secrets real needs the network"),
        (needs.charts == ChartsFrom::Real, "--charts real needs the network"),
        (needs.restarted, "its network namespace has routes"),
    ];
    if let Some((_, reason)) = reasons.into_iter().find(|(applies, _)| *applies) {
        return Ok(Isolation::None(reason.to_owned()));
    }
    if let Err(error) = seal::try_seal().await {
        return Ok(Isolation::None(format!("no network namespace can be created here ({error})")));
    }
    let toolbox = workspace.toolbox();
    for tool in Tool::LAB {
        toolbox.provide(tool, &|line| workspace.note(line)).await?;
    }
    if needs.flux != FluxChoice::Played {
        // Without it the lab plays it, and the summary says so.
        let _ = toolbox.provide(Tool::KustomizeController, &|line| workspace.note(line)).await;
    }
    let again = std::env::args_os().skip(1).chain(["--sealed".into()]);
    Ok(Isolation::None(format!("it could not start again ({})", seal::become_sealed(again))))
}
