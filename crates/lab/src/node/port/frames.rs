//! gRPC messages as bytes, for a proxy that does not decode them.
//!
//! Every response that Talos merges has its metadata in field 1: of the message itself in a stream, of the elements of
//! field 1 otherwise. Appending an encoded field to a protobuf message sets the field.

use prost::Message;
use prost::bytes::{Buf, BufMut, Bytes, BytesMut};
use talos_proto::common::Metadata;
use talos_proto::google::rpc;
use tonic::Status;

/// The length of a frame's header: the compression flag and the message's length.
const HEADER: usize = 5;

/// Any message of Talos, reduced to its metadata.
#[derive(Clone, PartialEq, prost::Message)]
struct MetadataOnly {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Metadata>,
}

/// Any unary response.
#[derive(Clone, PartialEq, prost::Message)]
struct UnaryResponse {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    messages: Vec<Bytes>,
}

/// Splits a byte stream into messages.
#[derive(Debug, Default)]
pub(super) struct Frames(BytesMut);

impl Frames {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next message, once it is complete.
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

/// The frame of a message.
pub(super) fn frame(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEADER + message.len());
    bytes.put_u8(0);
    // Messages are limited to 32 MiB.
    bytes.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    bytes.put_slice(message);
    bytes.freeze()
}

fn hostname_metadata(host: &str) -> Vec<u8> {
    let metadata = Metadata { hostname: host.to_owned(), ..Metadata::default() };
    MetadataOnly { metadata: Some(metadata) }.encode_to_vec()
}

fn error_metadata(host: &str, status: &Status) -> Vec<u8> {
    let (code, message) = (i32::from(status.code()), status.message().to_owned());
    let metadata = Metadata {
        hostname: host.to_owned(),
        error: format!("rpc error: code = {:?} desc = {message}", status.code()),
        status: Some(rpc::Status { code, message, details: vec![] }),
    };
    MetadataOnly { metadata: Some(metadata) }.encode_to_vec()
}

/// Adds the name of its node to a message of a stream.
pub(super) fn with_hostname(host: &str, message: &[u8]) -> Vec<u8> {
    [message, &hostname_metadata(host)].concat()
}

/// The message of a stream for a node's error.
pub(super) fn error_message(host: &str, status: &Status) -> Vec<u8> {
    error_metadata(host, status)
}

/// The elements of a node's unary response, each with the node's name, or an element for its error.
pub(super) fn elements(host: &str, response: Result<Bytes, Status>) -> Vec<u8> {
    let messages = match response.map(UnaryResponse::decode) {
        Ok(Ok(response)) => response.messages.into_iter().map(|message| with_hostname(host, &message).into()).collect(),
        Ok(Err(error)) => vec![error_metadata(host, &Status::internal(error.to_string())).into()],
        Err(status) => vec![error_metadata(host, &status).into()],
    };
    UnaryResponse { messages }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use talos_proto::machine::{Event, Hostname, HostnameResponse};

    #[test]
    fn messages_are_split_from_chunks_of_any_size() {
        let wire = [frame(b"one"), frame(b""), frame(b"three")].concat();
        for size in 1..=wire.len() {
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for chunk in wire.chunks(size) {
                frames.push(chunk);
                found.extend(std::iter::from_fn(|| frames.pop()));
            }
            assert_eq!(found, [&b"one"[..], b"", b"three"], "chunks of {size}");
        }
    }

    #[test]
    fn responses_of_several_nodes_are_merged() {
        let response = |name: &str| {
            let message = Hostname { metadata: None, hostname: name.to_owned() };
            Bytes::from(HostnameResponse { messages: vec![message] }.encode_to_vec())
        };
        let merged = [
            elements("10.0.0.1", Ok(response("a"))),
            elements("10.0.0.2", Err(Status::unavailable("gone"))),
            elements("10.0.0.3", Ok(response("c"))),
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
    fn a_message_of_a_stream_gets_the_hostname() {
        let event = Event { id: "x".to_owned(), ..Event::default() };
        let named = Event::decode(&*with_hostname("10.0.0.1", &event.encode_to_vec())).unwrap();
        assert_eq!((named.id.as_str(), named.metadata.unwrap().hostname.as_str()), ("x", "10.0.0.1"));
    }
}
