//! Requests of kubelets for the certificates that they serve with.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::ListParams;
use kube::{Api, Client};

use super::error::{ApiError, with_retry};

/// The signer of kubelets' serving certificates. Kubernetes does not approve its requests by itself (1.35, "Certificates and
/// Certificate Signing Requests").
const SERVING: &str = "kubernetes.io/kubelet-serving";
/// The user that a kubelet is, before its node's name.
const NODE_USER: &str = "system:node:";

/// The nodes whose kubelets wait for a serving certificate: until then `kubectl logs`, `exec` and metrics fail there.
///
/// # Errors
///
/// When the API does not respond or rejects the request.
pub async fn pending_serving_requests(client: &Client) -> Result<BTreeSet<String>, ApiError> {
    let api = Api::<CertificateSigningRequest>::all(client.clone());
    let params = ListParams::default().fields(&format!("spec.signerName={SERVING}"));
    let list = with_retry(|| api.list(&params)).await?;
    Ok(pending(&list.items))
}

/// The nodes whose newest request is undecided: a kubelet asks again when a request is not approved in time.
fn pending(requests: &[CertificateSigningRequest]) -> BTreeSet<String> {
    let mut newest: BTreeMap<&str, &CertificateSigningRequest> = BTreeMap::new();
    let created = |request: &CertificateSigningRequest| request.metadata.creation_timestamp.as_ref().map(|time| time.0);
    for request in requests.iter().filter(|request| request.spec.signer_name == SERVING) {
        let Some(node) = request.spec.username.as_ref().and_then(|user| user.strip_prefix(NODE_USER)) else { continue };
        let known = newest.entry(node).or_insert(request);
        if created(request) > created(known) {
            *known = request;
        }
    }
    newest.into_iter().filter(|(_, request)| is_undecided(request)).map(|(node, _)| node.to_owned()).collect()
}

/// Whether it is neither approved nor denied, and its signer has not failed.
fn is_undecided(request: &CertificateSigningRequest) -> bool {
    request.status.as_ref().and_then(|status| status.conditions.as_ref()).is_none_or(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn request(user: &str, signer: &str, minute: u8, conditions: &Value) -> CertificateSigningRequest {
        serde_json::from_value(json!({
            "metadata": {"name": "csr-1", "creationTimestamp": format!("2026-01-01T00:{minute:02}:00Z")},
            "spec": {"request": "", "signerName": signer, "usages": [], "username": user},
            "status": {"conditions": conditions},
        }))
        .unwrap()
    }

    #[test]
    fn an_undecided_request_is_pending() {
        let approved = json!([{"type": "Approved", "status": "True"}]);
        let requests = [
            request("system:node:a", SERVING, 0, &json!([])),
            request("system:node:b", SERVING, 0, &approved),
            request("system:node:c", "kubernetes.io/kube-apiserver-client-kubelet", 0, &json!([])),
            request("someone", SERVING, 0, &json!([])),
            request("system:node:d", SERVING, 0, &json!([])),
            request("system:node:d", SERVING, 1, &approved),
            request("system:node:e", SERVING, 1, &json!([])),
            request("system:node:e", SERVING, 0, &approved),
        ];
        assert_eq!(pending(&requests), BTreeSet::from(["a".to_owned(), "e".to_owned()]));
        assert_eq!(pending(&[]), BTreeSet::new());
    }
}
