//! A machine's port: open with one TLS set-up, and really closed, connections and all, when the machine goes down.
//!
//! A call goes through [`way`] (what may happen to it before it arrives), [`router`] (whose it is), [`gate`] (whether it
//! may) to its method.

mod frames;
mod gate;
mod name;
mod router;
mod way;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
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

use self::gate::Gate;
pub(super) use self::router::Open;
use self::router::Router;
use self::way::Way;
use super::access::Mode;
use super::machine_service::Api;
use super::{Node, PORT, tls};
use talos_proto::cluster::cluster_service_server::ClusterServiceServer;
use talos_proto::cosi::resource::state_server::StateServer;
use talos_proto::machine::image_service_server::ImageServiceServer;
use talos_proto::machine::lifecycle_service_server::LifecycleServiceServer;
use talos_proto::machine::machine_service_server::MachineServiceServer;
use talos_proto::storage::storage_service_server::StorageServiceServer;
use talos_proto::time::time_service_server::TimeServiceServer;

/// Talos 1.12 `pkg/machinery/constants`.
const MAX_MESSAGE: usize = 32 << 20;

const LINGER: Duration = Duration::from_secs(1);

/// Who calls.
#[derive(Debug, Clone, Default)]
pub(super) struct Caller {
    pub(super) roles: Vec<String>,
}

/// Between the closing of a port and the breaking of its connections: answers and events still get out.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How long the address may still be held by a program that is just being started, which closes it a moment later.
const HELD: Duration = Duration::from_secs(5);

/// Serves the machine's API until `down` is cancelled. Nothing answers on the port afterwards.
pub(super) async fn serve(
    node: Arc<Node>,
    config: ServerConfig,
    mode: Mode,
    down: CancellationToken,
) -> io::Result<()> {
    let listener = listen(&node).await?;
    let (connections, incoming) = tokio::sync::mpsc::channel(16);
    let broken = CancellationToken::new();
    let doors = Doors {
        acceptor: TlsAcceptor::from(Arc::new(config)),
        connections,
        down: down.clone(),
        broken: broken.clone(),
    };
    let accepting = tokio::spawn(accept(listener, doors));
    let breaking = tokio::spawn({
        let (down, broken) = (down.clone(), broken.clone());
        async move {
            down.cancelled().await;
            tokio::time::sleep(LAST_WORDS).await;
            broken.cancel();
        }
    });
    let gate = Gate { node: node.clone(), talos: node.talos(), mode, inner: services(&node, mode) };
    if mode == Mode::Configured {
        node.open.send_replace(Some(Open { gate: gate.clone(), down: broken.clone() }));
    }
    node.change(|state| state.port_open = true);
    let way = Way { node: node.clone(), inner: Router(gate) };
    let served = tonic::transport::Server::builder()
        .layer(tower::layer::layer_fn(move |_: Routes| way.clone()))
        .add_routes(Routes::default())
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), down.clone().cancelled_owned())
        .await;
    down.cancel();
    node.open.send_replace(None);
    // The listener is closed when its task has ended.
    let _ = accepting.await;
    breaking.abort();
    node.change(|state| state.port_open = false);
    served.map_err(io::Error::other)
}

/// What this version of Talos has in this mode.
fn services(node: &Arc<Node>, mode: Mode) -> Routes {
    let api = Api { node: node.clone(), mode };
    let machine = MachineServiceServer::new(api.clone())
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let state = StateServer::new(api.clone()).max_encoding_message_size(MAX_MESSAGE);
    let mut routes = Routes::new(machine).add_service(state).add_service(StorageServiceServer::new(api.clone()));
    let one_server = node.talos().one_server();
    if one_server || mode == Mode::Configured {
        routes =
            routes.add_service(TimeServiceServer::new(api.clone())).add_service(ClusterServiceServer::new(api.clone()));
    }
    if one_server {
        routes = routes.add_service(LifecycleServiceServer::new(api.clone())).add_service(ImageServiceServer::new(api));
    }
    routes
}

/// Takes the machine's port, again if it had it before.
async fn listen(node: &Node) -> io::Result<TcpListener> {
    let address = SocketAddr::new(node.mapped(), PORT);
    let until = Instant::now() + HELD;
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

/// What a caller goes through.
#[derive(Clone)]
struct Doors {
    acceptor: TlsAcceptor,
    connections: tokio::sync::mpsc::Sender<io::Result<Connection>>,
    /// Nobody is let in any more.
    down: CancellationToken,
    /// Nobody is in any more.
    broken: CancellationToken,
}

async fn accept(listener: TcpListener, doors: Doors) {
    loop {
        let stream = tokio::select! {
            () = doors.down.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
        };
        tokio::spawn(doors.clone().let_in(stream));
    }
}

impl Doors {
    async fn let_in(self, stream: TcpStream) {
        // A peer without a certificate is turned away by the handshake itself; it is told there.
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
        let connection = Connection { stream, roles, down: Box::pin(self.broken.cancelled_owned()), is_down: false };
        // The server is gone when nobody takes the connection; so is the machine.
        let _ = self.connections.send(Ok(connection)).await;
    }
}

/// Lets a caller that was turned away read why: a connection that is closed with bytes unread is reset.
async fn linger(mut stream: TcpStream) {
    let mut rest = [0; 1024];
    let drain = async { while stream.read(&mut rest).await.is_ok_and(|count| count > 0) {} };
    // One that goes on writing has had its chance.
    let _ = tokio::time::timeout(LINGER, drain).await;
}

/// A connection that breaks when the machine goes down.
pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    roles: Vec<String>,
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
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_down(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_down(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
