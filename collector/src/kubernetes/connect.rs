//! From a kubeconfig, or from the pod's own service account, to a client that counts its requests. Nothing here prints what
//! stands in a kubeconfig but names.

use std::{path::PathBuf, time::Duration};

use kube::{
    Client, Config,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};

use super::tally::Tally;

/// A server that does not take the connection within this time is away.
const CONNECT: Duration = Duration::from_secs(10);
/// Where the API is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// This kubeconfig instead of the service account or the user's own.
    pub kubeconfig: Option<PathBuf>,
    /// This context of it instead of the current one.
    pub context: Option<String>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig cannot be used.
    #[error("kubeconfig {path}: {what}; hint: {hint}")]
    Kubeconfig {
        /// Which.
        path: String,
        /// What is wrong with it; never what stands in it.
        what: String,
        /// What to do.
        hint: &'static str,
    },
    /// Neither in a pod, nor a kubeconfig.
    #[error("no Kubernetes API: not in a pod with a service account, and {what}; hint: --kubeconfig FILE")]
    Nowhere {
        /// What else was tried.
        what: String,
    },
    /// The client cannot be made of it.
    #[error("client for the Kubernetes API: {what}; hint: check the certificates and the user of the kubeconfig")]
    Client {
        /// Why.
        what: String,
    },
}

impl Access {
    /// A client. Files are read, nothing is sent yet.
    ///
    /// # Errors
    /// When there is no usable configuration.
    pub async fn client(&self, tally: &Tally) -> Result<Client, ConnectError> {
        let mut config = self.config().await?;
        config.connect_timeout = Some(CONNECT);
        // Trouble is waited out where it is told on the page.
        config.default_retry = false;
        let builder = ClientBuilder::try_from(config).map_err(|error| ConnectError::Client { what: brief(&error) })?;
        Ok(builder.with_layer(tally).build())
    }

    async fn config(&self) -> Result<Config, ConnectError> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        if let Some(path) = &self.kubeconfig {
            let name = path.display().to_string();
            let read = Kubeconfig::read_from(path).map_err(|error| refused(&name, error))?;
            return Config::from_custom_kubeconfig(read, &options).await.map_err(|error| refused(&name, error));
        }
        if self.context.is_none()
            && let Ok(config) = Config::incluster_env()
        {
            return Ok(config);
        }
        Config::from_kubeconfig(&options).await.map_err(|error| match error {
            KubeconfigError::FindPath | KubeconfigError::ReadConfig(..) => {
                ConnectError::Nowhere { what: "no kubeconfig at $KUBECONFIG or ~/.kube/config".to_owned() }
            }
            other => refused("$KUBECONFIG or ~/.kube/config", other),
        })
    }
}

/// Says what is wrong without saying what stands there: a parser's words may quote a token.
fn refused(path: &str, error: KubeconfigError) -> ConnectError {
    let (what, hint) = match error {
        KubeconfigError::ReadConfig(source, _) => (source.to_string(), "the path is that of --kubeconfig"),
        KubeconfigError::Parse(_) => {
            ("not the YAML of a kubeconfig".to_owned(), "kubectl config view --kubeconfig FILE shows where")
        }
        KubeconfigError::CurrentContextNotSet => {
            ("no current context".to_owned(), "--context NAME; kubectl config get-contexts lists them")
        }
        KubeconfigError::LoadContext(name) => {
            (format!("no context {name}"), "--context NAME; kubectl config get-contexts lists them")
        }
        KubeconfigError::LoadClusterOfContext(name) => {
            (format!("no cluster {name}, which the context names"), "kubectl config view")
        }
        KubeconfigError::MissingClusterUrl | KubeconfigError::ParseClusterUrl(_) => {
            ("the cluster has no usable server address".to_owned(), "kubectl config view")
        }
        KubeconfigError::LoadCertificateAuthority(_) | KubeconfigError::ParseCertificates(_) => {
            ("the certificate authority cannot be read".to_owned(), "kubectl config view --raw")
        }
        KubeconfigError::LoadClientCertificate(_) | KubeconfigError::LoadClientKey(_) => {
            ("the client's certificate or key cannot be read".to_owned(), "kubectl config view --raw")
        }
        _ => ("cannot be used".to_owned(), "kubectl config view"),
    };
    ConnectError::Kubeconfig { path: path.to_owned(), what, hint }
}

/// A chain of causes, shortened.
pub(super) fn brief(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    shorten(&text)
}

pub(super) fn shorten(text: &str) -> String {
    const MOST: usize = 300;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
