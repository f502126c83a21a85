//! Transcripts: requests and the answers that Talos gives to them, as data.
//!
//! An expected answer names what it is about: what else is in the answer does not matter, lists are compared as far as
//! they go. A text that begins with `~` is a pattern; bytes are matched as the text that they are.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use test_support::{Condition, Deadline, wait_until_async};

use crate::call::{Trust, call, connect};
use crate::test_lab::TestLab;

const TIMEOUT: Duration = Duration::from_mins(1);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transcript {
    /// The versions that it holds for.
    pub talos: Vec<String>,
    /// What the scenario changes.
    #[serde(default)]
    scenario: Value,
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    call: String,
    #[serde(default = "first")]
    to: String,
    /// A role; `anonymous` has no certificate.
    #[serde(default, rename = "as")]
    caller: Option<String>,
    #[serde(default)]
    metadata: Vec<(String, String)>,
    #[serde(default)]
    request: Option<Value>,
    /// The messages of the answer, the first ones of a stream.
    #[serde(default)]
    answer: Vec<Value>,
    /// The code; `any` where versions differ. Without it and an answer, there is none and no refusal.
    #[serde(default)]
    refused: Option<String>,
    #[serde(default)]
    text: Option<String>,
    /// Called again until the answer is this.
    #[serde(default)]
    until: bool,
}

fn first() -> String {
    "cp-1".to_owned()
}

/// Why the answer is not what was expected.
fn difference(expected: &Value, found: &Value, at: &str) -> Option<String> {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => expected.iter().find_map(|(key, value)| {
            let missing = Value::Null;
            difference(value, found.get(key).unwrap_or(&missing), &format!("{at}.{key}"))
        }),
        (Value::Array(expected), Value::Array(found)) => expected.iter().enumerate().find_map(|(index, value)| {
            difference(value, found.get(index).unwrap_or(&Value::Null), &format!("{at}[{index}]"))
        }),
        (Value::String(pattern), Value::String(text)) if pattern.starts_with('~') => {
            let decoded = STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let pattern = regex::RegexBuilder::new(&pattern[1..]).multi_line(true).build().unwrap();
            let matches = pattern.is_match(text) || decoded.as_ref().is_some_and(|text| pattern.is_match(text));
            (!matches).then(|| format!("{at}: {text:?} does not match {pattern}"))
        }
        (expected, found) if expected == found => None,
        // What has the value that it has by itself is not written.
        (Value::Bool(false), Value::Null) => None,
        (Value::String(text), Value::Null) if text.is_empty() => None,
        (expected, found) => Some(format!("{at}: expected {expected}, found {found}")),
    }
}

impl Step {
    fn check(&self, (found, ended): &(Vec<Value>, Option<tonic::Status>)) -> Option<String> {
        let code = ended.as_ref().map(|status| format!("{:?}", status.code()));
        if self.refused.is_some() || self.answer.is_empty() {
            if self.refused.is_none() && !found.is_empty() {
                return Some("expected no answer at all".to_owned());
            }
            if code != self.refused && (code.is_none() || self.refused.as_deref() != Some("any")) {
                return Some(format!("expected {:?}, found {ended:?}", self.refused));
            }
            let text = ended.as_ref().map_or("", |status| status.message());
            let expected = self.text.as_deref().unwrap_or("~");
            return difference(&json!(expected), &json!(text), "text");
        }
        if found.len() < self.answer.len() {
            return Some(format!("expected {} messages, found {found:?} and {ended:?}", self.answer.len()));
        }
        difference(&json!(self.answer), &json!(found), "answer")
    }

