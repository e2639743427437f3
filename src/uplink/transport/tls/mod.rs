//! TLS for one connection: roots, client identity, verification time. Read anew for every connect, so a renewed
//! certificate needs no restart.
//!
//! Owns the checks that can be made before a socket is opened; each error names its file. The provider is ring,
//! given explicitly: the process default is neither used nor set. Verification can be neither skipped nor weakened.

mod inspect;
mod time;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::platform::files;
pub(super) use inspect::date;
#[cfg(feature = "demo")]
pub(crate) use inspect::inspect;
pub use inspect::{CertificateInfo, inspect_file};
pub use time::{RELEASED_S, VerificationTime};

/// No certificate or key file is this long; guards against a path that names a disk.
const MAX_FILE: u64 = 1 << 20;

/// Where trust and identity come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub roots: Roots,
    /// Certificate chain (leaf first) and its private key, PEM.
    pub identity: Option<IdentityFiles>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// The operating system's store (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured).
    System,
    /// A PEM file with one or more CA certificates, and nothing else is trusted.
    File(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    pub certificate: PathBuf,
    /// PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: PathBuf,
}

/// A usable configuration and what a person should know about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Arc<ClientConfig>,
    /// Of the client certificate: its CN is the host id, its `not_after` belongs in `status`.
    pub identity: Option<CertificateInfo>,
    pub warnings: Vec<TlsWarning>,
}

/// It works, but somebody should look.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsWarning {
    #[error("key file {path} has mode {mode:04o}; others may read it: chmod 0600 (or 0640 for a service group)")]
    LooseKey { path: PathBuf, mode: u32 },
    #[error(
        "certificate {path} is valid only from {not_before} and it is {now} here; the broker will decide, but check \
         the clock"
    )]
    NotYetValid { path: PathBuf, not_before: String, now: String },
    #[error("{count} certificates of the system store cannot be read (first: {first}); the others are used")]
    SystemRoots { count: usize, first: String },
    #[error("{count} certificates in {path} cannot be used as CA and are ignored")]
    IgnoredRoots { path: PathBuf, count: usize },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {what} {path}: {why}; check the path and that the service user may read it")]
    Unreadable { what: &'static str, path: PathBuf, why: String },
    #[error("{what} {path} is empty; write the PEM file again")]
    Empty { what: &'static str, path: PathBuf },
    #[error("{what} {path} is not PEM: {why}; it must hold a block '{block}' (convert DER with openssl)")]
    NotPem { what: &'static str, path: PathBuf, why: String, block: &'static str },
    #[error("{what} {path} holds no certificate that can be parsed: {why}")]
    BadCertificate { what: &'static str, path: PathBuf, why: String },
    #[error("key file {path} holds an encrypted key; decrypt it (openssl pkey) and restrict the file to 0600")]
    EncryptedKey { path: PathBuf },
    #[error("key file {path} holds a key that cannot be used: {why}; use RSA (2048 or more), P-256, P-384 or Ed25519")]
    BadKey { path: PathBuf, why: String },
    #[error("key {key} does not belong to certificate {certificate}; install the pair that was issued together")]
    Mismatch { certificate: PathBuf, key: PathBuf },
    #[error("certificate {path} expired on {not_after} (it is {now} here); renew it, or check the clock")]
    Expired { path: PathBuf, not_after: String, now: String },
    #[error("CA file {path} holds no usable CA certificate")]
    NoRoots { path: PathBuf },
    #[error("the system has no CA certificates ({why}); install ca-certificates or set a CA file")]
    NoSystemRoots { why: String },
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// Reads and checks everything. `time` judges certificates now and, with the running clock, during the handshake.
pub fn load(files: &TlsFiles, time: VerificationTime) -> Result<Loaded, TlsError> {
    let mut warnings = Vec::new();
    let roots = match &files.roots {
        Roots::System => system_roots(&mut warnings)?,
        Roots::File(path) => file_roots(path, &mut warnings)?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_details(provider, Arc::new(time))
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError::Setup(e.to_string()))?
        .with_root_certificates(roots);
    let (config, identity) = match &files.identity {
        None => (builder.with_no_client_auth(), None),
        Some(pair) => {
            let (chain, info) = client_chain(&pair.certificate, time, &mut warnings)?;
            let key = private_key(&pair.key, &mut warnings)?;
            let config = builder.with_client_auth_cert(chain, key).map_err(|e| key_error(e, pair))?;
            (config, Some(info))
        }
    };
    Ok(Loaded { config: Arc::new(config), identity, warnings })
}

fn key_error(error: rustls::Error, pair: &IdentityFiles) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::Mismatch { certificate: pair.certificate.clone(), key: pair.key.clone() }
        }
        other => TlsError::BadKey { path: pair.key.clone(), why: other.to_string() },
    }
}

