//! Waits for one condition of one object, whose kind need not be served yet.

use kube::Client;
use kube::api::DynamicObject;
use serde_json::Value;

use super::gate_error::GateError;
use super::object_ref::ObjectRef;
use super::objects::value;
use super::readiness::{condition, observed, stalled};
use super::served::wait_served;
use super::wait::{Progress, WaitReason};
use super::watch::{Reporter, only, until};

/// Waits until an object's condition is `True` for its latest generation, and returns the object. The object and the
/// definition of its kind may be missing at first.
///
/// # Errors
///
/// An object whose controller reports it as stalled; a request that the API rejects.
pub async fn wait_condition(
    client: &Client,
    object: &ObjectRef,
    condition: &str,
    progress: &Progress<'_>,
) -> Result<Value, GateError> {
    let mut reporter = Reporter::new(progress);
    loop {
        let served = wait_served(client, object, &mut reporter).await?;
        let api = served.api(client, object.namespace.as_deref());
        let outcome = until(
            api,
            only(&object.name),
            |live: DynamicObject| value(&live),
            &mut reporter,
            |seen, reporter| match seen.values().next() {
                None => {
                    reporter.report(format!("{object} does not exist yet"));
                    None
                }
                Some(Err(error)) => Some(Err(error.clone().into())),
                Some(Ok(live)) => match condition_state(live, condition) {
                    ConditionState::True => Some(Ok(live.clone())),
                    ConditionState::Pending(reason) => {
                        reporter.report(format!("{object} {reason}"));
                        None
                    }
                    ConditionState::Stalled(reason) => {
                        Some(Err(GateError::Failed { object: object.clone(), reason: WaitReason::from(reason) }))
                    }
                },
            },
        );
        match outcome.await {
            // Its definition was deleted.
            Err(GateError::Api(error)) if error.is_not_found() => {}
            outcome => return outcome,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum ConditionState {
    True,
    Pending(String),
    Stalled(String),
}

fn condition_state(live: &Value, kind: &str) -> ConditionState {
    let stalled = stalled(live);
    if let (Some(outdated), None) = (observed(live), &stalled) {
        return ConditionState::Pending(outdated.unready().unwrap_or_default().to_owned());
    }
    match (condition(live, kind), stalled) {
        (Some(found), _) if found.is_true() && found.is_current(live) => ConditionState::True,
        (_, Some(stalled)) => ConditionState::Stalled(format!("is stalled: {}", stalled.summary())),
        (Some(found), None) if found.is_current(live) => match found.summary().as_str() {
            "" => ConditionState::Pending(format!("is not {kind}")),
            summary => ConditionState::Pending(format!("is not {kind}: {summary}")),
        },
        (Some(_), None) => ConditionState::Pending("has a change that its controller has not observed yet".to_owned()),
        (None, None) => ConditionState::Pending(format!("has no condition {kind} yet")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_true_condition_of_the_latest_generation_counts() {
        let live = |status: Value| json!({"metadata": {"generation": 2}, "status": status});
        let ready = |status: &str, seen: i64| json!({"type": "Ready", "status": status, "observedGeneration": seen, "reason": "R", "message": "m"});
        let pending = |reason: &str| ConditionState::Pending(reason.to_owned());
        let outdated = "has a change that its controller has not observed yet";
        for (status, expected) in [
            (json!({}), pending("has no condition Ready yet")),
            (json!({"conditions": [ready("False", 2)]}), pending("is not Ready: R: m")),
            (json!({"conditions": [ready("True", 1)]}), pending(outdated)),
            (json!({"observedGeneration": 1, "conditions": [ready("True", 1)]}), pending(outdated)),
            (json!({"observedGeneration": 1, "conditions": [ready("True", 2)]}), pending("is not ready: R: m")),
            (json!({"observedGeneration": -1, "conditions": [ready("False", 2)]}), pending("is not ready: R: m")),
            (json!({"conditions": [ready("True", 2)]}), ConditionState::True),
            (
                json!({"conditions": [ready("False", 2), {"type": "Stalled", "status": "True", "reason": "BadSpec"}]}),
                ConditionState::Stalled("is stalled: BadSpec".to_owned()),
            ),
        ] {
            assert_eq!(condition_state(&live(status.clone()), "Ready"), expected, "{status}");
        }
    }
}
