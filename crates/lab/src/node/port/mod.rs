//! A machine's port. When the machine goes down, the port and its connections are really closed.
//!
//! A call passes [`network_faults`], [`router`] (forwarding to other nodes) and [`admission`] (roles and faults) before it
//! reaches its method.

mod admission;
mod call_name;
mod frames;
mod network_faults;
mod router;
mod stall;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::service::Routes;
use tonic::transport::server::Connected;

use self::admission::Admission;
use self::network_faults::NetworkFaults;
use self::router::ApidRouter;
pub(super) use self::router::PeerApi;
use self::stall::ConnectionNetwork;
pub(super) use self::stall::NetworkState;
use super::access::{ApiMode, Caller};
use super::api::NodeApi;
use super::{PORT, SimulatedNode, tls};
use talos_proto::cluster::cluster_service_server::ClusterServiceServer;
use talos_proto::cosi::resource::state_server::StateServer;
use talos_proto::machine::image_service_server::ImageServiceServer;
use talos_proto::machine::lifecycle_service_server::LifecycleServiceServer;
use talos_proto::machine::machine_service_server::MachineServiceServer;
use talos_proto::storage::storage_service_server::StorageServiceServer;
use talos_proto::time::time_service_server::TimeServiceServer;

/// In bytes (Talos 1.12 `pkg/machinery/constants`).
const MAX_MESSAGE_SIZE: usize = 32 << 20;

/// How long a rejected connection stays open, so that its peer can read the TLS alert.
const LINGER_TIME: Duration = Duration::from_secs(1);

/// Between closing the port and breaking its connections, so that responses and events are still delivered.
const DRAIN_TIME: Duration = Duration::from_millis(200);
/// How long binding is retried. A program that is just being started may have inherited the socket for a moment.
const BIND_RETRY_TIME: Duration = Duration::from_secs(5);

/// Serves the machine's API until `down` is cancelled. Afterwards the port is closed.
pub(super) async fn serve(
    node: Arc<SimulatedNode>,
    config: ServerConfig,
    mode: ApiMode,
    down: CancellationToken,
) -> io::Result<()> {
    let listener = listen(&node).await?;
    let (connections, incoming) = tokio::sync::mpsc::channel(16);
    let broken = CancellationToken::new();
    let acceptor = ConnectionAcceptor {
        acceptor: TlsAcceptor::from(Arc::new(config)),
        connections,
        network: node.network.clone(),
        down: down.clone(),
        broken: broken.clone(),
    };
    let accepting = tokio::spawn(accept(listener, acceptor));
    let breaking = tokio::spawn({
        let (down, broken) = (down.clone(), broken.clone());
        async move {
            down.cancelled().await;
            tokio::time::sleep(DRAIN_TIME).await;
            broken.cancel();
        }
    });
    let admission = Admission { node: node.clone(), talos: node.talos(), mode, inner: services(&node, mode) };
    if mode == ApiMode::Configured {
        node.open.send_replace(Some(PeerApi { admission: admission.clone(), down: broken.clone() }));
    }
    node.change(|state| state.port_open = true);
    let network_faults = NetworkFaults { node: node.clone(), inner: ApidRouter(admission) };
    let served = tonic::transport::Server::builder()
        .layer(tower::layer::layer_fn(move |_: Routes| network_faults.clone()))
        .add_routes(Routes::default())
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), down.clone().cancelled_owned())
        .await;
    down.cancel();
    node.open.send_replace(None);
    // The task owns the listener.
    let _ = accepting.await;
    breaking.abort();
    node.change(|state| state.port_open = false);
    served.map_err(io::Error::other)
}

