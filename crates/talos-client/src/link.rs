//! A connection and the common parts of all calls: timeouts, metadata, errors that name the node.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use error_report::HumanDuration;
use futures::StreamExt;
use tonic::metadata::{AsciiMetadataValue, MetadataKey};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use super::connection::ConnectionFailure;
use super::error::{ClientError, ClientErrorKind, trust_failure};
use super::response::{Element, Wrapper};
use talos_proto::cosi::resource::state_client::StateClient;
use talos_proto::machine::image_service_client::ImageServiceClient;
use talos_proto::machine::lifecycle_service_client::LifecycleServiceClient;
use talos_proto::machine::machine_service_client::MachineServiceClient;
use talos_proto::storage::storage_service_client::StorageServiceClient;
use talos_proto::time::time_service_client::TimeServiceClient;

/// Largest message in either direction (Talos 1.11 to 1.14, `pkg/machinery/constants`).
pub const MAX_MESSAGE: usize = 32 << 20;
/// Timeouts of calls.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// A call that only reads or only starts something.
    pub(super) short: Duration,
    /// A call that etcd answers, which blocks while etcd does not serve (Talos 1.12.4).
    pub(super) etcd: Duration,
    /// A call that pulls an image or receives a whole database before it responds.
    pub(super) long: Duration,
    /// The pause between two messages of a finite stream.
    pub(super) pause: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let minute = Duration::from_mins(1);
        Self { short: minute / 4, etcd: Duration::from_secs(3), long: minute * 15, pause: minute }
    }
}

/// How much work a node does before it responds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    Short,
    Etcd,
    Long,
}

/// The kind of a stream, which decides its timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// Finite; the node sends without pauses.
    Ends,
    /// Finite; the node works between messages.
    Works,
    /// Endless; messages come at any time. TCP keep-alive detects a lost node.
    Follows,
}

/// The node or nodes that a call is for.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// The node that was dialled.
    Dialled,
    /// Another node; the dialled node forwards the call.
    Forwarded(IpAddr),
    /// Several nodes; the dialled node aggregates their responses.
    Every(Vec<IpAddr>),
}

#[derive(Debug, Clone)]
pub(super) struct Link {
    dialled: IpAddr,
    channel: Channel,
    target: Target,
    broken: ConnectionFailure,
    /// A call has failed because the connection ended.
    lost: Arc<AtomicBool>,
    pub(super) deadlines: Deadlines,
}

impl Link {
    pub(super) fn new(dialled: IpAddr, channel: Channel, broken: ConnectionFailure) -> Self {
        let lost = Arc::default();
        Self { dialled, channel, target: Target::Dialled, broken, lost, deadlines: Deadlines::default() }
    }

    pub(super) fn to(&self, target: Target) -> Self {
        Self { target, ..self.clone() }
    }

    /// The node that errors name.
    pub(super) fn node(&self) -> IpAddr {
        match self.target {
            Target::Forwarded(node) => node,
            Target::Dialled | Target::Every(_) => self.dialled,
        }
    }

    pub(super) fn error(&self, call: &'static str, kind: ClientErrorKind, reason: impl Into<String>) -> ClientError {
        ClientError::new(self.node(), call, kind, reason)
    }

