//! TCP forwarding: the virtual IP of the API, and control planes whose API server runs on another node.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Listens on one address and connects every caller to another, until it is dropped.
#[derive(Debug)]
pub(super) struct PortForward(JoinHandle<()>);

impl PortForward {
    pub(super) async fn start(from: SocketAddr, to: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(from).await?;
        Ok(Self(tokio::spawn(async move {
            loop {
                let Ok((mut caller, _)) = listener.accept().await else { continue };
                tokio::spawn(async move {
                    // If the target is down, the caller's connection closes, as with a dead API server.
                    if let Ok(mut target) = TcpStream::connect(to).await {
                        let _ = tokio::io::copy_bidirectional(&mut caller, &mut target).await;
                    }
                });
            }
        })))
    }
}

impl Drop for PortForward {
    fn drop(&mut self) {
        self.0.abort();
    }
}
