//! ConfigMaps that several writers add keys to.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::error::{ApiError, ApiErrorKind, with_retry};

/// The data of a ConfigMap, if it exists.
///
/// # Errors
///
/// When the API does not respond or rejects the request.
pub async fn config_map(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<BTreeMap<String, String>>, ApiError> {
    let api = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let found = with_retry(|| api.get_opt(name)).await?;
    Ok(found.map(|found| found.data.unwrap_or_default()))
}

/// Sets one key of a ConfigMap and leaves all others as they are. A missing ConfigMap is created.
///
/// # Errors
///
/// When the API does not respond or rejects the request.
pub async fn set_config_map_key(
    client: &Client,
    namespace: &str,
    name: &str,
    key: &str,
    value: &str,
) -> Result<(), ApiError> {
    let api = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let content = json!({"metadata": {"name": name}, "data": {key: value}});
    let new: ConfigMap = serde_json::from_value(content.clone()).unwrap_or_default();
    let (post, params, change) = (PostParams::default(), PatchParams::default(), Patch::Merge(&content));
    let set = async {
        match with_retry(|| api.create(&post, &new)).await {
            Err(ApiError { kind: ApiErrorKind::Refused { code: 409, .. }, .. }) => {
                with_retry(|| api.patch(name, &params, &change)).await.map(drop)
            }
            created => created.map(drop),
        }
    };
    kill_points::around("ConfigMap", set).await
}
