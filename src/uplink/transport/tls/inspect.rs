//! What a certificate says about itself: name and validity. Trust is decided elsewhere (rustls).

use std::path::Path;

use rustls_pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::asn1::{Any, ObjectIdentifier};
use x509_cert::der::{Decode, Tag, Tagged};
use x509_cert::name::Name;
use x509_cert::time::Time;

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

pub(crate) fn inspect(certificate: &CertificateDer<'_>, path: &Path) -> Result<CertificateInfo, TlsError> {
    let parsed = Certificate::from_der(certificate).map_err(|e| TlsError::BadCertificate {
        what: "certificate",
        path: path.into(),
        why: e.to_string(),
    })?;
    let body = parsed.tbs_certificate;
    Ok(CertificateInfo {
        common_name: common_name(&body.subject),
        not_before: unix_s(&body.validity.not_before),
        not_after: unix_s(&body.validity.not_after),
    })
}

/// `id-at-commonName`.
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// The first one that is text.
fn common_name(subject: &Name) -> Option<String> {
    let attributes = subject.0.iter().flat_map(|set| set.0.iter());
    attributes.filter(|attribute| attribute.oid == COMMON_NAME).find_map(|attribute| text(&attribute.value))
}

/// The string types that are UTF-8 or a part of it.
fn text(value: &Any) -> Option<String> {
    let is_text = matches!(value.tag(), Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString);
    is_text.then(|| str::from_utf8(value.value()).ok().map(str::to_owned)).flatten()
}

fn unix_s(time: &Time) -> i64 {
    i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX)
}

/// A second as `2026-11-23 14:55:00Z`.
pub(in crate::uplink::transport) fn date(unix_s: i64) -> String {
    match jiff::Timestamp::from_second(unix_s) {
        Ok(t) => t.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        Err(_) => format!("second {unix_s}"),
    }
}
