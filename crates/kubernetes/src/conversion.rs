//! Conversion webhooks: whether objects of a kind are readable in every version that its definition serves (H04).
//!
//! A definition with a conversion webhook is Established at once, and its objects can even be written in the storage
//! version; every read in another version fails until the webhook responds. No status reports that. So the webhook's
//! prerequisites are checked first (a Service with endpoints, a `caBundle`), then a request is sent that needs it.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::error::{ApiError, ApiErrorKind, with_retry};
use super::gate_error::GateError;
use super::objects::get;
use super::sample::sample;
use super::served::{Definition, definitions, reference};
use super::wait::{Progress, WaitCause, WaitReason};
use super::watch::{Reporter, namespaced};
use retry::policies::API_POLL;

/// The Service behind a webhook.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceName {
    pub namespace: String,
    pub name: String,
}

/// The definitions whose conversion webhook is one of these Services, by name.
///
/// # Errors
///
/// When the API does not respond or rejects the request.
pub async fn converted_by(client: &Client, services: &BTreeSet<ServiceName>) -> Result<Vec<String>, ApiError> {
    if services.is_empty() {
        return Ok(vec![]);
    }
    let mut names = Vec::new();
    for definition in definitions(client).await? {
        let webhook = Webhook::from_definition(&definition);
        if webhook.and_then(|webhook| webhook.service()).is_some_and(|service| services.contains(&service)) {
            names.extend(definition.metadata.name);
        }
    }
    Ok(names)
}

/// Waits until objects of all these kinds are readable in every served version, and reports why they are not.
///
/// # Errors
///
/// A definition that does not exist; a request that the API rejects.
pub async fn wait_converted(client: &Client, names: &[String], progress: &Progress<'_>) -> Result<(), GateError> {
    let mut reporter = Reporter::new(progress);
    for name in names {
        let mut backoff = API_POLL.backoff();
        while let Some(failure) = conversion_failure(client, name).await? {
            let text = format!("{}: its conversion webhook does not serve every version: {failure}", reference(name));
            reporter.report(WaitReason::new(text, WaitCause::ConversionWebhook));
            backoff.wait().await;
        }
    }
    Ok(())
}

/// Why objects of a kind are not readable in every version now; nothing when they are.
///
/// # Errors
///
/// As [`wait_converted`].
pub async fn conversion_failure(client: &Client, name: &str) -> Result<Option<String>, ApiError> {
    let Some(live) = get(client, &reference(name)).await? else {
        let kind = ApiErrorKind::Refused { code: 404, reason: "NotFound".to_owned(), message: "not found".to_owned() };
        return Err(ApiError::new(kind).at(&reference(name)));
    };
    let definition: Definition = serde_json::from_value(live.clone()).map_err(super::error::malformed)?;
    let Some(webhook) = Webhook::from_definition(&definition) else { return Ok(None) };
    let mut versions = definition.converted().peekable();
    if versions.peek().is_none() {
        return Ok(None);
    }
    if let Some(missing) = webhook.missing_part(client).await? {
        return Ok(Some(missing));
    }
    for version in versions {
        match probe_version(client, &definition, &live, version).await {
            Err(ApiError { kind: ApiErrorKind::Unconverted { reason, .. }, .. }) => return Ok(Some(reason)),
            Err(error) if error.is_retryable() => return Ok(Some(error.to_string())),
            probed => probed?,
        }
    }
    Ok(None)
}

/// Sends a request that needs the webhook: a read in a version other than the stored one, or, without objects, a dry-run
/// create in it.
async fn probe_version(client: &Client, definition: &Definition, live: &Value, version: &str) -> Result<(), ApiError> {
    let resource = definition.resource(version);
    let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let one = ListParams::default().limit(1);
    if !with_retry(|| all.list(&one)).await?.items.is_empty() {
        return Ok(());
    }
    let versions = live.pointer("/spec/versions").and_then(Value::as_array);
    let schema = versions.into_iter().flatten().find(|known| known["name"] == version);
    let Some(mut object) = schema.and_then(|known| sample(&known["schema"]["openAPIV3Schema"])) else { return Ok(()) };
    object["apiVersion"] = json!(resource.api_version);
    object["kind"] = json!(resource.kind);
    object["metadata"] = json!({"name": "k8s-bootstrap-probe"});
    let api: Api<DynamicObject> = if definition.is_namespaced() {
        Api::namespaced_with(client.clone(), "default", &resource)
    } else {
        Api::all_with(client.clone(), &resource)
    };
    let object: DynamicObject = serde_json::from_value(object).map_err(super::error::malformed)?;
    let params = PostParams { dry_run: true, ..PostParams::default() };
    match with_retry(|| api.create(&params, &object)).await {
        Err(error) if error.is_retryable() => Err(error),
        // A rejection by the schema or an admission webhook proves nothing either way.
        _ => Ok(()),
    }
}

/// How the API server reaches a conversion webhook.
struct Webhook<'d> {
    client: &'d Value,
}

impl<'d> Webhook<'d> {
    fn from_definition(definition: &'d Definition) -> Option<Self> {
        let conversion = definition.spec.conversion.as_ref().filter(|conversion| conversion.strategy == "Webhook")?;
        Some(Self { client: conversion.webhook.as_ref()?.get("clientConfig")? })
    }

    fn service(&self) -> Option<ServiceName> {
        let text = |key: &str| Some(self.client.get("service")?.get(key)?.as_str()?.to_owned());
        Some(ServiceName { namespace: text("namespace")?, name: text("name")? })
    }

    /// A part without which the API server cannot call it.
    async fn missing_part(&self, client: &Client) -> Result<Option<String>, ApiError> {
        let Some(ServiceName { namespace, name }) = self.service() else { return Ok(None) };
        let services = namespaced::<Service>(client, &namespace);
        if with_retry(|| services.get_opt(&name)).await?.is_none() {
            return Ok(Some(format!("its webhook's Service {namespace}/{name} does not exist")));
        }
        let slices = namespaced::<EndpointSlice>(client, &namespace);
        let params = ListParams::default().labels(&format!("kubernetes.io/service-name={name}"));
        let slices = with_retry(|| slices.list(&params)).await?;
        if !slices.items.iter().any(is_backed) {
            return Ok(Some(format!("its webhook's Service {namespace}/{name} has no ready endpoint")));
        }
        let authority = self.client.get("caBundle").and_then(Value::as_str).unwrap_or_default();
        Ok(authority.is_empty().then(|| "its definition has no caBundle for the webhook yet".to_owned()))
    }
}

fn is_backed(slice: &EndpointSlice) -> bool {
    let ready = |endpoint: &k8s_openapi::api::discovery::v1::Endpoint| {
        endpoint.conditions.as_ref().is_none_or(|conditions| conditions.ready.unwrap_or(true))
    };
    slice.endpoints.iter().any(ready)
}
