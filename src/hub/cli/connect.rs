//! How to reach a broker: the flags and the environment that every subscribing command shares.
//!
//! Opens nothing but the password file.

use std::fmt::Display;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::{EXIT_CONFIG, EXIT_REFUSED, EXIT_UNAVAILABLE, EXIT_USAGE};
use crate::hub::link::{LinkError, LinkOptions};
use crate::uplink::transport::tls::{IdentityFiles, Roots, TlsFiles};
use crate::uplink::transport::{BrokerUrl, Credentials};
use crate::wire::HubTopics;

const MAX_PASSWORD_FILE: u64 = 4096;

#[derive(Debug, Args)]
pub struct ConnectArgs {
    /// The broker, mqtts://host[:port]; the port is 8883 unless given
    #[arg(long, value_name = "URL", help_heading = "Connection")]
    broker: Option<String>,
    /// CA certificates that the broker's is checked against (PEM); the system's if not given
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    ca: Option<PathBuf>,
    /// Client certificate, chain included (PEM)
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    cert: Option<PathBuf>,
    /// Private key of the client certificate (PEM)
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    key: Option<PathBuf>,
    /// User name, where the broker wants one
    #[arg(long, value_name = "NAME", help_heading = "Connection")]
    username: Option<String>,
    /// File with the password: never on the command line, where others can read it
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    password_file: Option<PathBuf>,
    /// Topic levels in front of v1/, as the hosts are configured
    #[arg(long, value_name = "LEVELS", help_heading = "Connection")]
    prefix: Option<String>,
    /// Allow mqtt:// (clear text) to a loopback address
    #[arg(long, help_heading = "Connection")]
    allow_clear_text: bool,
}

/// The command line asks for something that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    #[error("no broker given; use --broker mqtts://host or set HOLDOVER_HUB_BROKER")]
    NoBroker,
    #[error("{flag} is needed; give it or set HOLDOVER_HUB_{var}")]
    Needed { flag: &'static str, var: &'static str },
    #[error("{flag} needs {other} as well")]
    Alone { flag: &'static str, other: &'static str },
    #[error("{flag}: {why}")]
    Value { flag: &'static str, why: String },
    #[error("cannot use password file {path}: {why}")]
    Password { path: PathBuf, why: String },
}

impl ArgsError {
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Password { .. } => EXIT_CONFIG,
            _ => EXIT_USAGE,
        }
    }
}

impl ConnectArgs {
    /// Fills what flags left open from the environment, which is `env` in tests.
    pub fn with_env(mut self, env: impl Fn(&str) -> Option<String>) -> Self {
        let var = |name: &str| env(&format!("HOLDOVER_HUB_{name}")).filter(|v| !v.is_empty());
        let path = |name: &str| var(name).map(PathBuf::from);
        self.broker = self.broker.or_else(|| var("BROKER"));
        self.ca = self.ca.or_else(|| path("CA"));
        self.cert = self.cert.or_else(|| path("CERT"));
        self.key = self.key.or_else(|| path("KEY"));
        self.username = self.username.or_else(|| var("USERNAME"));
        self.password_file = self.password_file.or_else(|| path("PASSWORD_FILE"));
        self.prefix = self.prefix.or_else(|| var("PREFIX"));
        self
    }

    pub fn prefix(&self) -> String {
        self.prefix.clone().unwrap_or_default()
    }

    pub fn topics(&self) -> Result<HubTopics, ArgsError> {
        HubTopics::new(&self.prefix()).map_err(|e| value("--prefix", e))
    }

    /// What a subscriber that only looks needs; it subscribes to nothing yet.
    pub fn link(&self, client_id: String) -> Result<LinkOptions, ArgsError> {
        let broker = self.broker.as_deref().ok_or(ArgsError::NoBroker)?;
        let url = BrokerUrl::parse(broker, self.allow_clear_text).map_err(|e| value("--broker", e))?;
        Ok(LinkOptions { credentials: self.credentials()?, ..LinkOptions::looking(url, self.tls()?, client_id) })
    }

    fn tls(&self) -> Result<TlsFiles, ArgsError> {
        let identity = match (&self.cert, &self.key) {
            (Some(certificate), Some(key)) => {
                Some(IdentityFiles { certificate: certificate.clone(), key: key.clone() })
            }
            (None, None) => None,
            (Some(_), None) => return Err(ArgsError::Alone { flag: "--cert", other: "--key" }),
            (None, Some(_)) => return Err(ArgsError::Alone { flag: "--key", other: "--cert" }),
        };
        Ok(TlsFiles { roots: self.ca.clone().map_or(Roots::System, Roots::File), identity })
    }

    fn credentials(&self) -> Result<Option<Credentials>, ArgsError> {
        match (&self.username, &self.password_file) {
            (None, None) => Ok(None),
            (Some(username), Some(path)) => {
                Ok(Some(Credentials { username: username.clone(), password: password(path)? }))
            }
            (Some(_), None) => Err(ArgsError::Alone { flag: "--username", other: "--password-file" }),
            (None, Some(_)) => Err(ArgsError::Alone { flag: "--password-file", other: "--username" }),
        }
    }
}

impl LinkError {
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Unavailable(_) => EXIT_UNAVAILABLE,
            Self::Refused(_) => EXIT_REFUSED,
            Self::Config(_) => EXIT_CONFIG,
        }
    }
}

pub(super) fn value(flag: &'static str, why: impl Display) -> ArgsError {
    ArgsError::Value { flag, why: why.to_string() }
}

/// The first line of the file.
pub(super) fn password(path: &Path) -> Result<String, ArgsError> {
    let bad = |why: String| ArgsError::Password { path: path.to_owned(), why };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|e| bad(e.to_string()))?;
    file.take(MAX_PASSWORD_FILE + 1).read_to_string(&mut text).map_err(|e| bad(e.to_string()))?;
    if text.len() as u64 > MAX_PASSWORD_FILE {
        return Err(bad(format!("it is longer than {MAX_PASSWORD_FILE} bytes")));
    }
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(bad("its first line is empty".to_owned())),
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let hint = "write it as 30s, 10m or 1h30m";
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| format!("not a duration; {hint}"))?;
    match Duration::try_from(parsed) {
        Ok(positive) if !positive.is_zero() && positive <= Duration::from_secs(10 * 366 * 86_400) => Ok(positive),
        Ok(_) => Err("must be above zero and at most ten years".to_owned()),
        Err(_) => Err(format!("must not be negative; {hint}")),
    }
}
