//! The admission webhook: a real TLS server.

use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use error_report::ErrorReport;
use serde_json::{Value, json};

use super::{SECRET, WEBHOOK};
use crate::cluster_context::ClusterContext;
use crate::network::{ServiceEndpoints, ServiceKey};
use crate::operators::objects::apply;
use crate::operators::webhook_server::{serve_connection, tls_acceptor};
use crate::pki::CertificateAuthority;
use crate::record::facts;

/// The Secret with the webhook's CA, which the injector reads.
const CA_SECRET: &str = "cert-manager-webhook-ca";

/// Serves after the webhook's pod is Ready and the scenario's delay has passed.
pub(super) async fn serve(context: &ClusterContext, endpoints: &ServiceEndpoints, authority: &CertificateAuthority) {
    let pod = context.cache.wait_until(|cache| cache.ready_pod_of(WEBHOOK)).await;
    let began = Instant::now();
    tokio::time::sleep(context.lab.scenario.operators.webhook_serves.duration()).await;
    let service = ServiceKey { namespace: pod.namespace, name: WEBHOOK.to_owned() };
    let acceptor = match tls_acceptor(authority, &service) {
        Ok(acceptor) => acceptor,
        Err(error) => {
            tracing::error!(error = %ErrorReport::new(&error), "cert-manager's webhook cannot serve");
            return;
        }
    };
    let secret = SECRET.object(
        Some(&service.namespace),
        CA_SECRET,
        json!({"type": "Opaque", "data": {"ca.crt": STANDARD.encode(&authority.certificate)}}),
    );
    apply(&context.cache.client, SECRET, WEBHOOK, &secret).await;
    endpoints.serve(service, move |stream| serve_connection(acceptor.clone(), stream, review_admission));
    context.lab.recorder.record_fact(facts::WEBHOOK_SERVES, began, [pod.fact]);
}

fn review_admission(review: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": response(&review["request"]),
    })
}

/// Allows everything except Certificates without required fields.
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
    fn only_certificates_without_required_fields_are_denied() {
        assert_eq!(review(&json!({"secretName": "tls", "issuerRef": {"name": "x"}}))["allowed"], true);
        let denied = review(&json!({"secretName": "tls"}));
        assert_eq!(denied["allowed"], false);
        assert_eq!(denied["status"]["message"], "spec.issuerRef.name: Required value: must be specified");
        assert_eq!(response(&json!({"uid": "u", "kind": {"kind": "Issuer"}}))["allowed"], true);
    }
}
