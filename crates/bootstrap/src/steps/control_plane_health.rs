//! Why the control planes serve no Kubernetes API yet, as their own Talos reports it: the kubelet, the static pods, and
//! Talos's diagnostics. The API itself says no more than "connection refused" then.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use retry::policies::CONTROL_PLANE_LOOK;

use super::context::RunContext;
use engine::{Code, StepContext, StepWait};
use error_report::ErrorReport;
use talos_client::{Client, ClientError, Diagnostic, Service, StaticPodContainer, StaticPodStatus};
use talos_config::InventoryNode;

/// A control plane that is up responds within this.
const RESPONSE: Duration = Duration::from_secs(3);
/// A reason is one line; the message of a runtime may be longer.
const LONGEST: usize = 300;
/// What Talos reports when the kubelet has ended (1.11 to 1.14, `runner/restart/restart.go`).
const RESTARTS: &str = "going to restart";
/// Talos also records the results of health checks among the events of a service (1.11 to 1.14, `system/service_runner.go`).
const HEALTH: &str = "Health check ";
/// Reasons of a container that the kubelet tries again and again (Kubernetes 1.35, `pkg/kubelet/container/sync_result.go`
/// and `pkg/kubelet/images/types.go`).
const FAILING: [&str; 8] = [
    "CrashLoopBackOff",
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

/// Something that a control plane lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HealthIssue {
    text: String,
    /// The code of what fails; nothing where Talos still works on it.
    code: Option<Code>,
}

impl HealthIssue {
    fn starting(text: String) -> Self {
        Self { text, code: None }
    }

    fn failing(code: Code, text: String) -> Self {
        Self { text, code: Some(code) }
    }
}

/// What one control plane lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NodeHealth {
    node: String,
    issues: Vec<HealthIssue>,
}

/// What the kubelet lacks. It starts the static pods of the control plane.
fn kubelet(services: &[Service]) -> Option<HealthIssue> {
    let Some(kubelet) = services.iter().find(|service| service.id == "kubelet") else {
        return Some(HealthIssue::starting("Talos does not list the kubelet yet".to_owned()));
    };
    let is_reason = |event: &&String| !event.starts_with(HEALTH);
    let last = one_line(kubelet.events.iter().rev().find(is_reason).map_or("", String::as_str));
    let restart = kubelet.events.iter().rev().find(|event| event.contains(RESTARTS));
    match (kubelet.state.as_str(), restart) {
        ("Running", _) if kubelet.healthy => None,
        ("Failed", _) => Some(HealthIssue::failing(Code::T27, format!("the kubelet does not start: {last}"))),
        (_, Some(restart)) => {
            Some(HealthIssue::failing(Code::T27, format!("the kubelet is crash-looping: {}", one_line(restart))))
        }
        ("Running", None) if kubelet.last_message.is_empty() => None,
        ("Running", None) => {
            Some(HealthIssue::starting(format!("the kubelet is not healthy: {}", one_line(&kubelet.last_message))))
        }
        (state, None) => Some(HealthIssue::starting(format!("the kubelet is {}: {last}", state.to_lowercase()))),
    }
}

/// What a static pod lacks, by its id `kube-system/<pod>`.
fn static_pod(id: &str, status: &StaticPodStatus) -> Vec<HealthIssue> {
    let pod = id.rsplit('/').next().unwrap_or(id);
    status.containers.iter().filter_map(|container| waiting_container(pod, container)).collect()
}

fn waiting_container(pod: &str, container: &StaticPodContainer) -> Option<HealthIssue> {
    let wait = container.waiting.as_ref()?;
    let mut text = format!("static pod {pod} is in {}", wait.reason);
    if !wait.message.is_empty() {
        text = format!("{text}: {}", one_line(&wait.message));
    }
    if !FAILING.contains(&wait.reason.as_str()) {
        return Some(HealthIssue::starting(text));
    }
    if let Some(end) = &container.last_end {
        let message = if end.message.is_empty() { &end.reason } else { &end.message };
        text = format!("{text}; it ended last with exit code {} ({})", end.exit_code, one_line(message));
    }
    Some(HealthIssue::failing(Code::T28, text))
}

