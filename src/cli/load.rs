//! What every command does first: read the configuration, and judge what only the running host can judge.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::args::ConfigArg;
use super::exit::{Exit, Failure};
use crate::agent::{self, Loaded, Refused};
use crate::clock;
use crate::collect::HostRoot;
use crate::config::{Checked, Config, Rejected, Severity, Sources, Surroundings};
use crate::platform::{files, local};
use crate::uplink::transport::tls::{self, VerificationTime};

/// The checked configuration; refusals end the process with exit code 78.
pub fn config(args: &ConfigArg) -> Result<Checked, Failure> {
    read(&args.config, false).map_err(|rejected| Failure::config(rejected.to_string()))
}

/// The same for what runs programs that it names, or tells what an agent of this user would do.
pub fn guarded(args: &ConfigArg) -> Result<Checked, Failure> {
    read(&args.config, local::is_root()).map_err(|rejected| Failure::config(rejected.to_string()))
}

/// Where the outbox is, for asking an agent that runs: one goes on when its file is spoilt under it.
pub fn outbox_dir(args: &ConfigArg) -> Result<(PathBuf, Option<Failure>), Failure> {
    match read(&args.config, false) {
        Ok(checked) => Ok((checked.config.outbox.dir, None)),
        Err(rejected) => {
            let failure = Failure::config(rejected.to_string());
            match rejected.outbox_dir {
                Some(dir) => Ok((dir, Some(failure))),
                None => Err(failure),
            }
        }
    }
}

/// The same for an agent, which reads it again and again.
pub fn again(file: &Path) -> Result<Loaded, Refused> {
    Loaded::read(|| read(file, local::is_root()), hash)
}

fn read(file: &Path, guarded: bool) -> Result<Checked, Rejected> {
    let env: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let around = Surroundings { env: &env, now: clock::now(), file_system_bytes, guarded };
    let sources = Sources { file: Some(file.to_owned()), conf_d: None };
    Config::load(&sources, &around)
}

/// What is doubtful about it, and what was left out.
pub fn log(checked: &Checked) {
    for problem in &checked.warnings {
        match problem.severity {
            Severity::Warning => tracing::warn!("{problem}"),
            Severity::LeftOut | Severity::Error => tracing::error!("{problem}"),
        }
    }
}

/// The host to measure.
pub fn root(config: &Config) -> HostRoot {
    HostRoot::new(&config.host.root)
}

/// Reads the certificates as a connection would. Refused are files that can never work; what may be mended while
/// the agent runs is refused here too, once, because a person is looking. A clock that may be wrong refuses nothing.
pub fn check_certificates(checked: &Checked) -> Result<Vec<String>, Failure> {
    if checked.config.broker.urls.iter().all(|url| !url.tls()) {
        return Ok(Vec::new());
    }
    match tls::load(&agent::tls_files(&checked.config), VerificationTime::new(None)) {
        Ok(loaded) => Ok(loaded.warnings.iter().map(ToString::to_string).collect()),
        Err(error @ tls::TlsError::Expired { .. }) if clock_may_be_wrong(checked) => Ok(vec![format!(
            "{error}: this clock is not known to be right, so the agent starts and collects, and connects once \
             certificate and clock agree"
        )]),
        Err(error) => {
            let key = match &error {
                tls::TlsError::Expired { .. } | tls::TlsError::Mismatch { .. } => "broker.cert",
                tls::TlsError::BadKey { .. } | tls::TlsError::EncryptedKey { .. } => "broker.key",
                tls::TlsError::NoRoots { .. } | tls::TlsError::NoSystemRoots { .. } => "broker.ca",
                tls::TlsError::Unreadable { path, .. }
                | tls::TlsError::Empty { path, .. }
                | tls::TlsError::NotPem { path, .. }
                | tls::TlsError::BadCertificate { path, .. } => key_of(checked, path),
                tls::TlsError::Setup(_) => "broker",
            };
            let problem = checked.refuse(key, error, "the agent would never connect; nothing was started");
            Err(Failure::new(Exit::Config, problem.to_string()))
        }
    }
}

/// Nobody vouches for the clock, and by the only time that is sure, the release date, the certificate is still good.
fn clock_may_be_wrong(checked: &Checked) -> bool {
    let ends = checked.config.broker.cert.as_deref().and_then(|path| tls::inspect_file(path).ok());
    !clock::synced() && ends.is_some_and(|info| info.not_after >= tls::RELEASED_S)
}

fn key_of(checked: &Checked, path: &Path) -> &'static str {
    let broker = &checked.config.broker;
    if broker.cert.as_deref() == Some(path) {
        "broker.cert"
    } else if broker.key.as_deref() == Some(path) {
        "broker.key"
    } else {
        "broker.ca"
    }
}

/// Hex digest of the effective configuration, for `meta`: two hosts with the same one are configured alike.
fn hash(checked: &Checked) -> String {
    // Where a value was written and who the host is make no difference.
    let values = checked.settings.iter().filter(|setting| setting.path != "host.id" && !setting.shown.is_empty());
    let lines: BTreeSet<String> = values.map(|setting| format!("{}={}\n", setting.path, setting.shown)).collect();
    let text = lines.into_iter().collect::<String>();
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().take(8).fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a String does not fail");
        hex
    })
}

/// Differs between hosts and starts.
pub fn random_seed() -> u64 {
    use ring::rand::SecureRandom;
    let mut bytes = [0; 8];
    match ring::rand::SystemRandom::new().fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => clock::now().mono.as_nanos() as u64 ^ u64::from(std::process::id()),
    }
}

/// Total bytes of the file system that holds `path`, or its nearest existing parent.
fn file_system_bytes(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find(|p| p.exists())?;
    files::statvfs(existing).ok().map(|stat| stat.bytes())
}
