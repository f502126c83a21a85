//! Conversion webhooks: whether objects of a kind can be read in every version that its definition serves (H04).
//!
//! A definition whose conversion is a webhook's is Established at once, and objects of it can even be written in the
//! version that is stored; every read in another version fails until the webhook answers. Whether it does shows only by
//! asking: first by what a look tells sooner and better (a service without endpoints, no authority), then by a request
//! that the API server cannot answer without the webhook.

use std::collections::BTreeSet;

use backon::BackoffBuilder;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::error::{ApiError, ApiErrorKind, backoff, patiently};
use super::gate::GateError;
use super::objects::get;
use super::sample::sample;
use super::served::{Definition, definitions, reference};
use super::watch::{Tell, Teller, namespaced};

/// Whoever serves a webhook, by namespace and name.
pub type ServiceName = (String, String);

/// The kinds that these services convert, by the names of their definitions.
///
/// # Errors
///
/// When the API does not answer, or refuses.
pub async fn converted_by(client: &Client, services: &BTreeSet<ServiceName>) -> Result<Vec<String>, ApiError> {
    if services.is_empty() {
        return Ok(vec![]);
    }
    let mut names = Vec::new();
    for definition in definitions(client).await? {
        let webhook = Webhook::of(&definition);
        if webhook.and_then(|webhook| webhook.service()).is_some_and(|service| services.contains(&service)) {
            names.extend(definition.metadata.name);
        }
    }
    Ok(names)
}

/// Waits until objects of all these kinds can be read in every version that is served, telling why they cannot.
///
/// # Errors
///
/// A definition that is not there; an API that refuses.
pub async fn wait_converted(client: &Client, names: &[String], tell: &Tell<'_>) -> Result<(), GateError> {
    let mut teller = Teller::new(tell);
    for name in names {
        let mut delays = backoff().without_max_times().build();
        while let Some(trouble) = conversion_trouble(client, name).await? {
            teller.say(format!("{}: its objects cannot be read in every version: {trouble}", reference(name)));
            tokio::time::sleep(delays.next().unwrap_or_default()).await;
        }
    }
    Ok(())
}

/// Why objects of a kind cannot be read in every version now; nothing when they can.
///
/// # Errors
///
/// As [`wait_converted`].
pub async fn conversion_trouble(client: &Client, name: &str) -> Result<Option<String>, ApiError> {
    let Some(live) = get(client, &reference(name)).await? else {
        let kind = ApiErrorKind::Refused { code: 404, reason: "NotFound".to_owned(), message: "it is gone".to_owned() };
        return Err(ApiError::new(kind).at(&reference(name)));
    };
    let definition: Definition = serde_json::from_value(live.clone()).map_err(super::error::malformed)?;
    let Some(webhook) = Webhook::of(&definition) else { return Ok(None) };
    let mut versions = definition.converted().peekable();
    if versions.peek().is_none() {
        return Ok(None);
    }
    if let Some(trouble) = webhook.look(client).await? {
        return Ok(Some(trouble));
    }
    for version in versions {
        match ask(client, &definition, &live, version).await {
            Err(ApiError { kind: ApiErrorKind::Unconverted { reason, .. }, .. }) => return Ok(Some(reason)),
            Err(error) if error.is_retryable() => return Ok(Some(error.to_string())),
            asked => asked?,
        }
    }
    Ok(None)
}

/// Sends what cannot be answered without the webhook: a read of what there is in a version that is not stored, or else
/// an object in it that is not kept.
async fn ask(client: &Client, definition: &Definition, live: &Value, version: &str) -> Result<(), ApiError> {
    let resource = definition.resource(version);
    let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let one = ListParams::default().limit(1);
    if !patiently(|| all.list(&one)).await?.items.is_empty() {
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
    match patiently(|| api.create(&params, &object)).await {
        Err(error) if error.is_retryable() => Err(error),
        // What rules of the schema or an admission webhook refuse proves nothing either way: the look has to do.
        _ => Ok(()),
    }
}

/// How the API server reaches a conversion webhook.
struct Webhook<'d> {
    client: &'d Value,
}

impl<'d> Webhook<'d> {
    fn of(definition: &'d Definition) -> Option<Self> {
        let conversion = definition.spec.conversion.as_ref().filter(|conversion| conversion.strategy == "Webhook")?;
        Some(Self { client: conversion.webhook.as_ref()?.get("clientConfig")? })
    }

    fn service(&self) -> Option<ServiceName> {
        let text = |key: &str| Some(self.client.get("service")?.get(key)?.as_str()?.to_owned());
        Some((text("namespace")?, text("name")?))
    }

    /// What is missing that the API server would run into.
    async fn look(&self, client: &Client) -> Result<Option<String>, ApiError> {
        let Some((namespace, name)) = self.service() else { return Ok(None) };
        let services = namespaced::<Service>(client, &namespace);
        if patiently(|| services.get_opt(&name)).await?.is_none() {
            return Ok(Some(format!("its webhook's Service {namespace}/{name} does not exist")));
        }
        let slices = namespaced::<EndpointSlice>(client, &namespace);
        let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={name}"));
        let slices = patiently(|| slices.list(&of_service)).await?;
        if !slices.items.iter().any(is_backed) {
            return Ok(Some(format!("its webhook's Service {namespace}/{name} has no ready endpoint")));
        }
        let authority = self.client.get("caBundle").and_then(Value::as_str).unwrap_or_default();
        Ok(authority.is_empty().then(|| "its definition holds no caBundle for the webhook yet".to_owned()))
    }
}

fn is_backed(slice: &EndpointSlice) -> bool {
    let ready = |endpoint: &k8s_openapi::api::discovery::v1::Endpoint| {
        endpoint.conditions.as_ref().is_none_or(|conditions| conditions.ready.unwrap_or(true))
    };
    slice.endpoints.iter().any(ready)
}