fn diagnosis(id: &str, diagnostic: &Diagnostic) -> HealthIssue {
    let details = diagnostic.details.iter().flatten().map(|detail| format!("; {}", one_line(detail)));
    let details: String = details.collect();
    HealthIssue::starting(format!("Talos's diagnosis {id}: {}{details}", one_line(&diagnostic.message)))
}

/// A message on one line, cut where it is long.
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// What is waited for, by what the API reports and what was found on the control planes. What fails is named first; work
/// that fails and is tried again does not count as progress.
fn api_wait(api: &str, nodes: &[NodeHealth]) -> StepWait {
    let texts = |node: &NodeHealth| {
        let texts: Vec<&str> = node.issues.iter().map(|issue| issue.text.as_str()).collect();
        format!("{}: {}", node.node, texts.join("; "))
    };
    let found: Vec<String> = nodes.iter().filter(|node| !node.issues.is_empty()).map(texts).collect();
    let code = nodes.iter().flat_map(|node| &node.issues).filter_map(|issue| issue.code).min();
    match (code, found.is_empty()) {
        (Some(code), _) => StepWait::new(format!("{}; {api}", found.join("; "))).code(code).stuck(),
        (None, true) => StepWait::new(api).code(Code::K01),
        (None, false) => StepWait::new(format!("{api}; {}", found.join("; "))).code(Code::K01),
    }
}

/// The wait for the API of a cluster, with the newest view of its control planes.
pub(super) struct ApiWait<'w> {
    context: &'w RunContext,
    cx: &'w StepContext,
    newest: Mutex<Newest>,
}

#[derive(Default)]
struct Newest {
    /// Why the API is not ready; nothing before the first attempt.
    api: Option<String>,
    nodes: Vec<NodeHealth>,
}

impl<'w> ApiWait<'w> {
    pub(super) fn new(context: &'w RunContext, cx: &'w StepContext) -> Self {
        Self { context, cx, newest: Mutex::default() }
    }

    /// Reports why the API is not ready.
    pub(super) fn not_ready(&self, reason: String) {
        self.change(|newest| newest.api = Some(reason));
    }

    /// Looks at the control planes until the wait ends, beside the attempts to reach the API.
    pub(super) async fn follow_control_planes(&self) -> Infallible {
        loop {
            let nodes = self.context.control_planes().into_iter();
            let found = join_all(nodes.map(|node| look(self.context, node))).await;
            self.change(|newest| newest.nodes = found);
            tokio::time::sleep(CONTROL_PLANE_LOOK).await;
        }
    }

    fn change(&self, change: impl FnOnce(&mut Newest)) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut newest);
        if let Some(api) = &newest.api {
            self.cx.waiting(api_wait(api, &newest.nodes));
        }
    }
}

/// One control plane, by three calls over its kept connection.
async fn look(context: &RunContext, node: &InventoryNode) -> NodeHealth {
    let read = async {
        let client = context.node_client(node).await?;
        read(&client).await
    };
    let issues = match tokio::time::timeout(RESPONSE, read).await {
        Ok(Ok(issues)) => issues,
        Ok(Err(error)) => vec![HealthIssue::starting(one_line(&ErrorReport::new(&error).to_string()))],
        Err(_) => vec![HealthIssue::starting(format!("no response within {}s", RESPONSE.as_secs()))],
    };
    NodeHealth { node: node.hostname.clone(), issues }
}

async fn read(client: &Client) -> Result<Vec<HealthIssue>, ClientError> {
    let resources = client.resources();
    let (services, pods, diagnostics) =
        tokio::try_join!(client.services(), resources.list::<StaticPodStatus>(), resources.list::<Diagnostic>(),)?;
    let pods = pods.iter().flat_map(|(id, status)| static_pod(id, status));
    let diagnostics = diagnostics.iter().map(|(id, diagnostic)| diagnosis(id, diagnostic));
    Ok(kubelet(&services).into_iter().chain(pods).chain(diagnostics).collect())
}

#[cfg(test)]
mod tests;
