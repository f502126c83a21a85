use std::sync::Arc;
use std::time::Duration;

use retry::{Budget, RetryPolicy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const LIMITS: FetchLimits =
    FetchLimits { connect: Duration::from_secs(2), attempt: Duration::from_secs(5), max_bytes: 16 };
const RETRY: RetryPolicy = RetryPolicy::every(Duration::from_millis(10)).with_budget(Budget::Retries(3));

fn fetcher() -> Fetcher {
    Fetcher::new(LIMITS, Authorities::Public)
}

/// A server that sends each of these responses, status line and headers, with a body.
async fn server(responses: Vec<(&'static str, &'static str)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for (head, body) in responses {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await.unwrap();
            let length = body.len();
            let text = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            stream.write_all(text.as_bytes()).await.unwrap();
        }
    });
    format!("http://{address}/a/b.yaml")
}

#[tokio::test]
async fn an_overloaded_server_is_retried_and_a_missing_file_is_not() {
    let url = server(vec![("503 Busy", "busy"), ("200 OK", "ok")]).await;
    assert_eq!(DownloadSource::Internet.fetch_text(&url).await.unwrap(), "ok");
    let url = server(vec![("404 Not Found", "gone")]).await;
    let error = DownloadSource::Internet.fetch_text(&url).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{url} returned HTTP status 404"));
    assert!(matches!(error, FetchError::Status { status: 404, body, .. } if body == "gone"));
}

#[tokio::test]
async fn retry_after_replaces_the_delay_and_the_budget_ends_the_retries() {
    let url = server(vec![("429 Too Many\r\nRetry-After: 0", ""), ("200 OK", "ok")]).await;
    assert_eq!(fetcher().fetch(&Get::new(url), RETRY).await.unwrap(), b"ok");
    let url = server(vec![("503 Busy", ""); 5]).await;
    let error = fetcher().fetch(&Get::new(url), RETRY).await.unwrap_err();
    assert!(matches!(error, FetchError::Status { status: 503, .. }), "{error}");
}

#[tokio::test]
async fn a_body_beyond_the_limit_and_a_closed_port_are_different_errors() {
    let url = server(vec![("200 OK", "more than sixteen bytes")]).await;
    let error = fetcher().fetch(&Get::new(url), RETRY).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { max_bytes: 16, .. }), "{error}");
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = fetcher().fetch(&Get::new(format!("http://{closed}/")), RETRY).await.unwrap_err();
    assert!(matches!(error, FetchError::Unreachable { .. }) && error.is_retryable(), "{error}");
}

/// A TLS server that sends one response; its address and its certificate.
async fn tls_server(response: &'static str) -> (String, String) {
    let issued = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![issued.cert.der().clone()], key.into()).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await.unwrap();
        stream.write_all(response.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    (format!("https://{address}/"), issued.cert.pem())
}

#[tokio::test]
async fn private_authorities_are_trusted_and_a_redirect_away_from_tls_is_an_error() {
    let (url, pem) = tls_server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
    let private = Fetcher::new(LIMITS, Authorities::Private(&pem));
    assert_eq!(private.fetch(&Get::new(url), RetryPolicy::never()).await.unwrap(), b"ok");

    let redirect = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n";
    let (url, pem) = tls_server(redirect).await;
    let private = Fetcher::new(LIMITS, Authorities::Private(&pem));
    let error = private.fetch(&Get::new(url), RETRY).await.unwrap_err();
    assert!(matches!(error, FetchError::InsecureRedirect { .. }), "{error:?}");
}

#[tokio::test]
async fn a_folder_replaces_the_web() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("example.org/a")).unwrap();
    std::fs::write(folder.path().join("example.org/a/b.yaml"), "x: 1").unwrap();
    let web = DownloadSource::Folder(folder.path().to_owned());
    assert_eq!(web.fetch_text("https://example.org/a/b.yaml").await.unwrap(), "x: 1");
    assert!(web.fetch_text("https://example.org/c.yaml").await.is_err());
}

#[test]
fn a_lab_maps_the_first_octet_and_keeps_addresses_apart() {
    let declared: Vec<IpAddr> = ["10.25.11.11", "192.25.11.11"].iter().map(|text| text.parse().unwrap()).collect();
    let map = AddressMap::loopback(declared.clone());
    assert_eq!(map.dialled(declared[0]).to_string(), "127.25.11.11");
    assert_eq!(map.dialled(declared[1]).to_string(), "127.25.11.12");
}

#[tokio::test]
async fn a_sealed_dialer_refuses_what_is_not_loopback() {
    let dialer = Dialer::lab(AddressMap::default());
    let error = dialer.connect("10.25.11.11:6443".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("10.25.11.11:6443"), "{error}");
}
