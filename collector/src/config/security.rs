//! Which ports are encrypted, and who may ask on them.

use std::{net::SocketAddr, path::PathBuf};

use axum::http::HeaderName;

use super::{ConfigError, ReportAddress};
use crate::{
    auth::{browsers, reports},
    kubernetes::connect::Access,
    tls::TlsFiles,
};

/// What was typed about it.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Encryption and credentials")]
pub struct SecurityArgs {
    /// Certificate of the report port (PEM, with its chain); read again when it changes.
    #[arg(long, env = "ORRERY_REPORT_TLS_CERT", value_name = "FILE", requires = "report_tls_key")]
    pub report_tls_cert: Option<PathBuf>,
    /// Its key.
    #[arg(long, env = "ORRERY_REPORT_TLS_KEY", value_name = "FILE", requires = "report_tls_cert")]
    pub report_tls_key: Option<PathBuf>,
    /// Agents whose certificate one of these authorities signed may report.
    #[arg(long, env = "ORRERY_REPORT_CLIENT_CA", value_name = "FILE", requires = "report_tls_cert")]
    pub report_client_ca: Option<PathBuf>,
    /// Agents that show one of these tokens may report: one a line, read again when the file changes.
    #[arg(long, env = "ORRERY_REPORT_TOKEN_FILE", value_name = "FILE")]
    pub report_token_file: Option<PathBuf>,
    /// Agents may report whose projected service account token (audience `orrery`) the Kubernetes API knows.
    #[arg(long, env = "ORRERY_REPORT_TOKEN_REVIEW", requires = "report_service_account")]
    pub report_token_review: bool,
    /// The service accounts whose tokens will do; may be given more than once.
    #[arg(long, env = "ORRERY_REPORT_SERVICE_ACCOUNT", value_name = "NAMESPACE/NAME", value_delimiter = ',')]
    pub report_service_account: Vec<String>,
    /// Take reports from anybody who reaches the port, on any address.
    #[arg(long, env = "ORRERY_REPORT_NO_AUTH", conflicts_with_all = ["report_client_ca", "report_token_file", "report_token_review"])]
    pub report_no_auth: bool,
    /// Certificate of the port of Hubble's API (PEM, with its chain); read again when it changes.
    #[arg(long, env = "ORRERY_HUBBLE_TLS_CERT", value_name = "FILE", requires = "hubble_tls_key")]
    pub hubble_tls_cert: Option<PathBuf>,
    /// Its key.
    #[arg(long, env = "ORRERY_HUBBLE_TLS_KEY", value_name = "FILE", requires = "hubble_tls_cert")]
    pub hubble_tls_key: Option<PathBuf>,
    /// Hubble's clients whose certificate one of these authorities signed may ask for flows, and no others.
    #[arg(long, env = "ORRERY_HUBBLE_CLIENT_CA", value_name = "FILE", requires = "hubble_tls_cert")]
    pub hubble_client_ca: Option<PathBuf>,
    /// Give flows to anybody who reaches the port of Hubble's API, on any address.
    #[arg(long, env = "ORRERY_HUBBLE_NO_AUTH", conflicts_with = "hubble_client_ca")]
    pub hubble_no_auth: bool,
    /// Certificate of the page's port (PEM, with its chain); read again when it changes.
    #[arg(long, env = "ORRERY_UI_TLS_CERT", value_name = "FILE", requires = "ui_tls_key")]
    pub ui_tls_cert: Option<PathBuf>,
    /// Its key.
    #[arg(long, env = "ORRERY_UI_TLS_KEY", value_name = "FILE", requires = "ui_tls_cert")]
    pub ui_tls_key: Option<PathBuf>,
    /// Tokens that open page and API, by login or as bearer: one a line, read again when the file changes.
    #[arg(long, env = "ORRERY_UI_TOKEN_FILE", value_name = "FILE")]
    pub ui_token_file: Option<PathBuf>,
    /// Header in which a proxy says who was let in by it.
    #[arg(long, env = "ORRERY_UI_TRUSTED_HEADER", value_name = "NAME", requires = "ui_trusted_proxy")]
    pub ui_trusted_header: Option<String>,
    /// Where that proxy asks from; may be given more than once.
    #[arg(
        long,
        env = "ORRERY_UI_TRUSTED_PROXY",
        value_name = "CIDR",
        value_delimiter = ',',
        requires = "ui_trusted_header"
    )]
    pub ui_trusted_proxy: Vec<String>,
    /// Serve page and API to anybody who reaches the port, on any address.
    #[arg(long, env = "ORRERY_UI_NO_AUTH", conflicts_with_all = ["ui_token_file", "ui_trusted_header"])]
    pub ui_no_auth: bool,
}

