//! How other processes talk to a running lab: a Unix socket in its folder, one line in, one line out.

use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::world::{Inner, Status};

const NAME: &str = "control.sock";

/// Why a lab could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("no lab answers in {folder}: {source}")]
    NoLab { folder: String, source: io::Error },
    #[error("the lab in {folder} answered nonsense: {reason}")]
    Nonsense { folder: String, reason: String },
}

/// Answers until the lab ends.
pub(super) fn serve(lab: Arc<Inner>) -> io::Result<impl Future<Output = ()> + Send> {
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
            // A caller that went away needs no answer.
            let _ = answer(&lab, stream).await;
        }
    })
}

async fn answer(lab: &Inner, mut stream: UnixStream) -> io::Result<()> {
    let mut line = String::new();
    BufReader::new(&mut stream).read_line(&mut line).await?;
    match line.trim() {
        "status" => stream.write_all(serde_json::to_string(&lab.status().await)?.as_bytes()).await,
        "down" => {
            stream.write_all(b"{}").await?;
            // The process that holds the lab ends it in order when it is asked to, as by Ctrl-C.
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM)?;
            Ok(())
        }
        _ => stream.write_all(b"{}").await,
    }
}

async fn ask(folder: &Path, what: &str) -> Result<String, SocketError> {
    let no_lab = |source| SocketError::NoLab { folder: folder.display().to_string(), source };
    let mut stream = UnixStream::connect(folder.join(NAME)).await.map_err(no_lab)?;
    stream.write_all(format!("{what}\n").as_bytes()).await.map_err(no_lab)?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.map_err(no_lab)?;
    Ok(text)
}

/// Asks the lab in `folder` how it is.
///
/// # Errors
///
/// When no lab answers there.
pub async fn ask_status(folder: &Path) -> Result<Status, SocketError> {
    let text = ask(folder, "status").await?;
    serde_json::from_str(&text)
        .map_err(|error| SocketError::Nonsense { folder: folder.display().to_string(), reason: error.to_string() })
}

/// Asks the lab in `folder` to end.
///
/// # Errors
///
/// When no lab answers there.
pub async fn ask_down(folder: &Path) -> Result<(), SocketError> {
    ask(folder, "down").await.map(|_| ())
}
