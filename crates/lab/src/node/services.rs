//! The services of a machine, as `ServiceList` and the event stream report them.

use jiff::Timestamp;
use talos_proto::machine::service_state_event::Action;
use talos_proto::machine::{ServiceEvent, ServiceEvents, ServiceHealth, ServiceInfo, ServiceStateEvent};

use super::{SimulatedNode, to_proto_timestamp};
use crate::machine_config::NodeRole;

/// The state of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ServiceState {
    #[default]
    Initialized,
    Starting,
    Waiting,
    Preparing,
    Running,
    Stopping,
    Finished,
    Failed,
}

/// The result of a health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HealthCheck<'m> {
    Passed,
    /// With the check's message.
    Failed(&'m str),
}

/// A change of a service's state.
#[derive(Debug, Clone)]
struct StateChange {
    state: ServiceState,
    message: String,
    at: Timestamp,
}

/// A service and its history.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeService {
    pub(crate) state: ServiceState,
    /// `None` before the first health check, and for services without one.
    pub(crate) healthy: Option<bool>,
    health_message: String,
    changed: Option<Timestamp>,
    changes: Vec<StateChange>,
}

/// Talos keeps this many events per service (1.12).
const KEPT: usize = 64;

/// The service that starts the static pods.
pub(super) const KUBELET: &str = "kubelet";

/// Services without a health check.
const WITHOUT_HEALTH_CHECK: [&str; 2] = ["auditd", "dashboard"];

impl ServiceState {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Initialized => "Initialized",
            Self::Starting => "Starting",
            Self::Waiting => "Waiting",
            Self::Preparing => "Preparing",
            Self::Running => "Running",
            Self::Stopping => "Stopping",
            Self::Finished => "Finished",
            Self::Failed => "Failed",
        }
    }

    fn action(self) -> Action {
        match self {
            Self::Initialized => Action::Initialized,
            Self::Starting => Action::Starting,
            Self::Waiting => Action::Waiting,
            Self::Preparing => Action::Preparing,
            Self::Running => Action::Running,
            Self::Stopping => Action::Stopping,
            Self::Finished => Action::Finished,
            Self::Failed => Action::Failed,
        }
    }
}

impl SimulatedNode {
    /// Changes the state of a service. `message` is the reason.
    pub(super) fn set_service_state(&self, id: &'static str, state: ServiceState, message: &str) {
        let now = Timestamp::now();
        self.change(|node| {
            let service = node.services.entry(id).or_default();
            service.state = state;
            service.healthy = None;
            service.health_message.clear();
            service.record(state, message, now);
        });
        self.publish_service_state(id, state, message);
        self.log(id, &format!("service[{id}]({}): {message}", state.name()));
    }

    /// Sets the result of a health check. Like Talos, records it as an event of the service.
    pub(super) fn set_service_health(&self, id: &'static str, check: HealthCheck<'_>) {
        let (is_healthy, message) = match check {
            HealthCheck::Passed => (true, ""),
            HealthCheck::Failed(message) => (false, message),
        };
        let text = match check {
            HealthCheck::Passed => "Health check successful".to_owned(),
            HealthCheck::Failed(message) => format!("Health check failed: {message}"),
        };
        let now = Timestamp::now();
        let mut state = ServiceState::default();
        self.change(|node| {
            let service = node.services.entry(id).or_default();
            service.healthy = Some(is_healthy);
            message.clone_into(&mut service.health_message);
            state = service.state;
            service.record(state, &text, now);
        });
        self.publish_service_state(id, state, &text);
        self.log(id, &format!("service[{id}]({}): {text}", state.name()));
    }

    fn publish_service_state(&self, id: &str, state: ServiceState, message: &str) {
        let health = self.state.borrow().services.get(id).map(NodeService::health);
        let (service, action, message) = (id.to_owned(), state.action().into(), message.to_owned());
        self.events.publish("", &ServiceStateEvent { service, action, message, health });
    }

    pub(super) fn is_service_running(&self, id: &str) -> bool {
        self.state.borrow().services.get(id).is_some_and(|service| service.state == ServiceState::Running)
    }

    pub(super) fn is_service_unhealthy(&self, id: &str) -> bool {
        self.state.borrow().services.get(id).is_some_and(|service| service.healthy == Some(false))
    }

    /// Starts all services except etcd.
    pub(super) fn start_services(&self, role: NodeRole) {
        let minor = self.talos().minor();
        let base = ["machined", "syslogd", "udevd", "auditd", "dashboard", "containerd", "apid", "cri", KUBELET];
        let newer = ["sandboxd", "registryd"].into_iter().filter(|_| minor >= 14);
        let signing = ["trustd"].into_iter().filter(|_| role == NodeRole::ControlPlane);
        let fails = |id: &str| id == KUBELET && self.kubelet_fault().is_some();
        for id in base.into_iter().chain(newer).chain(signing).filter(|id| !fails(id)) {
            self.start_service(id);
        }
    }

    pub(super) fn start_service(&self, id: &'static str) {
        self.set_service_state(id, ServiceState::Starting, "Starting service");
        self.set_service_state(id, ServiceState::Preparing, "Running pre state");
        self.set_service_state(id, ServiceState::Preparing, "Creating service runner");
        let message = match id {
            "machined" => "Service started as goroutine".to_owned(),
            "kubelet" | "apid" | "trustd" => format!("Started task {id} (PID {}) for container {id}", self.next_pid()),
            _ => format!("Process Process([\"/usr/bin/{id}\"]) started with PID {}", self.next_pid()),
        };
        self.set_service_state(id, ServiceState::Running, &message);
        if !WITHOUT_HEALTH_CHECK.contains(&id) {
            self.set_service_health(id, HealthCheck::Passed);
        }
    }

    /// A made-up process ID. Like the kernel's, it increases.
    pub(super) fn next_pid(&self) -> usize {
        1000 + self.state.borrow().services.values().map(|service| service.changes.len()).sum::<usize>() * 7
    }

    pub(super) fn stop_services(&self) {
        let ids: Vec<_> = self.state.borrow().services.keys().copied().collect();
        for id in ids.into_iter().filter(|id| !matches!(*id, "machined" | "apid")) {
            self.set_service_state(id, ServiceState::Stopping, "Sending SIGTERM");
            self.set_service_state(id, ServiceState::Finished, "Service finished successfully");
        }
    }
}

impl NodeService {
    fn record(&mut self, state: ServiceState, message: &str, at: Timestamp) {
        self.changed = Some(at);
        self.changes.push(StateChange { state, message: message.to_owned(), at });
        let surplus = self.changes.len().saturating_sub(KEPT);
        self.changes.drain(..surplus);
    }

    fn health(&self) -> ServiceHealth {
        ServiceHealth {
            unknown: self.healthy.is_none(),
            healthy: self.healthy == Some(true),
            last_message: self.health_message.clone(),
            last_change: self.changed.map(to_proto_timestamp),
        }
    }

    pub(super) fn last_message(&self) -> &str {
        self.changes.last().map_or("", |change| &change.message)
    }

    pub(super) fn info(&self, id: &str) -> ServiceInfo {
        let event = |change: &StateChange| ServiceEvent {
            msg: change.message.clone(),
            state: change.state.name().to_owned(),
            ts: Some(to_proto_timestamp(change.at)),
        };
        ServiceInfo {
            id: id.to_owned(),
            state: self.state.name().to_owned(),
            events: Some(ServiceEvents { events: self.changes.iter().map(event).collect() }),
            health: Some(self.health()),
        }
    }
}
