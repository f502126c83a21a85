//! gRPC messages as bytes: what a proxy does to answers without knowing what is in them.
//!
//! Every answer that Talos fans out has its metadata as field 1: of the message itself in a stream, of the elements of
//! field 1 otherwise. Protobuf concatenates, so a field appended to a message is a field set in it.

use prost::Message;
use prost::bytes::{Buf, BufMut, Bytes, BytesMut};
use tonic::Status;

use talos_proto::common::Metadata;
use talos_proto::google::rpc;

/// Not compressed, and the length.
const HEADER: usize = 5;

/// Any message of Talos's with everything but its metadata left out.
#[derive(Clone, PartialEq, prost::Message)]
struct Element {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Metadata>,
}

/// Any unary answer.
#[derive(Clone, PartialEq, prost::Message)]
struct Answer {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    messages: Vec<Bytes>,
}

/// Puts bytes together until they are whole messages.
#[derive(Debug, Default)]
pub(super) struct Frames(BytesMut);

impl Frames {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next message, when all of it is there.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let header = self.0.get(..HEADER)?;
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if self.0.len() < HEADER + length {
            return None;
        }
        self.0.advance(HEADER);
        Some(self.0.split_to(length).freeze())
    }
}

/// A message as it travels.
pub(super) fn frame(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEADER + message.len());
    bytes.put_u8(0);
    // Messages are limited to 32 MiB.
    bytes.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    bytes.put_slice(message);
    bytes.freeze()
}

fn named(host: &str) -> Vec<u8> {
    let metadata = Metadata { hostname: host.to_owned(), ..Metadata::default() };
    Element { metadata: Some(metadata) }.encode_to_vec()
}

fn failed(host: &str, status: &Status) -> Vec<u8> {
    let (code, message) = (i32::from(status.code()), status.message().to_owned());
    let metadata = Metadata {
        hostname: host.to_owned(),
        error: format!("rpc error: code = {:?} desc = {message}", status.code()),
        status: Some(rpc::Status { code, message, details: vec![] }),
    };
    Element { metadata: Some(metadata) }.encode_to_vec()
}

/// A message of a stream with the name of the machine that it is from.
pub(super) fn stamp(host: &str, message: &[u8]) -> Vec<u8> {
    [message, &named(host)].concat()
}

/// What a stream carries in place of a machine's failure.
pub(super) fn failure_in_stream(host: &str, status: &Status) -> Vec<u8> {
    failed(host, status)
}

/// The elements of a unary answer, each with the name of the machine that it is from; one that tells the failure when
/// there is no answer.
pub(super) fn elements(host: &str, answer: Result<Bytes, Status>) -> Vec<u8> {
    let messages = match answer.map(Answer::decode) {
        Ok(Ok(answer)) => answer.messages.into_iter().map(|message| stamp(host, &message).into()).collect(),
        Ok(Err(error)) => vec![failed(host, &Status::internal(error.to_string())).into()],
        Err(status) => vec![failed(host, &status).into()],
    };
    Answer { messages }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use talos_proto::machine::{Event, Hostname, HostnameResponse};

    #[test]
    fn messages_come_out_of_pieces_of_any_size() {
        let wire = [frame(b"one"), frame(b""), frame(b"three")].concat();
        for size in 1..=wire.len() {
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for piece in wire.chunks(size) {
                frames.push(piece);
                found.extend(std::iter::from_fn(|| frames.pop()));
            }
            assert_eq!(found, [&b"one"[..], b"", b"three"], "pieces of {size}");
        }
    }

    #[test]
    fn answers_of_several_machines_are_one_answer() {
        let answer = |name: &str| {
            let message = Hostname { metadata: None, hostname: name.to_owned() };
            Bytes::from(HostnameResponse { messages: vec![message] }.encode_to_vec())
        };
        let merged = [
            elements("10.0.0.1", Ok(answer("a"))),
            elements("10.0.0.2", Err(Status::unavailable("gone"))),
            elements("10.0.0.3", Ok(answer("c"))),
        ]
        .concat();
        let merged = HostnameResponse::decode(&*merged).unwrap().messages;
        let seen: Vec<_> = merged
            .into_iter()
            .map(|message| {
                let metadata = message.metadata.unwrap();
                (metadata.hostname, message.hostname, metadata.status.map(|status| status.code))
            })
            .collect();
        let own = |host: &str, name: &str| (host.to_owned(), name.to_owned(), None);
        assert_eq!(seen, [own("10.0.0.1", "a"), ("10.0.0.2".into(), String::new(), Some(14)), own("10.0.0.3", "c")]);
    }

    #[test]
    fn a_message_of_a_stream_is_stamped_itself() {
        let event = Event { id: "x".to_owned(), ..Event::default() };
        let stamped = Event::decode(&*stamp("10.0.0.1", &event.encode_to_vec())).unwrap();
        assert_eq!((stamped.id.as_str(), stamped.metadata.unwrap().hostname.as_str()), ("x", "10.0.0.1"));
    }
}
