//! What a certificate says about itself: name and validity. Trust is decided elsewhere (rustls).

use std::path::Path;

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::TlsError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// The subject's common name, if it has one: the host id.
    pub common_name: Option<String>,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
}

/// The first certificate of a PEM file.
pub fn inspect_file(path: &Path) -> Result<CertificateInfo, TlsError> {
    inspect(&super::certificates("certificate", path)?[0], path)
}

pub(super) fn inspect(certificate: &CertificateDer<'_>, path: &Path) -> Result<CertificateInfo, TlsError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|e| TlsError::BadCertificate {
        what: "certificate",
        path: path.into(),
        why: e.to_string(),
    })?;
    let common_name = parsed.subject().iter_common_name().find_map(|cn| cn.as_str().ok()).map(str::to_owned);
    Ok(CertificateInfo {
        common_name,
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
    })
}

/// A second as `2026-11-23 14:55:00Z`.
pub(in crate::uplink::transport) fn date(unix_s: i64) -> String {
    match jiff::Timestamp::from_second(unix_s) {
        Ok(t) => t.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        Err(_) => format!("second {unix_s}"),
    }
}
