//! What a machine tells on its event stream.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use tonic::Status;

use super::ring::Ring;
use talos_proto::machine as api;

/// Talos keeps this many events (1.12).
const KEPT: usize = 1000;
/// In place of `type.googleapis.com`.
const TYPE_URL: &str = "talos/runtime";
const HEX_32: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

pub(super) type Events = Pin<Box<dyn Stream<Item = Result<api::Event, Status>> + Send>>;

#[derive(Debug, Clone)]
struct Entry {
    at: Timestamp,
    event: api::Event,
}

/// The events since the machine booted.
#[derive(Debug)]
pub(super) struct EventLog(Arc<Ring<Arc<Entry>>>);

impl Default for EventLog {
    fn default() -> Self {
        Self(Arc::new(Ring::new(KEPT)))
    }
}

impl EventLog {
    /// Tells an event; `actor` names the call that it follows from, if it does from one.
    pub(super) fn tell<P: Payload>(&self, actor: &str, payload: &P) {
        let at = Timestamp::now();
        let data =
            prost_types::Any { type_url: format!("{TYPE_URL}/machine.{}", P::NAME), value: payload.encode_to_vec() };
        let event = api::Event { metadata: None, data: Some(data), id: id(at), actor_id: actor.to_owned() };
        self.0.push(Arc::new(Entry { at, event }));
    }

    /// Memory does not outlive a reboot.
    pub(super) fn forget(&self) {
        self.0.clear();
    }

    /// The stream that a request asks for: an empty event first, then what is kept, then what comes.
    pub(super) fn stream(&self, request: &api::EventsRequest) -> Result<Events, Status> {
        if !request.tail_id.is_empty() && !is_id(&request.tail_id) {
            return Err(Status::unknown("error parsing tail_id: xid: invalid ID"));
        }
        let (first, kept) = self.0.kept();
        let newer = |skip: usize| first + skip as u64;
        let place = if request.tail_events < 0 {
            first
        } else if let Ok(wanted @ 1..) = usize::try_from(request.tail_events) {
            newer(kept.len().saturating_sub(wanted))
        } else if !request.tail_id.is_empty() {
            newer(kept.partition_point(|entry| entry.event.id <= request.tail_id))
        } else if request.tail_seconds != 0 {
            let since = Timestamp::now() - jiff::SignedDuration::from_secs(request.tail_seconds.into());
            newer(kept.partition_point(|entry| entry.at <= since))
        } else {
            newer(kept.len())
        };
        let actor = request.with_actor_id.clone();
        let wanted = move |entry: &Arc<Entry>| std::future::ready(actor.is_empty() || entry.event.actor_id == actor);
        let hello = futures::stream::iter([Ok(api::Event {
            actor_id: request.with_actor_id.clone(),
            ..api::Event::default()
        })]);
        let follow = self.0.clone().follow(place).filter(wanted).map(|entry| Ok(entry.event.clone()));
        Ok(Box::pin(hello.chain(follow)))
    }
}

/// What an event is about.
pub(super) trait Payload: prost::Message {
    const NAME: &'static str;
}

impl Payload for api::SequenceEvent {
    const NAME: &'static str = "SequenceEvent";
}

impl Payload for api::PhaseEvent {
    const NAME: &'static str = "PhaseEvent";
}

impl Payload for api::TaskEvent {
    const NAME: &'static str = "TaskEvent";
}

impl Payload for api::ServiceStateEvent {
    const NAME: &'static str = "ServiceStateEvent";
}

impl Payload for api::MachineStatusEvent {
    const NAME: &'static str = "MachineStatusEvent";
}

/// An identifier that sorts by time: seconds and a number in a row, in the 20 letters of an xid.
fn id(at: Timestamp) -> String {
    let seconds = u32::try_from(at.as_second()).unwrap_or(u32::MAX).to_be_bytes();
    let nanos = at.subsec_nanosecond().unsigned_abs().to_be_bytes();
    let salt: [u8; 4] = rand::random();
    letters(&[seconds, nanos, salt].concat())
}

fn letters(bytes: &[u8]) -> String {
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
