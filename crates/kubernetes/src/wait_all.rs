//! Waits on all objects of one kind, which need not be served yet.

use kube::Client;
use kube::api::DynamicObject;
use kube::runtime::watcher;
use serde_json::Value;

use super::error::ApiError;
use super::object_ref::ObjectRef;
use super::objects::value;
use super::served::wait_served;
use super::wait::Progress;
use super::watch::{Reporter, until};

/// Watches every object of a kind until `missing` returns nothing for them.
///
/// # Errors
///
/// A request that the API rejects.
pub async fn wait_all(
    client: &Client,
    api_version: &str,
    kind: &str,
    progress: &Progress<'_>,
    missing: impl Fn(&[Value]) -> Option<String>,
) -> Result<(), ApiError> {
    let mut reporter = Reporter::new(progress);
    let any = ObjectRef::new(api_version, kind, None, "*");
    loop {
        let served = wait_served(client, &any, &mut reporter).await?;
        let api = served.api(client, None);
        let reduce = |live: DynamicObject| value(&live);
        let outcome = until(api, watcher::Config::default(), reduce, &mut reporter, |seen, reporter| {
            let objects: Result<Vec<Value>, ApiError> = seen.values().cloned().collect();
            match objects.map(|objects| missing(&objects)) {
                Ok(None) => Some(Ok(())),
                Ok(Some(reason)) => {
                    reporter.report(reason);
                    None
                }
                Err(error) => Some(Err(error)),
            }
        });
        match outcome.await {
            // Its definition was deleted.
            Err(error) if error.is_not_found() => {}
            outcome => return outcome,
        }
    }
}
