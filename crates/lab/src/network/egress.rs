//! The proxy that the API server's egress selector dials.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::{Endpoints, target};
use crate::view::View;

/// The socket's name in the lab's folder.
pub(crate) const SOCKET: &str = "egress.sock";
/// A request line and a few headers.
const MAX_REQUEST: usize = 4096;

/// Answers the API server's `CONNECT`s until the lab ends.
pub(crate) async fn serve(folder: &Path, view: Arc<View>, endpoints: Endpoints) -> io::Result<()> {
    let path = folder.join(SOCKET);
    // Left behind by a lab that was killed.
    if path.exists() {
        std::fs::remove_file(&path)?;
    }
    let listener = UnixListener::bind(&path)?;
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (view, endpoints) = (view.clone(), endpoints.clone());
        tokio::spawn(async move {
            // A caller that went away needs no answer.
            let _ = answer(stream, &view, &endpoints).await;
        });
    }
}

async fn answer(mut stream: UnixStream, view: &View, endpoints: &Endpoints) -> io::Result<()> {
    let request = head(&mut stream).await?;
    let Some(target) = target::of_request(&request) else {
        return stream.write_all(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n").await;
    };
    let services = view.services.state();
    let name = target::service(target, services.iter().map(AsRef::as_ref));
    let behind = name.as_ref().is_some_and(|(namespace, name)| view.is_backed(namespace, name));
    match name.as_ref().filter(|_| behind).and_then(|name| endpoints.get(name)) {
        Some(answer) => {
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            answer(stream).await;
            Ok(())
        }
        // What a caller of a Service without endpoints learns.
        None => stream.write_all(b"HTTP/1.1 502 connection refused\r\n\r\n").await,
    }
}

/// Reads up to the empty line, and not a byte further: what follows is for the endpoint.
async fn head(stream: &mut UnixStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
        if head.len() > MAX_REQUEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