    /// Whether a call has failed because the connection ended.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed) || self.broken.cause().is_some()
    }

    /// The error of a failed call; the cause of a broken connection is more precise than the status.
    pub(super) fn failed(&self, call: &'static str, status: &Status) -> ClientError {
        let error = ClientError::from_status(self.node(), call, status);
        // A status that the node itself sent has no source.
        if std::error::Error::source(status).is_some() {
            self.lost.store(true, Ordering::Relaxed);
        }
        match (error.kind, self.broken.cause()) {
            (ClientErrorKind::Unavailable | ClientErrorKind::Other, Some(cause)) if trust_failure(&cause).is_some() => {
                self.error(call, trust_failure(&cause).unwrap_or(error.kind), cause)
            }
            (ClientErrorKind::Unavailable, Some(cause)) => self.error(call, ClientErrorKind::Unavailable, cause),
            _ => error,
        }
    }

    /// A request with its target in the metadata.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let (key, nodes) = match &self.target {
            Target::Dialled => return request,
            Target::Forwarded(node) => ("node", std::slice::from_ref(node)),
            Target::Every(nodes) => ("nodes", nodes.as_slice()),
        };
        for node in nodes {
            // An address is always ASCII.
            if let Ok(value) = AsciiMetadataValue::try_from(node.to_string()) {
                request.metadata_mut().append(MetadataKey::from_static(key), value);
            }
        }
        request
    }

    /// Waits for a response, with a timeout.
    pub(super) async fn within<T>(
        &self,
        call: &'static str,
        wait: Wait,
        answer: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, ClientError> {
        let deadline = match wait {
            Wait::Short => self.deadlines.short,
            Wait::Etcd => self.deadlines.etcd,
            Wait::Long => self.deadlines.long,
        };
        match tokio::time::timeout(deadline, answer).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(status)) => Err(self.failed(call, &status)),
            Err(_) => Err(self.error(
                call,
                ClientErrorKind::Unavailable,
                format!("no response within {}", HumanDuration(deadline)),
            )),
        }
    }

    /// The single node's element of a response. Its metadata may have an error although the call succeeded.
    pub(super) async fn one<W: Wrapper>(
        &self,
        call: &'static str,
        wait: Wait,
        answer: impl Future<Output = Result<Response<W>, Status>>,
    ) -> Result<W::Element, ClientError> {
        let messages = self.within(call, wait, answer).await?.into_inner().messages();
        let message = messages.into_iter().next();
        let message = message.ok_or_else(|| self.error(call, ClientErrorKind::Other, "the response is empty"))?;
        match message.failure() {
            Some(status) => Err(self.failed(call, &status)),
            None => Ok(message),
        }
    }

    /// The element or the failure of every node.
    pub(super) async fn each<W: Wrapper>(
        &self,
        call: &'static str,
        answer: impl Future<Output = Result<Response<W>, Status>>,
    ) -> Result<Vec<(String, Result<W::Element, ClientError>)>, ClientError> {
        let messages = self.within(call, Wait::Short, answer).await?.into_inner().messages();
        let by_node = messages.into_iter().map(|message| {
            let name = message.hostname().to_owned();
            let node = name.parse().unwrap_or(self.dialled);
            match message.failure() {
                Some(status) => (name, Err(ClientError::from_status(node, call, &status))),
                None => (name, Ok(message)),
            }
        });
        Ok(by_node.collect())
    }

    /// Starts a call that responds with a stream.
    pub(super) async fn stream<T>(
        &self,
        call: &'static str,
        flow: Flow,
        answer: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
    ) -> Result<Stream<T>, ClientError> {
        let messages = self.within(call, Wait::Short, answer).await?.into_inner();
        let pause = match flow {
            Flow::Ends => Some(self.deadlines.pause),
            Flow::Works => Some(self.deadlines.long),
            Flow::Follows => None,
        };
        Ok(Stream { link: self.clone(), call, messages, pause })
    }

    pub(super) fn machine(&self) -> MachineServiceClient<Channel> {
        MachineServiceClient::new(self.channel.clone())
            .max_encoding_message_size(MAX_MESSAGE)
            .max_decoding_message_size(MAX_MESSAGE)
    }

    pub(super) fn state(&self) -> StateClient<Channel> {
        StateClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    pub(super) fn lifecycle(&self) -> LifecycleServiceClient<Channel> {
        LifecycleServiceClient::new(self.channel.clone())
    }

    pub(super) fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone())
    }

    pub(super) fn storage(&self) -> StorageServiceClient<Channel> {
        StorageServiceClient::new(self.channel.clone())
    }

    pub(super) fn time(&self) -> TimeServiceClient<Channel> {
        TimeServiceClient::new(self.channel.clone())
    }
}

/// A stream of response messages.
#[derive(Debug)]
pub(super) struct Stream<T> {
    link: Link,
    call: &'static str,
    messages: Streaming<T>,
    pause: Option<Duration>,
}

impl<T> Stream<T> {
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// The next message; `None` at the end.
    pub(super) async fn raw(&mut self) -> Result<Option<T>, ClientError> {
        let next = self.messages.next();
        let next = match self.pause {
            None => next.await,
            Some(pause) => match tokio::time::timeout(pause, next).await {
                Ok(next) => next,
                Err(_) => {
                    let text = format!("the response is incomplete: no message for {}", HumanDuration(pause));
                    return Err(self.link.error(self.call, ClientErrorKind::Unavailable, text));
                }
            },
        };
        next.transpose().map_err(|status| self.link.failed(self.call, &status))
    }
}

impl<T: Element> Stream<T> {
    /// The next message of a service whose messages have metadata.
    pub(super) async fn next(&mut self) -> Result<Option<T>, ClientError> {
        let message = self.raw().await?;
        match message.as_ref().and_then(Element::failure) {
            Some(status) => Err(self.link.failed(self.call, &status)),
            None => Ok(message),
        }
    }
}
