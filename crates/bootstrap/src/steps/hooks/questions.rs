//! Which hooks an operator may answer about (`--hook`), decided before anything is changed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use engine::journal::RecordedIntents;
use engine::plan::StepId;
use tokio::time::timeout;

use super::command::{ClusterRecords, Process};
use crate::steps::context::RunContext;

/// A Kubernetes API that is up responds within this.
const RESPONSE: Duration = Duration::from_secs(5);

/// The hooks of a plan that run as processes.
#[derive(Default)]
pub struct HookSteps(Vec<(StepId, Arc<Process>)>);

impl std::fmt::Debug for HookSteps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(step, _)| step)).finish()
    }
}

impl HookSteps {
    pub(in crate::steps) fn push(&mut self, step: StepId, process: Arc<Process>) {
        self.0.push((step, process));
    }

    /// Those about which an answer decides something. While the Kubernetes API does not respond, those whose outcome the journal
    /// does not have.
    pub(crate) async fn in_question(&self, context: &RunContext, journal: &RecordedIntents) -> BTreeSet<StepId> {
        // Records that cannot be read are an error of the hook's own step.
        let cluster = timeout(RESPONSE, ClusterRecords::read(context)).await.ok().and_then(Result::ok);
        let open = self.0.iter().filter(|(_, process)| process.is_in_question(journal, cluster.as_ref()));
        open.map(|(step, _)| step.clone()).collect()
    }
}
