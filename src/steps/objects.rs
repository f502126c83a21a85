//! Plain objects: compared with the world, applied server-side.

use std::sync::Arc;

use serde_json::Value;

use super::site::Site;
use crate::engine::{ErrorClass, Observation, StepContext, StepError};
use crate::kubernetes::{self, ApiError, ApplyOptions, GateError};

/// The field manager of what we apply in our own name.
pub(super) const MANAGER: &str = "k8s-bootstrap";

/// Whether the world already holds everything that these objects say.
pub(super) async fn observe_objects(site: &Arc<Site>, objects: &[Value]) -> Result<Observation, StepError> {
    let client = site.kubernetes().await?;
    let differences = kubernetes::differences(&client, objects).await.map_err(|error| api_error(&error))?;
    Ok(match differences.first() {
        None => Observation::Holds(format!("{} objects are as they should be", objects.len())),
        Some((object, difference)) => {
            let others = differences.len() - 1;
            let more = if others == 0 { String::new() } else { format!(", and {others} more") };
            Observation::Missing(format!("{object}: {difference}{more}"))
        }
    })
}

/// Applies objects in our own name; what we wrote before is ours to overwrite.
pub(super) async fn apply_objects(site: &Arc<Site>, objects: &[Value], cx: &StepContext) -> Result<(), StepError> {
    let options = ApplyOptions { field_manager: MANAGER.to_owned(), force: true, default_namespace: None };
    apply_as(site, &options, objects, cx).await
}

pub(super) async fn apply_as(
    site: &Arc<Site>,
    options: &ApplyOptions,
    objects: &[Value],
    cx: &StepContext,
) -> Result<(), StepError> {
    let client = site.kubernetes().await?;
    kubernetes::apply(&client, options, objects, cx.teller()).await.map(|_| ()).map_err(|error| gate_error(&error))
}

/// A failed request as a step's error.
pub(super) fn api_error(error: &ApiError) -> StepError {
    coded(error.is_retryable(), error, error.code(), "the Kubernetes API did not take this")
}

/// A gate that was not passed as a step's error.
pub(super) fn gate_error(error: &GateError) -> StepError {
    match error {
        GateError::Api(error) => api_error(error),
        GateError::Failed { .. } => coded(false, error, None, "what was installed does not become ready"),
    }
}

fn coded(retryable: bool, error: &dyn std::fmt::Display, code: Option<&str>, what: &str) -> StepError {
    let class = if retryable { ErrorClass::Retryable } else { ErrorClass::WrongWorld };
    let base = StepError::new(class, what).because(error);
    match code {
        Some(code) => base.code(code),
        None => base,
    }
}