fn system_roots(warnings: &mut Vec<TlsWarning>) -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    let first = found.errors.first().map(ToString::to_string);
    match (store.is_empty(), first) {
        (true, first) => {
            Err(TlsError::NoSystemRoots { why: first.unwrap_or_else(|| "no certificate store was found".into()) })
        }
        (false, Some(first)) => {
            warnings.push(TlsWarning::SystemRoots { count: found.errors.len(), first });
            Ok(store)
        }
        (false, None) => Ok(store),
    }
}

fn file_roots(path: &Path, warnings: &mut Vec<TlsWarning>) -> Result<RootCertStore, TlsError> {
    let certificates = certificates("CA file", path)?;
    let mut store = RootCertStore::empty();
    let (_, ignored) = store.add_parsable_certificates(certificates);
    if store.is_empty() {
        return Err(TlsError::NoRoots { path: path.into() });
    }
    if ignored > 0 {
        warnings.push(TlsWarning::IgnoredRoots { path: path.into(), count: ignored });
    }
    Ok(store)
}

fn client_chain(
    path: &Path,
    time: VerificationTime,
    warnings: &mut Vec<TlsWarning>,
) -> Result<(Vec<CertificateDer<'static>>, CertificateInfo), TlsError> {
    let chain = certificates("certificate", path)?;
    let info = inspect::inspect(&chain[0], path)?;
    let now = time.now_s();
    if now > info.not_after {
        let (not_after, now) = (inspect::date(info.not_after), inspect::date(now));
        return Err(TlsError::Expired { path: path.into(), not_after, now });
    }
    // Not an error: on a board whose clock is behind, the broker's clock is the better judge.
    if now < info.not_before {
        let (not_before, now) = (inspect::date(info.not_before), inspect::date(now));
        warnings.push(TlsWarning::NotYetValid { path: path.into(), not_before, now });
    }
    Ok((chain, info))
}

/// At least one certificate, in file order.
fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let (bytes, _) = read(what, path)?;
    let not_pem = |why: String| TlsError::NotPem { what, path: path.into(), why, block: "BEGIN CERTIFICATE" };
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(|e| not_pem(e.to_string()))?;
    match found.is_empty() {
        true => Err(not_pem("no such block in it".into())),
        false => Ok(found),
    }
}

fn private_key(path: &Path, warnings: &mut Vec<TlsWarning>) -> Result<PrivateKeyDer<'static>, TlsError> {
    let (bytes, mode) = read("key file", path)?;
    if let Some(mode) = mode.filter(|mode| mode & 0o137 != 0) {
        warnings.push(TlsWarning::LooseKey { path: path.into(), mode });
    }
    let encrypted = |text: &[u8]| {
        let text = String::from_utf8_lossy(text);
        text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
    };
    if encrypted(&bytes) {
        return Err(TlsError::EncryptedKey { path: path.into() });
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|e| {
        let why = match e {
            pem::Error::NoItemsFound => "no private key in it".into(),
            other => other.to_string(),
        };
        TlsError::NotPem { what: "key file", path: path.into(), why, block: "BEGIN PRIVATE KEY" }
    })
}

/// Content (at most [`MAX_FILE`] bytes) and permission bits, where there are any.
fn read(what: &'static str, path: &Path) -> Result<(Vec<u8>, Option<u32>), TlsError> {
    let unreadable = |why: String| TlsError::Unreadable { what, path: path.into(), why };
    // Before opening: opening a FIFO would wait for its writer.
    let meta = std::fs::metadata(path).map_err(|e| unreadable(e.to_string()))?;
    if !meta.is_file() {
        return Err(unreadable("it is not a regular file".into()));
    }
    let file = std::fs::File::open(path).map_err(|e| unreadable(e.to_string()))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|e| unreadable(e.to_string()))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(unreadable(format!("it is larger than {MAX_FILE} bytes")));
    }
    match bytes.iter().all(u8::is_ascii_whitespace) {
        true => Err(TlsError::Empty { what, path: path.into() }),
        false => Ok((bytes, files::mode(&meta))),
    }
}

#[cfg(test)]
mod tests;
