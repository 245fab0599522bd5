//! Certificates and keys from files to what a TLS handshake needs.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use prometheus_client::metrics::counter::Counter;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};

use crate::files::{self, FileError, Reread};

/// The files of one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those between it and the root.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who signs clients' certificates, where these are looked at.
    pub client_ca: Option<PathBuf>,
    /// What is spoken inside, as clients are told, the best first: `h2`, `http/1.1`.
    pub speaks: &'static [&'static str],
}

/// What the next handshake is done with.
#[derive(Debug)]
pub struct Tls(Reread<Arc<ServerConfig>>);

impl Tls {
    /// Reads the files; they are read again when they change.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn new(files: TlsFiles, failures: Counter) -> Result<Self, FileError> {
        let paths = [Some(&files.cert), Some(&files.key), files.client_ca.as_ref()];
        let paths = paths.into_iter().flatten().cloned().collect();
        Ok(Self(Reread::new(paths, failures, move || server(&files))?))
    }

    /// For the next handshake.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.current())
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let wrong = |what: String| FileError::Content {
        path: path.to_owned(),
        what,
        hint: "PEM, as openssl and cert-manager write it",
    };
    let bytes = files::read(path)?;
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match list {
        Ok(list) if !list.is_empty() => Ok(list),
        Ok(_) => Err(wrong("no certificate in it".to_owned())),
        Err(_) => Err(wrong("not PEM".to_owned())),
    }
}

fn server(files: &TlsFiles) -> Result<Arc<ServerConfig>, FileError> {
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    let chain = certificates(&files.cert)?;
    // The parser's words may quote the key.
    let key = PrivateKeyDer::from_pem_slice(&files::read(&files.key)?).map_err(|_| FileError::Content {
        path: files.key.clone(),
        what: "no private key in it".to_owned(),
        hint: "PEM without a passphrase",
    })?;
    let wrong = |path: &PathBuf, error: &dyn std::fmt::Display, hint| FileError::Content {
        path: path.clone(),
        what: error.to_string(),
        hint,
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&files.cert, &error, "report it"))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(path)? {
                roots.add(root).map_err(|error| wrong(path, &error, "the certificate of the authority itself"))?;
            }
            // Who shows none gets an answer that says so, and probes their health; a wrong one ends the handshake.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| wrong(path, &error, "the certificate of the authority itself"))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| wrong(&files.cert, &error, "the key must belong to the first certificate in the file"))?;
    config.alpn_protocols = files.speaks.iter().map(|name| name.as_bytes().to_vec()).collect();
    // A session taken up again would skip the look at the client's certificate.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
