//! Serves an artifact by HTTP, as source-controller does.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::{Artifact, ArtifactError};

/// A file server with one file.
#[derive(Debug)]
pub(in crate::operators::flux) struct ArtifactServer {
    listener: TcpListener,
    address: SocketAddr,
    path: String,
    content: Bytes,
}

impl ArtifactServer {
    /// Listens on a free port of `address`, which the caller chose on loopback.
    pub(in crate::operators::flux) async fn listen(
        address: IpAddr,
        path: String,
        artifact: &Artifact,
    ) -> Result<Self, ArtifactError> {
        let listener = TcpListener::bind((address, 0)).await.map_err(ArtifactError::Serve)?;
        let address = listener.local_addr().map_err(ArtifactError::Serve)?;
        Ok(Self { listener, address, path, content: artifact.content.clone().into() })
    }

    pub(in crate::operators::flux) fn url(&self) -> String {
        format!("http://{}/{}", self.address, self.path)
    }

    /// Serves until the future is dropped.
    pub(in crate::operators::flux) async fn serve(self) {
        let path = format!("/{}", self.path);
        loop {
            let Ok((stream, _)) = self.listener.accept().await else { continue };
            let (path, content) = (path.clone(), self.content.clone());
            tokio::spawn(async move {
                let respond = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let found = request.uri().path() == path;
                    let mut response =
                        http::Response::new(Full::new(if found { content.clone() } else { Bytes::new() }));
                    if !found {
                        *response.status_mut() = http::StatusCode::NOT_FOUND;
                    }
                    std::future::ready(Ok::<_, Infallible>(response))
                });
                // The peer has closed its connection.
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), respond).await;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn the_artifact_is_served_at_its_url_and_nothing_else() {
        let artifact = Artifact { content: b"packed".to_vec(), files: 1, replaced: vec![] };
        let server = ArtifactServer::listen([127, 0, 0, 1].into(), "gitrepository/a/b/c.tar.gz".to_owned(), &artifact);
        let server = server.await.unwrap();
        let (address, url) = (server.address, server.url());
        assert_eq!(url, format!("http://{address}/gitrepository/a/b/c.tar.gz"));
        let serving = tokio::spawn(server.serve());
        for (path, expected) in [("gitrepository/a/b/c.tar.gz", "packed"), ("other", "404 Not Found")] {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let request = format!("GET /{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).await.unwrap();
            assert!(response.contains(expected), "{response}");
        }
        serving.abort();
    }
}
