//! The proxy for the API server's egress selector.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::{ServiceEndpoints, target};
use crate::cluster_cache::ClusterCache;

/// The socket's name in the lab's folder.
pub(crate) const SOCKET: &str = "egress.sock";
/// In bytes: a request line and a few headers.
const MAX_REQUEST_SIZE: usize = 4096;

/// Serves `CONNECT` requests until the lab ends.
pub(crate) async fn serve(folder: &Path, cache: Arc<ClusterCache>, endpoints: ServiceEndpoints) -> io::Result<()> {
    let path = folder.join(SOCKET);
    // Left behind by a lab that was killed.
    if path.exists() {
        std::fs::remove_file(&path)?;
    }
    let listener = UnixListener::bind(&path)?;
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (cache, endpoints) = (cache.clone(), endpoints.clone());
        tokio::spawn(async move {
            // The API server has closed its connection.
            let _ = handle(stream, &cache, &endpoints).await;
        });
    }
}

async fn handle(mut stream: UnixStream, cache: &ClusterCache, endpoints: &ServiceEndpoints) -> io::Result<()> {
    let request = read_head(&mut stream).await?;
    let Some(target) = target::connect_target(&request) else {
        return stream.write_all(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n").await;
    };
    let services = cache.services.state();
    let service = target::find_service(target, services.iter().map(AsRef::as_ref));
    let service = service.filter(|service| cache.has_ready_endpoint(service));
    match service.and_then(|service| endpoints.get(&service)) {
        Some(handler) => {
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            handler(stream).await;
            Ok(())
        }
        // The response for a Service without endpoints.
        None => stream.write_all(b"HTTP/1.1 502 connection refused\r\n\r\n").await,
    }
}

/// Reads up to the empty line and no further: the bytes after it belong to the endpoint.
async fn read_head(stream: &mut UnixStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
        if head.len() > MAX_REQUEST_SIZE {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
