//! Certificates made on the spot, and TLS connections to a collector.

use std::{path::Path, sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const LIMIT: Duration = Duration::from_secs(20);

/// Who signs.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
pub(crate) struct Signed {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Good for both ends of a connection to this host, until the end of that year.
    pub(crate) fn sign(&self, host: &str, until: i32) -> Signed {
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, host);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(until, 12, 31));
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("signed").pem();
        Signed { cert, key: key.serialize_pem() }
    }
}

impl Signed {
    /// Writes both files over those that were there, one after the other, as an operator would.
    pub(crate) fn write(&self, cert: &Path, key: &Path) {
        std::fs::write(cert, &self.cert).expect("write");
        std::fs::write(key, &self.key).expect("write");
    }
}

/// Connects as who trusts this authority and shows this certificate.
pub(crate) async fn connect(
    address: &str,
    authority: &str,
    own: Option<&Signed>,
) -> std::io::Result<TlsStream<TcpStream>> {
    connect_for(&[], address, authority, own).await
}

/// The same, as who would speak one of these inside.
pub(crate) async fn connect_for(
    speaks: &[&str],
    address: &str,
    authority: &str,
    own: Option<&Signed>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).expect("PEM")).expect("a root");
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(Signed { cert, key }) => {
            let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).expect("PEM")];
            builder
                .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM"))
                .expect("a pair")
        }
    };
    config.alpn_protocols = speaks.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TcpStream::connect(address).await?;
    timeout(LIMIT, TlsConnector::from(Arc::new(config)).connect(name, stream)).await.expect("in time")
}

/// Sends a request that ends the connection, and reads the whole answer.
pub(crate) async fn ask(stream: &mut TlsStream<TcpStream>, head: &str, body: &[u8]) -> std::io::Result<String> {
    let length = body.len();
    let request =
        format!("{head} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(&[request.as_bytes(), body].concat()).await?;
    let mut text = Vec::new();
    timeout(LIMIT, stream.read_to_end(&mut text)).await.expect("in time")?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
