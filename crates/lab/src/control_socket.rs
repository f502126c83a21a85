//! The control socket: other processes send one line to a Unix socket in the lab's folder and get one line back.

use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::status::{LabStatus, RunningLab};

const NAME: &str = "control.sock";

/// Why a lab could not be queried.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("no lab is running in {folder}")]
    NotRunning { folder: String, source: io::Error },
    #[error("the lab in {folder} sent an invalid response")]
    InvalidResponse { folder: String, source: serde_json::Error },
}

/// Answers requests until the lab ends.
pub(super) fn serve(lab: Arc<RunningLab>) -> io::Result<impl Future<Output = ()> + Send> {
    let path = lab.folder().join(NAME);
    // Left behind by a lab that was killed.
    if path.exists() {
        std::fs::remove_file(&path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(&path)?;
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    Ok(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            // The caller has closed its connection.
            let _ = answer(&lab, stream).await;
        }
    })
}

async fn answer(lab: &RunningLab, mut stream: UnixStream) -> io::Result<()> {
    let mut line = String::new();
    BufReader::new(&mut stream).read_line(&mut line).await?;
    match line.trim() {
        "status" => stream.write_all(serde_json::to_string(&lab.status().await)?.as_bytes()).await,
        "down" => {
            stream.write_all(b"{}").await?;
            // The process that runs the lab shuts it down on SIGTERM, as on Ctrl-C.
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM)?;
            Ok(())
        }
        _ => stream.write_all(b"{}").await,
    }
}

async fn send(folder: &Path, request: &str) -> Result<String, SocketError> {
    let not_running = |source| SocketError::NotRunning { folder: folder.display().to_string(), source };
    let mut stream = UnixStream::connect(folder.join(NAME)).await.map_err(not_running)?;
    stream.write_all(format!("{request}\n").as_bytes()).await.map_err(not_running)?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await.map_err(not_running)?;
    Ok(response)
}

/// Queries the status of the lab in `folder`.
///
/// # Errors
///
/// No lab is running there.
pub async fn query_status(folder: &Path) -> Result<LabStatus, SocketError> {
    let response = send(folder, "status").await?;
    serde_json::from_str(&response)
        .map_err(|source| SocketError::InvalidResponse { folder: folder.display().to_string(), source })
}

/// Requests the shutdown of the lab in `folder`.
///
/// # Errors
///
/// No lab is running there.
pub async fn request_shutdown(folder: &Path) -> Result<(), SocketError> {
    send(folder, "down").await.map(|_| ())
}
