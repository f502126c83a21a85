//! The requests to the Kubernetes API, from the API server's audit log.

use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;

use super::RecordedRequest;

/// The audit log's name in the lab's folder.
pub(crate) const FILE_NAME: &str = "audit.log";

/// The fields of an audit event (`audit.k8s.io/v1`) that the lab reads.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuditEvent {
    verb: String,
    #[serde(rename = "requestURI")]
    uri: String,
    request_received_timestamp: Timestamp,
}

/// The requests in the audit log of the lab in `folder`, which started at `began`; empty before the log exists.
pub(super) fn read(folder: &Path, began: Timestamp) -> Vec<RecordedRequest> {
    std::fs::read_to_string(folder.join(FILE_NAME)).map(|log| parse(&log, began)).unwrap_or_default()
}

/// A last line that is still being written is skipped.
fn parse(log: &str, began: Timestamp) -> Vec<RecordedRequest> {
    log.lines()
        .filter_map(|line| serde_json::from_str::<AuditEvent>(line).ok())
        .map(|event| {
            let path = event.uri.split('?').next().unwrap_or_default();
            RecordedRequest {
                to: "kubernetes".to_owned(),
                what: format!("{} {path}", event.verb),
                at: event.request_received_timestamp.duration_since(began).as_secs_f64(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_event_becomes_a_request_with_verb_path_and_time() {
        let log = concat!(
            r#"{"kind":"Event","stage":"RequestReceived","requestURI":"/api/v1/nodes?watch=true","verb":"watch","#,
            r#""requestReceivedTimestamp":"2026-01-02T03:04:07.500000Z"}"#,
            "\n{\"kind\":\"Eve"
        );
        let requests = parse(log, "2026-01-02T03:04:05Z".parse().unwrap());
        let expected = RecordedRequest { to: "kubernetes".to_owned(), what: "watch /api/v1/nodes".to_owned(), at: 2.5 };
        assert_eq!(requests, [expected]);
    }
}
