//! When requests to the Kubernetes API arrived, out of the API server's audit log.

use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;

use super::Request;

/// The audit log's name in the lab's folder.
pub(crate) const LOG: &str = "audit.log";

/// The parts of an audit event (`audit.k8s.io/v1`) that are read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    #[serde(rename = "requestURI")]
    uri: String,
    request_received_timestamp: Timestamp,
}

/// The requests in the audit log of the lab in `folder`, which began at `began`; none before there is a log.
pub(super) fn read(folder: &Path, began: Timestamp) -> Vec<Request> {
    std::fs::read_to_string(folder.join(LOG)).map(|log| parse(&log, began)).unwrap_or_default()
}

/// A last line that is still being written is left for the next time.
fn parse(log: &str, began: Timestamp) -> Vec<Request> {
    log.lines()
        .filter_map(|line| serde_json::from_str::<Event>(line).ok())
        .map(|event| {
            let path = event.uri.split('?').next().unwrap_or_default();
            Request {
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
    fn a_request_is_a_verb_and_a_path_at_a_moment_of_the_lab() {
        let log = concat!(
            r#"{"kind":"Event","stage":"RequestReceived","requestURI":"/api/v1/nodes?watch=true","verb":"watch","#,
            r#""requestReceivedTimestamp":"2026-01-02T03:04:07.500000Z"}"#,
            "\n{\"kind\":\"Eve"
        );
        let requests = parse(log, "2026-01-02T03:04:05Z".parse().unwrap());
        let expected = Request { to: "kubernetes".to_owned(), what: "watch /api/v1/nodes".to_owned(), at: 2.5 };
        assert_eq!(requests, [expected]);
    }
}
