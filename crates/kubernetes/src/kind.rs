//! Waiting on all objects of one kind, which may not even be served yet.

use kube::Client;
use kube::api::DynamicObject;
use kube::runtime::watcher;
use serde_json::Value;

use super::error::ApiError;
use super::objects::{ObjectRef, value};
use super::served::wait_served;
use super::watch::{Tell, Teller, until};

/// Watches every object of a kind until `missing` has nothing to say about them.
///
/// # Errors
///
/// An API that refuses.
pub async fn wait_all(
    client: &Client,
    api_version: &str,
    kind: &str,
    tell: &Tell<'_>,
    missing: impl Fn(&[Value]) -> Option<String>,
) -> Result<(), ApiError> {
    let mut teller = Teller::new(tell);
    let any = ObjectRef::new(api_version, kind, None, "*");
    loop {
        let served = wait_served(client, &any, &mut teller).await?;
        let api = served.api(client, None);
        let reduce = |live: DynamicObject| value(&live);
        let outcome = until(api, watcher::Config::default(), reduce, &mut teller, |seen, teller| {
            let objects: Result<Vec<Value>, ApiError> = seen.values().cloned().collect();
            match objects.map(|objects| missing(&objects)) {
                Ok(None) => Some(Ok(())),
                Ok(Some(reason)) => {
                    teller.say(reason);
                    None
                }
                Err(error) => Some(Err(error)),
            }
        });
        match outcome.await {
            // Its definition was taken away.
            Err(error) if error.is_not_found() => {}
            outcome => return outcome,
        }
    }
}
