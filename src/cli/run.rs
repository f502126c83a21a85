//! `k8s-bootstrap CLUSTER [--resume]`: the bootstrap itself.

use std::sync::Arc;
use std::time::Duration;

use bootstrap::ops::{self, FinishedRun, OpsError, RunOptions};
use engine::{Stop, StopSignal, Subscriber};
use kubernetes::ExpiredLease;
use secrets::Redactor;

use super::args::{Common, RunArgs};
use super::error::CommandError;
use super::exit::Exit;
use super::operator::operator_prompt_of_run;
use super::output;
use super::signals::StopSignals;
use super::workspace::{LabFlag, target, with_operator, workspace};
use crate::report::{Background, summary};

pub(super) async fn run(common: &Common, cluster: &str, args: &RunArgs) -> Result<Exit, CommandError> {
    let workspace = workspace(common);
    let target = target(&workspace, cluster, LabFlag(args.lab))?;
    let defaults = RunOptions::new(cluster, target);
    let options = RunOptions {
        resume: args.resume,
        secrets: args.secrets.map_or(defaults.secrets, Into::into),
        bundle: args.bundle.clone(),
        force_bootstrap_node: args.force_bootstrap_node.clone(),
        hook_answers: args.hook.clone(),
        pins: args.cert_fingerprint.clone(),
        rollout: args.rollout.into(),
        expired_lease: if args.take_over { ExpiredLease::TakeOver } else { ExpiredLease::Respect },
        ..defaults
    };
    let run = bootstrap(common, &options).await?;
    let exit = Exit::from(&run);
    if exit == Exit::Done {
        output::print_note(&summary(&run, None));
        if args.merge_kubeconfig {
            let merged = ops::merge_kubeconfig(&workspace, &run.context.kubeconfig_path())?;
            output::print_note(&format!("merged into {}", merged.display()));
        }
    }
    Ok(exit)
}

/// So long a reader may take for each event at the end of a run.
const LAST_EVENTS: Duration = Duration::from_secs(5);

/// Executes a run, shown in the output format, stopped by signals.
pub(super) async fn bootstrap(common: &Common, options: &RunOptions) -> Result<FinishedRun, OpsError> {
    let (redactor, stop) = (Redactor::default(), StopSignal::default());
    let background = Arc::new(Background::new(output::subscriber(common.output, &redactor)));
    let subscriber: Arc<dyn Subscriber> = background.clone();
    let operator = operator_prompt_of_run(common.output, &subscriber, &stop);
    let workspace = with_operator(common, redactor, operator);
    let listening = tokio::spawn(listen(stop.clone()));
    let result = ops::run(&workspace, options, vec![subscriber], &stop).await;
    listening.abort();
    background.finish(LAST_EVENTS);
    result
}

/// The first Ctrl-C, SIGTERM or SIGHUP asks for a stop at a safe point; the second one stops at once.
async fn listen(stop: StopSignal) {
    let Ok(mut signals) = StopSignals::listen() else { return };
    loop {
        signals.wait().await;
        output::print_note(match stop.request() {
            Stop::AtSafePoint => "stopping at a safe point; press Ctrl-C again to stop at once",
            Stop::Now => "stopping at once",
        });
    }
}
