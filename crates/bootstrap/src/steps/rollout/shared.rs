//! What the nodes of a run share while they take turns.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use engine::{Code, StepError};
use talos_config::InventoryNode;
use tokio::time::Instant;

use super::super::context::RunContext;
use super::super::errors::place;
use super::API_ATTEMPT;
use super::cordons::{Cordon, LeftCordoned, cordoned_by_us};
use super::turns::Turns;

/// What the nodes of a run share while they take turns.
#[derive(Debug)]
pub(in crate::steps) struct Rollout {
    pub(super) context: Arc<RunContext>,
    pub(super) turns: Turns,
    /// The node that ended the rollout, and why.
    ended_by: Mutex<Option<String>>,
    left_cordoned: tokio::sync::Mutex<LeftCordoned>,
    /// Nodes that this run has cordoned.
    cordoned: Mutex<BTreeSet<String>>,
}

impl Rollout {
    pub(in crate::steps) fn new(context: Arc<RunContext>) -> Self {
        Self {
            turns: Turns::new(context.choices.rollout.max_unavailable),
            context,
            ended_by: Mutex::default(),
            left_cordoned: tokio::sync::Mutex::new(LeftCordoned::Unread { tried: None }),
            cordoned: Mutex::default(),
        }
    }

    pub(super) fn check_goes_on(&self, node: &InventoryNode) -> Result<(), StepError> {
        match &*self.ended_by.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(reason) => Err(StepError::failed_precondition("the node was not rebooted, because the rollout ended")
                .with_place(place(node))
                .because(reason)
                .code(Code::T21)),
        }
    }

    pub(super) fn end(&self, node: &InventoryNode, error: &StepError) {
        let reason = format!("{}: {}", node.hostname, error.what);
        self.ended_by.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
    }

    pub(super) fn has_cordoned(&self, node: &InventoryNode) -> bool {
        self.cordoned.lock().unwrap_or_else(PoisonError::into_inner).contains(&node.hostname)
    }

    pub(super) fn note_cordon(&self, node: &InventoryNode) {
        self.cordoned.lock().unwrap_or_else(PoisonError::into_inner).insert(node.hostname.clone());
    }

    /// Whether an earlier run left the node cordoned. Read once per run, as soon as the Kubernetes API responds.
    pub(in crate::steps) async fn cordon_of(&self, node: &InventoryNode) -> Cordon {
        let mut left = self.left_cordoned.lock().await;
        if left.is_read_now(Instant::now()) {
            *left = match tokio::time::timeout(API_ATTEMPT, cordoned_by_us(&self.context)).await {
                Ok(Ok(nodes)) => LeftCordoned::Read(nodes),
                _ => LeftCordoned::Unread { tried: Some(Instant::now()) },
            };
        }
        left.of_node(&node.hostname)
    }
}