/// The services of the machine's Talos version in this mode.
fn services(node: &Arc<SimulatedNode>, mode: ApiMode) -> Routes {
    let api = NodeApi { node: node.clone(), mode };
    let machine = MachineServiceServer::new(api.clone())
        .max_decoding_message_size(MAX_MESSAGE_SIZE)
        .max_encoding_message_size(MAX_MESSAGE_SIZE);
    let state = StateServer::new(api.clone()).max_encoding_message_size(MAX_MESSAGE_SIZE);
    let mut routes = Routes::new(machine).add_service(state).add_service(StorageServiceServer::new(api.clone()));
    let has_full_maintenance_api = node.talos().has_full_maintenance_api();
    if has_full_maintenance_api || mode == ApiMode::Configured {
        routes =
            routes.add_service(TimeServiceServer::new(api.clone())).add_service(ClusterServiceServer::new(api.clone()));
    }
    if has_full_maintenance_api {
        routes = routes.add_service(LifecycleServiceServer::new(api.clone())).add_service(ImageServiceServer::new(api));
    }
    routes
}

/// Resets and records every connection to a machine without power. Never ends by itself.
pub(super) async fn reset_connections(node: &SimulatedNode) {
    let Ok(listener) = listen(node).await else { return std::future::pending().await };
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        node.lab.recorder.record_call(node.name(), "connect");
        // With a linger time of zero a close sends a reset.
        let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
    }
}

/// Binds the machine's port. Retries if the machine has listened before.
async fn listen(node: &SimulatedNode) -> io::Result<TcpListener> {
    let address = SocketAddr::new(node.listen_address(), PORT);
    let until = Instant::now() + BIND_RETRY_TIME;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                let _ = node.had_port.set(());
                return Ok(listener);
            }
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && node.had_port.get().is_some()
                    && Instant::now() < until =>
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Accepts connections and passes them to the gRPC server.
#[derive(Clone)]
struct ConnectionAcceptor {
    acceptor: TlsAcceptor,
    connections: tokio::sync::mpsc::Sender<io::Result<Connection>>,
    network: NetworkState,
    /// No further connections are accepted.
    down: CancellationToken,
    /// Open connections break.
    broken: CancellationToken,
}

async fn accept(listener: TcpListener, acceptor: ConnectionAcceptor) {
    loop {
        let stream = tokio::select! {
            () = acceptor.down.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
        };
        tokio::spawn(acceptor.clone().accept(stream));
    }
}

impl ConnectionAcceptor {
    async fn accept(self, stream: TcpStream) {
        self.network.works().await;
        // The handshake rejects a peer without a certificate and sends the alert.
        let accepted = tokio::select! {
            () = self.down.cancelled() => return,
            accepted = self.acceptor.accept(stream).into_fallible() => accepted,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err((_, stream)) => return linger(stream).await,
        };
        let presented = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first().cloned());
        let Ok(roles) = presented.map_or(Ok(vec![]), |certificate| tls::roles(&certificate)) else { return };
        let network = ConnectionNetwork::new(self.network.clone());
        let down = Box::pin(self.broken.cancelled_owned());
        let connection = Connection { stream, roles, network, down, is_down: false };
        // This fails only after the server has stopped.
        let _ = self.connections.send(Ok(connection)).await;
    }
}

/// Lets a rejected peer read the alert: closing a connection with unread bytes would reset it.
async fn linger(mut stream: TcpStream) {
    let mut rest = [0; 1024];
    let drain = async { while stream.read(&mut rest).await.is_ok_and(|count| count > 0) {} };
    let _ = tokio::time::timeout(LINGER_TIME, drain).await;
}

/// A connection that breaks when the machine goes down.
pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    roles: Vec<String>,
    network: ConnectionNetwork,
    down: Pin<Box<WaitForCancellationFutureOwned>>,
    is_down: bool,
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        Caller { roles: self.roles.clone() }
    }
}

impl Connection {
    fn poll_down(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        self.is_down = self.is_down || self.down.as_mut().poll(context).is_ready();
        if self.is_down { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_down(context)?;
        ready!(self.network.poll_works(context));
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_down(context)?;
        ready!(self.network.poll_works(context));
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_down(context)?;
        ready!(self.network.poll_works(context));
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
