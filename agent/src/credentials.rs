//! What the agent shows the collector, and whom it takes for the collector: files that are read again when they change. Their
//! content is never printed.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path, sync::Arc};

use http::HeaderValue;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::config::{Identity, TlsFiles};

/// The most that is read of such a file, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// The longest token, in bytes.
const MAX_TOKEN_BYTES: usize = 8_192;

/// Why a file will not do.
#[derive(Debug, thiserror::Error)]
#[error("{option} {}: {what}; hint: {hint}", path.display())]
pub struct CredentialError {
    option: &'static str,
    path: std::path::PathBuf,
    what: String,
    hint: &'static str,
}

fn wrong(option: &'static str, path: &Path, what: impl ToString, hint: &'static str) -> CredentialError {
    CredentialError { option, path: path.to_owned(), what: what.to_string(), hint }
}

fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, CredentialError> {
    let failed = |error: io::Error| wrong(option, path, error, "a file that the agent may read");
    if fs::metadata(path).map_err(failed)?.len() > MAX_BYTES {
        return Err(wrong(option, path, "too large", "another file"));
    }
    fs::read(path).map_err(failed)
}

/// The bearer token of a file, as it stands there now.
#[derive(Debug, Default)]
pub struct Token {
    stamp: Option<(u64, i64, i64, u64)>,
    header: Option<HeaderValue>,
}

impl Token {
    /// The value of the header `Authorization`, read again where the file changed.
    ///
    /// # Errors
    /// When there is no token in the file.
    pub fn header(&mut self, path: &Path) -> Result<HeaderValue, CredentialError> {
        const OPTION: &str = "--token-file";
        let failed = |error: io::Error| wrong(OPTION, path, error, "a file that the agent may read");
        let meta = fs::metadata(path).map_err(failed)?;
        let stamp = (meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len());
        if let Some(header) = self.header.as_ref().filter(|_| self.stamp == Some(stamp)) {
            return Ok(header.clone());
        }
        let text = read(OPTION, path)?;
        let text = std::str::from_utf8(&text).unwrap_or_default().trim();
        let is_token =
            !text.is_empty() && text.len() <= MAX_TOKEN_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic());
        let header = HeaderValue::from_str(&format!("Bearer {text}")).ok().filter(|_| is_token);
        let Some(mut header) = header else {
            return Err(wrong(OPTION, path, "not a token", "one line of visible characters"));
        };
        header.set_sensitive(true);
        (self.stamp, self.header) = (Some(stamp), Some(header.clone()));
        Ok(header)
    }
}

/// What the next handshake is done with, by the files as they are now.
///
/// # Errors
/// When one of them cannot be used.
pub fn client(files: &TlsFiles) -> Result<ClientConfig, CredentialError> {
    const PEM: &str = "PEM, as openssl and cert-manager write it";
    let certificates = |option, path: &Path| {
        let bytes = read(option, path)?;
        let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match list {
            Ok(list) if !list.is_empty() => Ok(list),
            _ => Err(wrong(option, path, "no certificate in it", PEM)),
        }
    };
    let mut roots = RootCertStore::empty();
    for root in certificates("--ca-file", &files.ca)? {
        roots.add(root).map_err(|error| wrong("--ca-file", &files.ca, error, PEM))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("--ca-file", &files.ca, error, "report it"))?
        .with_root_certificates(roots);
    let mut config = match &files.identity {
        None => builder.with_no_client_auth(),
        Some(Identity { cert, key }) => {
            let chain = certificates("--cert-file", cert)?;
            // The parser's words may quote the key.
            let own = PrivateKeyDer::from_pem_slice(&read("--key-file", key)?)
                .map_err(|_| wrong("--key-file", key, "no private key in it", "PEM without a passphrase"))?;
            builder
                .with_client_auth_cert(chain, own)
                .map_err(|error| wrong("--cert-file", cert, error, "the key must belong to the first certificate"))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::Token;

    #[test]
    fn a_token_is_read_again_when_its_file_changes() {
        let path = std::env::temp_dir().join(format!("orrery-token-{}", std::process::id()));
        let mut token = Token::default();
        std::fs::write(&path, "first\n").expect("write");
        let header = token.header(&path).expect("a token");
        assert!(header == "Bearer first" && header.is_sensitive() && !format!("{header:?}").contains("first"));
        std::fs::write(&path, "the-second").expect("write");
        assert_eq!(token.header(&path).expect("a token"), "Bearer the-second");
        std::fs::remove_file(&path).expect("remove");
        assert!(token.header(&path).is_err_and(|error| error.to_string().contains("hint: ")));
    }

    #[test]
    fn what_is_no_token_is_not_quoted() {
        let path = std::env::temp_dir().join(format!("orrery-no-token-{}", std::process::id()));
        for text in ["", "\n", "se cret", "se\ncret", &"x".repeat(9_000)] {
            std::fs::write(&path, text).expect("write");
            let error = Token::default().header(&path).expect_err("refused").to_string();
            assert!(error.contains("not a token") && !error.contains("cret"), "{error}");
        }
        std::fs::remove_file(&path).expect("remove");
    }
}