    async fn send(&self, test_lab: &TestLab) -> (Vec<Value>, Option<tonic::Status>) {
        let trust = match self.caller.as_deref() {
            Some("anonymous") => Trust::Anonymous,
            role => Trust::Cluster {
                authority: &test_lab.cluster.machine.certificate,
                own: test_lab.cluster.client(&[role.unwrap_or("os:admin")]),
            },
        };
        let request = filled(self.request.clone().unwrap_or_else(|| json!({})), test_lab);
        let metadata: Vec<(String, String)> =
            self.metadata.iter().map(|(key, value)| (key.clone(), placed(value, test_lab))).collect();
        let channel = connect(&test_lab.dialled(&self.to), trust);
        let limit = self.answer.len().max(1);
        let requests = [request];
        let wanted = call(channel, &self.call, &requests, &metadata, limit);
        tokio::time::timeout(TIMEOUT, wanted)
            .await
            .unwrap_or_else(|_| panic!("{} did not respond within {TIMEOUT:?}", self.call))
    }

    async fn run(&self, test_lab: &TestLab) {
        let deadline = Deadline::after(if self.until { TIMEOUT } else { Duration::ZERO });
        wait_until_async(deadline, async || {
            let found = self.send(test_lab).await;
            match self.check(&found) {
                None => Condition::Met(()),
                Some(difference) => {
                    Condition::Unmet(format!("{} to {}: {difference}\n{:#}", self.call, self.to, json!(found.0)))
                }
            }
        })
        .await;
    }
}

/// `$NAME` stands for the machine's address.
fn placed(text: &str, test_lab: &TestLab) -> String {
    text.strip_prefix('$').map_or_else(|| text.to_owned(), |name| test_lab.address(name))
}

/// `$config NAME` stands for the machine's config, with another Kubernetes if one is named, `$unattended NAME` for
/// one whose installation is a document of its own, `$subnets NAME SUBNET` for one whose etcd advertises
/// addresses of a subnet, `$no-etcd NAME` for one without
/// etcd's CA, `$text ...` for other bytes.
fn filled(request: Value, test_lab: &TestLab) -> Value {
    match request {
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, filled(value, test_lab))).collect(),
        Value::Array(items) => items.into_iter().map(|item| filled(item, test_lab)).collect(),
        Value::String(text) => match text.split_once(' ') {
            Some(("$config", rest)) => {
                let (name, kubernetes) = rest.split_once(' ').unwrap_or((rest, "v1.34.3"));
                json!(STANDARD.encode(test_lab.config(name).replace("v1.34.3", kubernetes)))
            }
            Some(("$config+", rest)) => {
                let (name, more) = rest.split_once(' ').unwrap();
                json!(STANDARD.encode(format!("{}---\n{}", test_lab.config(name), more.replace("; ", "\n"))))
            }
            Some(("$subnets", rest)) => {
                let (name, subnet) = rest.split_once(' ').unwrap();
                let etcd = format!("  etcd:\n    advertisedSubnets: [{subnet}]\n");
                json!(STANDARD.encode(test_lab.config(name).replace("  etcd:\n", &etcd)))
            }
            Some(("$no-etcd", name)) => json!(STANDARD.encode(test_lab.cluster.without_etcd(name))),
            Some(("$unattended", name)) => json!(STANDARD.encode(test_lab.cluster.unattended(name))),
            Some(("$text", text)) => json!(STANDARD.encode(text)),
            _ => json!(text),
        },
        other => other,
    }
}

impl Transcript {
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let value = yaml::parse_one(&yaml::Origin::new(path.display().to_string()), &text);
        serde_json::from_value(value.unwrap().to_json()).unwrap()
    }

    /// Goes through the transcript with machines of a version.
    pub async fn play(&self, talos: &str) {
        let more = match &self.scenario {
            Value::Null => String::new(),
            changes => yaml::to_string(changes).unwrap(),
        };
        let test_lab = TestLab::start(talos, &more).await;
        for (index, step) in self.steps.iter().enumerate() {
            let run = std::panic::AssertUnwindSafe(step.run(&test_lab));
            if futures::FutureExt::catch_unwind(run).await.is_err() {
                test_lab.lab.shut_down().await;
                panic!("step {} with Talos {talos}", index + 1);
            }
        }
        test_lab.lab.shut_down().await;
    }
}
