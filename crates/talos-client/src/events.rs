//! Machine events. The machine keeps them in a ring buffer that a reboot empties.

use prost::Message;
use prost_types::Any;

use super::error::ClientError;
use super::link::{Flow, Link, Stream};
use talos_proto::machine as wire;

/// The first event to receive. Events before the last boot are lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventsSince {
    Now,
    /// All events that the machine still has.
    Everything,
    /// This many of the latest events.
    Last(u16),
    /// Events after the one with this id.
    After(String),
}

/// An event of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineEvent {
    /// Orders the events of one boot; see [`EventsSince::After`].
    pub id: String,
    /// The actor id that the causing call returned.
    pub actor: String,
    pub what: MachineEventDetail,
}

/// Start or end of a sequence, phase or task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventAction {
    Start,
    Stop,
}

/// The payload of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineEventDetail {
    /// Such as `boot`, `install`, `reset`; failed when it has an error.
    Sequence {
        name: String,
        action: Option<EventAction>,
        error: Option<String>,
    },
    Phase {
        name: String,
        action: EventAction,
    },
    Task {
        name: String,
        action: EventAction,
    },
    /// The new state of a service (in capitals) and its reason.
    Service {
        id: String,
        state: &'static str,
        message: String,
    },
    /// Stage, readiness, unmet conditions with their reasons.
    Machine {
        stage: &'static str,
        ready: bool,
        unmet: Vec<String>,
    },
    /// The machine could not parse a config or found it invalid (failure T05).
    ConfigRejected(String),
    Addresses {
        hostname: String,
        addresses: Vec<String>,
    },
    Restart,
}

impl std::fmt::Display for MachineEventDetail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verb = |action: &EventAction| if *action == EventAction::Start { "begins" } else { "ends" };
        match self {
            Self::Sequence { name, error: Some(error), .. } => write!(f, "sequence {name} failed: {error}"),
            Self::Sequence { name, action, error: None } => {
                write!(f, "sequence {name} {}", action.as_ref().map_or("is empty", verb))
            }
            Self::Phase { name, action } => write!(f, "phase {name} {}", verb(action)),
            Self::Task { name, action } => write!(f, "task {name} {}", verb(action)),
            Self::Service { id, state, message } => write!(f, "service {id} {state}: {message}"),
            Self::Machine { stage, ready, unmet } if unmet.is_empty() => {
                write!(f, "machine {stage}{}", if *ready { ", ready" } else { "" })
            }
            Self::Machine { stage, unmet, .. } => write!(f, "machine {stage}, not ready: {}", unmet.join("; ")),
            Self::ConfigRejected(why) => write!(f, "config rejected: {why}"),
            Self::Addresses { hostname, addresses } => write!(f, "addresses of {hostname}: {}", addresses.join(", ")),
            Self::Restart => f.write_str("restart"),
        }
    }
}

/// A stream of events.
#[derive(Debug)]
pub struct MachineEvents(Stream<wire::Event>);

pub(super) async fn events(
    link: &Link,
    since: &EventsSince,
    actor: Option<&str>,
) -> Result<MachineEvents, ClientError> {
    let mut request = wire::EventsRequest { with_actor_id: actor.unwrap_or_default().to_owned(), ..Default::default() };
    match since {
        EventsSince::Now => {}
        EventsSince::Everything => request.tail_events = -1,
        EventsSince::Last(count) => request.tail_events = i32::from(*count),
        EventsSince::After(id) => id.clone_into(&mut request.tail_id),
    }
    let mut machine = link.machine();
    let mut stream = link.stream("events", Flow::Follows, machine.events(link.request(request))).await?;
    // The first message is empty: it confirms the subscription.
    stream.next().await?;
    Ok(MachineEvents(stream))
}

impl MachineEvents {
    /// The next event of a known type; `None` when the machine ends the stream, as it does when the client is too slow.
    ///
    /// # Errors
    ///
    /// As every call; `Unreachable` when the machine goes down.
    pub async fn next(&mut self) -> Result<Option<MachineEvent>, ClientError> {
        while let Some(event) = self.0.next().await? {
            // Newer versions may send unknown event types.
            if let Some(what) = event.data.as_ref().and_then(happening) {
                return Ok(Some(MachineEvent { id: event.id, actor: event.actor_id, what }));
            }
        }
        Ok(None)
    }
}

