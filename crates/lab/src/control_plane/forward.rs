//! TCP forwarding: the shared address of the API, and control planes whose API server runs elsewhere.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Listens on one address and connects every caller to another, until it is dropped.
#[derive(Debug)]
pub(super) struct Forward(JoinHandle<()>);

impl Forward {
    pub(super) async fn start(from: SocketAddr, to: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(from).await?;
        Ok(Self(tokio::spawn(async move {
            loop {
                let Ok((mut caller, _)) = listener.accept().await else { continue };
                tokio::spawn(async move {
                    // A target that is down closes the caller's connection, as a dead API server would.
                    if let Ok(mut target) = TcpStream::connect(to).await {
                        let _ = tokio::io::copy_bidirectional(&mut caller, &mut target).await;
                    }
                });
            }
        })))
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.0.abort();
    }
}
