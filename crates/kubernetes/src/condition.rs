//! Waiting for one condition of one object, which may not even have a kind yet.

use kube::Client;
use kube::api::DynamicObject;
use serde_json::Value;

use super::gate::GateError;
use super::objects::{ObjectRef, value};
use super::readiness::{condition, observed};
use super::served::wait_served;
use super::watch::{Tell, Teller, only, until};

/// Waits until an object's condition is `True` for its newest generation, and returns the object. Neither the object
/// nor the definition of its kind need exist yet.
///
/// # Errors
///
/// An object whose controller says that it is stalled; an API that refuses.
pub async fn wait_condition(
    client: &Client,
    object: &ObjectRef,
    condition: &str,
    tell: &Tell<'_>,
) -> Result<Value, GateError> {
    let mut teller = Teller::new(tell);
    loop {
        let served = wait_served(client, object, &mut teller).await?;
        let api = served.api(client, object.namespace.as_deref());
        let outcome = until(
            api,
            only(&object.name),
            |live: DynamicObject| value(&live),
            &mut teller,
            |seen, teller| match seen.values().next() {
                None => {
                    teller.say(format!("{object} does not exist yet"));
                    None
                }
                Some(Err(error)) => Some(Err(error.clone().into())),
                Some(Ok(live)) => match judge(live, condition) {
                    Verdict::Holds => Some(Ok(live.clone())),
                    Verdict::Waits(reason) => {
                        teller.say(format!("{object} {reason}"));
                        None
                    }
                    Verdict::Stalled(reason) => Some(Err(GateError::Failed { object: object.clone(), reason })),
                },
            },
        );
        match outcome.await {
            // Its definition was taken away.
            Err(GateError::Api(error)) if error.is_not_found() => {}
            outcome => return outcome,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Holds,
    Waits(String),
    Stalled(String),
}

fn judge(live: &Value, wanted: &str) -> Verdict {
    if observed(live).is_some() {
        return Verdict::Waits("waits for its controller to see the change".to_owned());
    }
    let stalled = condition(live, "Stalled").filter(|stalled| stalled.is_true() && stalled.is_current(live));
    match (condition(live, wanted), stalled) {
        (Some(found), _) if found.is_true() && found.is_current(live) => Verdict::Holds,
        (_, Some(stalled)) => Verdict::Stalled(format!("is stalled: {}", stalled.told())),
        (Some(found), None) if found.is_current(live) => match found.told().as_str() {
            "" => Verdict::Waits(format!("is not {wanted}")),
            told => Verdict::Waits(format!("is not {wanted}: {told}")),
        },
        (Some(_), None) => Verdict::Waits("waits for its controller to see the change".to_owned()),
        (None, None) => Verdict::Waits(format!("has no condition {wanted} yet")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_true_condition_of_the_newest_generation_holds() {
        let live = |status: Value| json!({"metadata": {"generation": 2}, "status": status});
        let ready = |status: &str, seen: i64| json!({"type": "Ready", "status": status, "observedGeneration": seen, "reason": "R", "message": "m"});
        let waits = |reason: &str| Verdict::Waits(reason.to_owned());
        let outdated = "waits for its controller to see the change";
        for (status, expected) in [
            (json!({}), waits("has no condition Ready yet")),
            (json!({"conditions": [ready("False", 2)]}), waits("is not Ready: R: m")),
            (json!({"conditions": [ready("True", 1)]}), waits(outdated)),
            (json!({"observedGeneration": 1, "conditions": [ready("True", 2)]}), waits(outdated)),
            (json!({"conditions": [ready("True", 2)]}), Verdict::Holds),
            (
                json!({"conditions": [ready("False", 2), {"type": "Stalled", "status": "True", "reason": "BadSpec"}]}),
                Verdict::Stalled("is stalled: BadSpec".to_owned()),
            ),
        ] {
            assert_eq!(judge(&live(status.clone()), "Ready"), expected, "{status}");
        }
    }
}
