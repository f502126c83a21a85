//! The event stream of a machine.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use talos_proto::machine as api;
use tonic::Status;

use super::bounded_log::{BoundedLog, KeptEntries};
use crate::seeded::SeededRandom;

/// Talos keeps this many events (1.12).
const KEPT: usize = 1000;
/// Talos uses this instead of `type.googleapis.com`.
const TYPE_URL: &str = "talos/runtime";
const HEX_32: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

pub(super) type EventStream = Pin<Box<dyn Stream<Item = Result<api::Event, Status>> + Send>>;

#[derive(Debug, Clone)]
struct LoggedEvent {
    at: Timestamp,
    event: api::Event,
}

/// The events since the machine booted.
#[derive(Debug)]
pub(super) struct EventLog {
    log: Arc<BoundedLog<Arc<LoggedEvent>>>,
    /// Distinguishes events of the same nanosecond.
    salts: SeededRandom,
}

impl EventLog {
    pub(super) fn new(salts: SeededRandom) -> Self {
        Self { log: Arc::new(BoundedLog::new(KEPT)), salts }
    }

    /// Publishes an event. `actor` identifies the call that caused it, and is empty if none did.
    pub(super) fn publish<P: EventPayload>(&self, actor: &str, payload: &P) {
        let at = Timestamp::now();
        let data =
            prost_types::Any { type_url: format!("{TYPE_URL}/machine.{}", P::NAME), value: payload.encode_to_vec() };
        let event = api::Event {
            metadata: None,
            data: Some(data),
            id: event_id(at, self.salts.bytes()),
            actor_id: actor.to_owned(),
        };
        self.log.push(Arc::new(LoggedEvent { at, event }));
    }

    /// Drops all events, as a reboot does.
    pub(super) fn clear(&self) {
        self.log.clear();
    }

    /// The stream for a request: an empty event first, then kept events, then later ones.
    pub(super) fn stream(&self, request: &api::EventsRequest) -> Result<EventStream, Status> {
        if !request.tail_id.is_empty() && !is_id(&request.tail_id) {
            return Err(Status::unknown("error parsing tail_id: xid: invalid ID"));
        }
        let KeptEntries { first, entries: kept } = self.log.kept();
        let newer = |skip: usize| first + skip as u64;
        let position = if request.tail_events < 0 {
            first
        } else if let Ok(count @ 1..) = usize::try_from(request.tail_events) {
            newer(kept.len().saturating_sub(count))
        } else if !request.tail_id.is_empty() {
            newer(kept.partition_point(|entry| entry.event.id <= request.tail_id))
        } else if request.tail_seconds != 0 {
            let since = Timestamp::now() - jiff::SignedDuration::from_secs(request.tail_seconds.into());
            newer(kept.partition_point(|entry| entry.at <= since))
        } else {
            newer(kept.len())
        };
        let actor = request.with_actor_id.clone();
        let is_selected =
            move |entry: &Arc<LoggedEvent>| std::future::ready(actor.is_empty() || entry.event.actor_id == actor);
        let first_event = futures::stream::iter([Ok(api::Event {
            actor_id: request.with_actor_id.clone(),
            ..api::Event::default()
        })]);
        let follow = self.log.clone().follow(position).filter(is_selected).map(|entry| Ok(entry.event.clone()));
        Ok(Box::pin(first_event.chain(follow)))
    }
}

/// The payload of an event.
pub(super) trait EventPayload: prost::Message {
    const NAME: &'static str;
}

impl EventPayload for api::SequenceEvent {
    const NAME: &'static str = "SequenceEvent";
}

impl EventPayload for api::PhaseEvent {
    const NAME: &'static str = "PhaseEvent";
}

impl EventPayload for api::TaskEvent {
    const NAME: &'static str = "TaskEvent";
}

impl EventPayload for api::ServiceStateEvent {
    const NAME: &'static str = "ServiceStateEvent";
}

impl EventPayload for api::MachineStatusEvent {
    const NAME: &'static str = "MachineStatusEvent";
}

/// An identifier that sorts by time, as the 20 letters of an xid.
fn event_id(at: Timestamp, salt: [u8; 4]) -> String {
    let seconds = u32::try_from(at.as_second()).unwrap_or(u32::MAX).to_be_bytes();
    let nanos = at.subsec_nanosecond().unsigned_abs().to_be_bytes();
    encode_base32hex(&[seconds, nanos, salt].concat())
}

fn encode_base32hex(bytes: &[u8]) -> String {
    let bits = |index: usize| {
        let bit = index * 5;
        let pair = |at: usize| u16::from(bytes.get(at).copied().unwrap_or_default());
        let window = pair(bit / 8) << 8 | pair(bit / 8 + 1);
        usize::from(window >> (11 - bit % 8) & 31)
    };
    (0..(bytes.len() * 8).div_ceil(5)).map(|index| char::from(HEX_32[bits(index)])).collect()
}

fn is_id(text: &str) -> bool {
    text.len() == 20 && text.bytes().all(|letter| HEX_32.contains(&letter))
}