fn happening(data: &Any) -> Option<MachineEventDetail> {
    let kind = data.type_url.strip_prefix("talos/runtime/machine.")?;
    let bytes = data.value.as_slice();
    Some(match kind {
        "SequenceEvent" => sequence(&wire::SequenceEvent::decode(bytes).ok()?),
        "PhaseEvent" => {
            let event = wire::PhaseEvent::decode(bytes).ok()?;
            let action = match event.action() {
                wire::phase_event::Action::Start => EventAction::Start,
                wire::phase_event::Action::Stop => EventAction::Stop,
            };
            MachineEventDetail::Phase { name: event.phase, action }
        }
        "TaskEvent" => {
            let event = wire::TaskEvent::decode(bytes).ok()?;
            let action = match event.action() {
                wire::task_event::Action::Start => EventAction::Start,
                wire::task_event::Action::Stop => EventAction::Stop,
            };
            MachineEventDetail::Task { name: event.task, action }
        }
        "ServiceStateEvent" => {
            let event = wire::ServiceStateEvent::decode(bytes).ok()?;
            MachineEventDetail::Service {
                state: event.action().as_str_name(),
                id: event.service,
                message: event.message,
            }
        }
        "MachineStatusEvent" => {
            let event = wire::MachineStatusEvent::decode(bytes).ok()?;
            let stage = event.stage().as_str_name();
            let status = event.status.unwrap_or_default();
            let unmet = status.unmet_conditions.into_iter();
            let unmet = unmet.map(|condition| format!("{}: {}", condition.name, condition.reason)).collect();
            MachineEventDetail::Machine { stage, ready: status.ready, unmet }
        }
        "ConfigLoadErrorEvent" => {
            MachineEventDetail::ConfigRejected(wire::ConfigLoadErrorEvent::decode(bytes).ok()?.error)
        }
        "ConfigValidationErrorEvent" => {
            MachineEventDetail::ConfigRejected(wire::ConfigValidationErrorEvent::decode(bytes).ok()?.error)
        }
        "AddressEvent" => {
            let event = wire::AddressEvent::decode(bytes).ok()?;
            MachineEventDetail::Addresses { hostname: event.hostname, addresses: event.addresses }
        }
        "RestartEvent" => MachineEventDetail::Restart,
        _ => return None,
    })
}

fn sequence(event: &wire::SequenceEvent) -> MachineEventDetail {
    use wire::sequence_event::Action;
    let action = match event.action() {
        Action::Noop => None,
        Action::Start => Some(EventAction::Start),
        Action::Stop => Some(EventAction::Stop),
    };
    let error = event.error.as_ref().map(|error| error.message.clone());
    MachineEventDetail::Sequence { name: event.sequence.clone(), action, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(kind: &str, message: &impl Message) -> Any {
        Any { type_url: format!("talos/runtime/machine.{kind}"), value: message.encode_to_vec() }
    }

    #[test]
    fn stop_has_another_number_in_sequences_than_in_phases() {
        let sequence = wire::SequenceEvent { sequence: "boot".into(), action: 2, error: None };
        let phase = wire::PhaseEvent { phase: "install".into(), action: 1 };
        assert_eq!(happening(&any("SequenceEvent", &sequence)).unwrap().to_string(), "sequence boot ends");
        assert_eq!(happening(&any("PhaseEvent", &phase)).unwrap().to_string(), "phase install ends");
    }

    #[test]
    fn unknown_event_types_are_skipped() {
        assert_eq!(happening(&any("TomorrowEvent", &wire::RestartEvent { cmd: 1 })), None);
        let foreign = Any { type_url: "type.googleapis.com/machine.RestartEvent".into(), value: vec![] };
        assert_eq!(happening(&foreign), None);
    }

    #[test]
    fn a_rejected_config_has_its_reason() {
        let event = wire::ConfigValidationErrorEvent { error: "install disk is missing".into() };
        let text = happening(&any("ConfigValidationErrorEvent", &event)).unwrap().to_string();
        assert_eq!(text, "config rejected: install disk is missing");
    }
}
