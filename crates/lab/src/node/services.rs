//! The services of a machine, as `ServiceList` and the event stream tell them.

use jiff::Timestamp;

use super::{Node, stamp};
use crate::machine::Role;
use talos_proto::machine::service_state_event::Action;
use talos_proto::machine::{ServiceEvent, ServiceEvents, ServiceHealth, ServiceInfo, ServiceStateEvent};

/// A service with its history.
#[derive(Debug, Clone, Default)]
pub(crate) struct Service {
    pub(crate) state: &'static str,
    /// Nothing when nobody looks after its health.
    pub(crate) healthy: Option<bool>,
    message: String,
    changed: Option<Timestamp>,
    events: Vec<(String, &'static str, Timestamp)>,
}

/// Talos keeps this many events a service (1.12).
const KEPT: usize = 64;

/// Services without a health check.
const UNWATCHED: [&str; 2] = ["auditd", "dashboard"];

impl Node {
    /// Moves a service to another state and remembers why.
    pub(super) fn service(&self, id: &'static str, state: &'static str, message: &str) {
        let now = Timestamp::now();
        self.change(|all| {
            let service = all.services.entry(id).or_default();
            service.state = state;
            service.healthy = None;
            service.changed = Some(now);
            service.message.clear();
            service.events.push((message.to_owned(), state, now));
            let surplus = service.events.len().saturating_sub(KEPT);
            service.events.drain(..surplus);
        });
        self.tell_service(id, state, message);
        self.log(id, &format!("service[{id}]({state}): {message}"));
    }

    pub(super) fn service_health(&self, id: &'static str, healthy: bool, message: &str) {
        let mut state = "";
        self.change(|all| {
            let service = all.services.entry(id).or_default();
            service.healthy = Some(healthy);
            service.changed = Some(Timestamp::now());
            message.clone_into(&mut service.message);
            state = service.state;
        });
        let text =
            if healthy { "Health check successful".to_owned() } else { format!("Health check failed: {message}") };
        self.tell_service(id, state, &text);
        self.log(id, &format!("service[{id}]({state}): {text}"));
    }

    fn tell_service(&self, id: &str, state: &str, message: &str) {
        let health = self.state.borrow().services.get(id).map(Service::health);
        let (service, action, message) = (id.to_owned(), action(state).into(), message.to_owned());
        self.events.tell("", &ServiceStateEvent { service, action, message, health });
    }

    pub(super) fn runs(&self, id: &str) -> bool {
        self.state.borrow().services.get(id).is_some_and(|service| service.state == "Running")
    }

    /// Starts what a machine runs besides etcd.
    pub(super) fn start_services(&self, role: Role) {
        let minor = self.talos().minor();
        let base = ["machined", "syslogd", "udevd", "auditd", "dashboard", "containerd", "apid", "cri", "kubelet"];
        let newer = ["sandboxd", "registryd"].into_iter().filter(|_| minor >= 14);
        let signing = ["trustd"].into_iter().filter(|_| role == Role::ControlPlane);
        for id in base.into_iter().chain(newer).chain(signing) {
            self.start_service(id);
        }
    }

    pub(super) fn start_service(&self, id: &'static str) {
        self.service(id, "Starting", "Starting service");
        self.service(id, "Preparing", "Running pre state");
        self.service(id, "Preparing", "Creating service runner");
        let how = match id {
            "machined" => "Service started as goroutine".to_owned(),
            "kubelet" | "apid" | "trustd" => format!("Started task {id} (PID {}) for container {id}", self.pid()),
            _ => format!("Process Process([\"/usr/bin/{id}\"]) started with PID {}", self.pid()),
        };
        self.service(id, "Running", &how);
        if !UNWATCHED.contains(&id) {
            self.service_health(id, true, "");
        }
    }

    /// A number like the kernel's: it rises.
    fn pid(&self) -> usize {
        1000 + self.state.borrow().services.values().map(|service| service.events.len()).sum::<usize>() * 7
    }

    pub(super) fn stop_services(&self) {
        let ids: Vec<_> = self.state.borrow().services.keys().copied().collect();
        for id in ids.into_iter().filter(|id| !matches!(*id, "machined" | "apid")) {
            self.service(id, "Stopping", "Sending SIGTERM");
            self.service(id, "Finished", "Service finished successfully");
        }
    }
}

fn action(state: &str) -> Action {
    match state {
        "Preparing" => Action::Preparing,
        "Waiting" => Action::Waiting,
        "Running" => Action::Running,
        "Stopping" => Action::Stopping,
        "Finished" => Action::Finished,
        "Failed" => Action::Failed,
        "Skipped" => Action::Skipped,
        "Starting" => Action::Starting,
        _ => Action::Initialized,
    }
}

impl Service {
    fn health(&self) -> ServiceHealth {
        ServiceHealth {
            unknown: self.healthy.is_none(),
            healthy: self.healthy == Some(true),
            last_message: self.message.clone(),
            last_change: self.changed.map(stamp),
        }
    }

    pub(super) fn last_event(&self) -> &str {
        self.events.last().map_or("", |(message, ..)| message)
    }

    pub(super) fn info(&self, id: &str) -> ServiceInfo {
        let event = |(msg, state, at): &(String, &'static str, Timestamp)| ServiceEvent {
            msg: msg.clone(),
            state: (*state).to_owned(),
            ts: Some(stamp(*at)),
        };
        ServiceInfo {
            id: id.to_owned(),
            state: self.state.to_owned(),
            events: Some(ServiceEvents { events: self.events.iter().map(event).collect() }),
            health: Some(self.health()),
        }
    }
}