/// What is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Security {
    /// How the report port is encrypted.
    pub report_tls: Option<TlsFiles>,
    /// Who may report.
    pub reports: reports::Rules,
    /// How the port of Hubble's API is encrypted, and whose certificates open it.
    pub hubble_tls: Option<TlsFiles>,
    /// How the page's port is encrypted.
    pub ui_tls: Option<TlsFiles>,
    /// Who may look.
    pub browsers: browsers::Rules,
}

/// Whether others than this machine's own programs reach it.
fn is_wide(address: &SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

pub(super) fn read(
    args: SecurityArgs,
    access: Access,
    listen: SocketAddr,
    report_listen: &[ReportAddress],
    hubble_listen: Option<&ReportAddress>,
) -> Result<Security, ConfigError> {
    let part = |flag, value: &str, hint: String| ConfigError::Credential { flag, value: value.to_owned(), hint };
    let tls = |cert: Option<PathBuf>, key: Option<PathBuf>, client_ca, speaks| {
        cert.zip(key).map(|(cert, key)| TlsFiles { cert, key, client_ca, speaks })
    };
    let mut accounts = Vec::new();
    for value in &args.report_service_account {
        let account = value.parse();
        accounts.push(account.map_err(|_| part("report-service-account", value, "NAMESPACE/NAME".to_owned()))?);
    }
    let proxy = match &args.ui_trusted_header {
        None => None,
        Some(name) => {
            let wrong = |_| part("ui-trusted-header", name, "such as X-Forwarded-User".to_owned());
            let header: HeaderName = name.parse().map_err(wrong)?;
            let mut networks = Vec::new();
            for value in &args.ui_trusted_proxy {
                let wrong = |_| part("ui-trusted-proxy", value, "such as 10.0.0.0/8 or 192.0.2.7".to_owned());
                networks.push(value.parse().map_err(wrong)?);
            }
            Some(browsers::Proxy { header, networks })
        }
    };
    let rules = reports::Rules {
        certificates: args.report_client_ca.is_some(),
        token_file: args.report_token_file,
        review: args.report_token_review.then_some((access, accounts)),
    };
    let browsers = browsers::Rules { token_file: args.ui_token_file, proxy, anybody: args.ui_no_auth };
    let open = |flag, address: SocketAddr, hint| Err(ConfigError::Open { flag, address, hint });
    if is_wide(&listen) && !browsers.ask() && !browsers.anybody {
        return open("listen", listen, "--ui-token-file FILE, a loopback address, or --ui-no-auth");
    }
    for address in report_listen {
        if let ReportAddress::Tcp(address) = address
            && is_wide(address)
            && !rules.ask()
            && !args.report_no_auth
        {
            let hint = "--report-token-file FILE, --report-client-ca FILE, --report-token-review, a loopback address, or \
                        --report-no-auth";
            return open("report-listen", *address, hint);
        }
    }
    if let Some(ReportAddress::Tcp(address)) = hubble_listen
        && is_wide(address)
        && args.hubble_client_ca.is_none()
        && !args.hubble_no_auth
    {
        let hint = "--hubble-client-ca FILE with --hubble-tls-cert and --hubble-tls-key, a loopback address, or --hubble-no-auth";
        return open("hubble-listen", *address, hint);
    }
    Ok(Security {
        report_tls: tls(args.report_tls_cert, args.report_tls_key, args.report_client_ca, &["h2", "http/1.1"]),
        reports: rules,
        hubble_tls: tls(args.hubble_tls_cert, args.hubble_tls_key, args.hubble_client_ca, &["h2"]),
        ui_tls: tls(args.ui_tls_cert, args.ui_tls_key, None, &["http/1.1"]),
        browsers,
    })
}

impl Security {
    /// What somebody should know who reads the log.
    pub fn say(&self, listen: SocketAddr, report_listen: &[ReportAddress], hubble_listen: Option<&ReportAddress>) {
        if !self.browsers.ask() && self.browsers.anybody {
            tracing::warn!(address = %listen, "page and API ask for no credentials (--ui-no-auth)");
        } else if !self.browsers.ask() {
            tracing::info!(address = %listen, "page and API ask for no credentials, and listen on the loopback only");
        }
        if self.browsers.token_file.is_some() && self.ui_tls.is_none() && is_wide(&listen) {
            tracing::warn!(address = %listen, "logins travel in clear text; hint: --ui-tls-cert, or a proxy with TLS before it");
        }
        let certified = self.hubble_tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        if let Some(ReportAddress::Tcp(address)) = hubble_listen
            && is_wide(address)
            && !certified
        {
            tracing::warn!(%address, "anybody who reaches the port sees all flows (--hubble-no-auth)");
        }
        for address in report_listen {
            let ReportAddress::Tcp(address) = address else { continue };
            if !self.reports.ask() && is_wide(address) {
                tracing::warn!(%address, "anybody who reaches the port may report (--report-no-auth)");
            } else if self.reports.ask() && self.report_tls.is_none() && is_wide(address) {
                tracing::warn!(%address, "agents' tokens travel in clear text; hint: --report-tls-cert");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::config::{Args, Config, ConfigError};

    fn check(args: &[&str]) -> Result<Config, ConfigError> {
        let words = std::iter::once("orrery-collector").chain(args.iter().copied());
        Config::try_from(Args::try_parse_from(words).expect("clap takes it"))
    }

    #[test]
    fn a_port_is_open_to_others_only_when_told_who_may_ask() {
        for (open, guarded) in [
            (&["--listen", "0.0.0.0:7380"][..], &["--ui-no-auth"][..]),
            (&["--listen", "0.0.0.0:7380"], &["--ui-token-file", "t"]),
            (&["--listen", "[::]:7380"], &["--ui-trusted-header", "X-User", "--ui-trusted-proxy", "10.0.0.0/8,::1"]),
            (&["--report-listen", "[::]:7381"], &["--report-no-auth"]),
            (&["--report-listen", "unix:/a,10.0.0.1:7381"], &["--report-token-file", "t"]),
            (
                &["--report-listen", "10.0.0.1:7381"],
                &["--report-tls-cert", "c", "--report-tls-key", "k", "--report-client-ca", "a"],
            ),
            (
                &["--report-listen", "10.0.0.1:7381"],
                &["--report-token-review", "--report-service-account", "orrery/agent"],
            ),
            (&["--hubble-listen", "0.0.0.0:4245"], &["--hubble-no-auth"]),
            (
                &["--hubble-listen", "[::]:4245"],
                &["--hubble-tls-cert", "c", "--hubble-tls-key", "k", "--hubble-client-ca", "a"],
            ),
        ] {
            let error = check(open).expect_err("refused").to_string();
            assert!(error.contains("hint: ") && error.contains(open[0]), "{error}");
            // Encryption alone says nothing about who asks.
            for tls in
                ["report", "ui", "hubble"].map(|port| [format!("--{port}-tls-cert=c"), format!("--{port}-tls-key=k")])
            {
                check(&[open, &[tls[0].as_str(), &tls[1]]].concat()).expect_err("refused");
            }
            let config = check(&[open, guarded].concat()).expect("valid");
            assert!(!format!("{config:?}").is_empty());
        }
        for loopback in ["127.0.0.2:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            check(&["--listen", loopback, "--report-listen", loopback, "--hubble-listen", loopback]).expect("valid");
        }
        for wrong in [
            &["--ui-trusted-header", "a b", "--ui-trusted-proxy", "10.0.0.0/8"][..],
            &["--ui-trusted-header", "X-User", "--ui-trusted-proxy", "10.0.0.0/64"],
            &["--report-token-review", "--report-service-account", "agent"],
        ] {
            assert!(check(wrong).expect_err("refused").to_string().contains("hint: "));
        }
    }
}
