//! Raw calls: any method by its name, requests and answers as data, out of `proto/` alone.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use futures::StreamExt;
use prost_reflect::prost::Message;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use serde_json::Value;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::cluster::Pair;

fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let files = files.filter(|name| Path::new(name).extension().is_some());
        DescriptorPool::from_file_descriptor_set(protox::compile(files, [folder]).unwrap()).unwrap()
    })
}

/// Accepts any certificate: in maintenance mode a node has a self-signed one.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// How a caller shows itself.
pub enum Trust<'t> {
    Anonymous,
    Cluster { authority: &'t str, own: Pair },
}

fn tls(trust: Trust<'_>) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let mut config = match trust {
        Trust::Anonymous => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth(),
        Trust::Cluster { authority, own } => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
            let chain = vec![CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
            builder.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// A connection to a machine, opened with the first call.
pub fn connect(address: &str, trust: Trust<'_>) -> Channel {
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls(trust)));
    let target = address.to_owned();
    let dial = tower::service_fn(move |_| {
        let (connector, target) = (connector.clone(), target.clone());
        async move {
            let stream = tokio::net::TcpStream::connect((target.as_str(), 50000)).await?;
            let name = ServerName::try_from(target).map_err(std::io::Error::other)?;
            connector.connect(name, stream).await.map(hyper_util::rt::TokioIo::new)
        }
    });
    Endpoint::from_static("http://machine").connect_with_connector_lazy(dial)
}

/// The certificate that a machine presents, as DER.
pub async fn server_certificate(address: &str, trust: Trust<'_>) -> Vec<u8> {
    let stream = tokio::net::TcpStream::connect((address, 50000)).await.unwrap();
    let name = ServerName::try_from(address.to_owned()).unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls(trust)));
    let stream = connector.connect(name, stream).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

struct Dynamic(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(self.0.clone())
    }

    fn decoder(&mut self) -> Self {
        Self(self.0.clone())
    }
}

impl Encoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let message = DynamicMessage::decode(self.0.clone(), buffer);
        message.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

fn data_of(mut message: DynamicMessage) -> Value {
    // An event without a type has no content to show.
    if let Some(data) = message.get_field_by_name("data").and_then(|data| data.as_message().cloned())
        && data.get_field_by_name("type_url").is_some_and(|url| url.as_str() == Some(""))
    {
        message.clear_field_by_name("data");
    }
    let options = SerializeOptions::new().stringify_64_bit_integers(false);
    message.serialize_with_options(serde_json::value::Serializer, &options).unwrap()
}

/// Calls `package.Service/Method`; at most `limit` messages of the answer, and how it ended if it did.
pub async fn call(
    channel: Channel,
    method: &str,
    requests: &[Value],
    metadata: &[(String, String)],
    limit: usize,
) -> (Vec<Value>, Option<Status>) {
    let (service, name) = method.split_once('/').unwrap();
    let known =
        pool().get_service_by_name(service).and_then(|known| known.methods().find(|known| known.name() == name));
    // An unknown method has empty messages.
    let empty = || pool().get_message_by_name("google.protobuf.Empty").unwrap();
    let (input, output) = known.map_or_else(|| (empty(), empty()), |known| (known.input(), known.output()));
    let messages: Vec<DynamicMessage> = requests
        .iter()
        .map(|request| {
            let options = DeserializeOptions::new();
            DynamicMessage::deserialize_with_options(input.clone(), request, &options).unwrap()
        })
        .collect();
    let mut request = Request::new(futures::stream::iter(messages));
    for (key, value) in metadata {
        let key: tonic::metadata::MetadataKey<_> = key.parse().unwrap();
        request.metadata_mut().append(key, value.parse().unwrap());
    }
    let mut client = tonic::client::Grpc::new(channel);
    if let Err(error) = client.ready().await {
        return (vec![], Some(Status::unavailable(error.to_string())));
    }
    let path = http::uri::PathAndQuery::from_maybe_shared(format!("/{method}")).unwrap();
    let mut stream = match client.streaming(request, path, Dynamic(output)).await {
        Ok(response) => response.into_inner(),
        Err(status) => return (vec![], Some(status)),
    };
    let mut found = Vec::new();
    while found.len() < limit {
        match stream.next().await {
            Some(Ok(message)) => found.push(data_of(message)),
            Some(Err(status)) => return (found, Some(status)),
            None => return (found, None),
        }
    }
    (found, None)
}
