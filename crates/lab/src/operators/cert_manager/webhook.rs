//! The webhook: a real TLS endpoint that answers admission reviews.

use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{SECRET, SERVED, WEBHOOK};
use crate::cluster::Inside;
use crate::network::Endpoints;
use crate::operators::https::{acceptor, connection};
use crate::operators::objects::apply;
use crate::pki::Authority;

/// Where the webhook keeps its authority, for the injector to read.
const CA_SECRET: &str = "cert-manager-webhook-ca";

/// Serves from the moment in which the webhook's pod is Ready and has had its time.
pub(super) async fn serve(inside: &Inside, endpoints: &Endpoints, authority: &Authority) {
    let (namespace, pod) = inside.view.until(|view| view.ready_of(WEBHOOK)).await;
    let began = Instant::now();
    tokio::time::sleep(inside.world.scenario.operators.webhook_serves.duration()).await;
    let acceptor = match acceptor(authority, &namespace, WEBHOOK) {
        Ok(acceptor) => acceptor,
        Err(reason) => {
            tracing::error!(%reason, "the webhook cannot serve");
            return;
        }
    };
    let secret = SECRET.object(
        Some(&namespace),
        CA_SECRET,
        json!({"type": "Opaque", "data": {"ca.crt": STANDARD.encode(&authority.certificate)}}),
    );
    apply(&inside.view.client, SECRET, WEBHOOK, &secret).await;
    endpoints.serve((namespace, WEBHOOK.to_owned()), move |stream| connection(acceptor.clone(), stream, answer));
    inside.world.recorder.fact(SERVED, began, [pod]);
}

fn answer(review: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": response(&review["request"]),
    })
}

/// Allows whatever is not plainly wrong.
fn response(request: &Value) -> Value {
    let problem = match request.pointer("/kind/kind").and_then(Value::as_str) {
        Some("Certificate") => certificate_problem(&request["object"]["spec"]),
        _ => None,
    };
    match problem {
        None => json!({"uid": request["uid"], "allowed": true}),
        Some(problem) => json!({
            "uid": request["uid"], "allowed": false,
            "status": {"code": 400, "reason": "BadRequest", "message": problem},
        }),
    }
}

fn certificate_problem(spec: &Value) -> Option<&'static str> {
    let missing = |value: &Value| value.as_str().is_none_or(str::is_empty);
    if missing(&spec["secretName"]) {
        return Some("spec.secretName: Required value: must be specified");
    }
    missing(&spec["issuerRef"]["name"]).then_some("spec.issuerRef.name: Required value: must be specified")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(spec: &Value) -> Value {
        response(&json!({"uid": "u", "kind": {"kind": "Certificate"}, "object": {"spec": spec}}))
    }

    #[test]
    fn what_is_plainly_wrong_is_denied_and_everything_else_allowed() {
        assert_eq!(review(&json!({"secretName": "tls", "issuerRef": {"name": "x"}}))["allowed"], true);
        let denied = review(&json!({"secretName": "tls"}));
        assert_eq!(denied["allowed"], false);
        assert_eq!(denied["status"]["message"], "spec.issuerRef.name: Required value: must be specified");
        assert_eq!(response(&json!({"uid": "u", "kind": {"kind": "Issuer"}}))["allowed"], true);
    }
}
