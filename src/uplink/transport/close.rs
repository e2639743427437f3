//! Why a connection ended or never came to be.
//!
//! Owns the translation from rumqttc, rustls and operating system errors to [`CloseKind`]; the words for people are
//! in `words.rs`. Never decides whether or when to try again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::TlsError;
use rumqttc::v5::mqttbytes::Error as CodecError;
use rumqttc::v5::{ConnectionError, StateError};
use rustls::{AlertDescription, CertificateError};

use super::codes::connack_code;
use super::tls::date;

/// The end of one connection. Displays as "what, where, what to do" on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseReason {
    pub kind: CloseKind,
    /// `host:port`
    pub address: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseKind {
    /// The name did not resolve.
    Dns(String),
    /// Nobody listens on the port.
    TcpRefused,
    /// Any other failure to open the TCP connection.
    TcpFailed(String),
    /// No CONNACK within the time given; `dns` when the name was not even resolved.
    ConnectTimeout {
        after: Duration,
        dns: bool,
    },
    Tls(TlsFailure),
    /// The peer hung up after TLS (or TCP) and before its CONNACK.
    ClosedBeforeConnack {
        tls: bool,
    },
    /// CONNACK with this reason code.
    ConnectRefused {
        code: u8,
    },
    /// The broker cannot take what we send.
    Unsuitable(&'static str),
    /// DISCONNECT from the broker.
    Disconnected {
        code: u8,
        reason: Option<String>,
    },
    /// The peer closed the connection and gave no reason that rumqttc can read. (It does not understand a DISCONNECT
    /// of one byte, the usual form of mosquitto's, so a client id that is used twice shows up here.)
    HungUp,
    /// The connection broke: reset, or an error of the socket.
    Lost(String),
    /// Nothing came from the peer for this long, PINGRESP included.
    Silence(Duration),
    /// The peer answers pings and leaves a publish unacknowledged for this long.
    NoAck(Duration),
    /// Packet ids ran out because acknowledgements came out of order and one did not come.
    AckOutOfOrder(Duration),
    /// SUBACK did not come.
    NoSuback(Duration),
    /// A PUBACK for a packet id that was not in flight.
    UnsolicitedAck(u16),
    /// A packet larger than the limit that we announced.
    IncomingTooLarge {
        size: usize,
        max: usize,
    },
    /// The peer broke MQTT in another way.
    Protocol(String),
    /// We disconnected.
    Stopped,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsFailure {
    /// Not signed by a CA that we trust, whatever the CA is called.
    UnknownIssuer,
    Expired {
        not_after: Option<String>,
        now: Option<String>,
    },
    NotYetValid {
        not_before: Option<String>,
        now: Option<String>,
    },
    WrongName {
        presented: Vec<String>,
    },
    /// Another objection of ours to the broker's certificate.
    BadServerCertificate(String),
    /// The broker wants a client certificate and got none.
    ClientCertificateMissing,
    /// The broker refused ours; the name of its TLS alert.
    ClientCertificateRefused(String),
    /// The other side does not speak TLS, or nothing in common.
    Handshake(String),
}

impl CloseKind {
    pub(super) fn at(self, address: &Arc<str>) -> CloseReason {
        CloseReason { kind: self, address: address.clone() }
    }

    /// From an error before the CONNACK.
    pub(super) fn while_connecting(error: ConnectionError, tls: bool) -> Self {
        match error {
            ConnectionError::Io(e) => connect_io(&e),
            ConnectionError::Timeout(_) => Self::TcpFailed("timed out".into()),
            ConnectionError::Tls(TlsError::Io(e)) => tls_io(&e),
            ConnectionError::Tls(e) => Self::Tls(TlsFailure::Handshake(e.to_string())),
            ConnectionError::ConnectionRefused(code) => Self::ConnectRefused { code: connack_code(code) },
            ConnectionError::NotConnAck(packet) => {
                Self::Protocol(format!("its first packet was not CONNACK but {}", packet_name(&packet)))
            }
            ConnectionError::MqttState(e) => match Self::from_state(e) {
                Self::Lost(_) | Self::HungUp => Self::ClosedBeforeConnack { tls },
                other => other,
            },
            ConnectionError::RequestsDone => Self::Stopped,
        }
    }

    /// From an error after the CONNACK.
    pub(super) fn while_online(error: ConnectionError) -> Self {
        match error {
            ConnectionError::MqttState(e) => Self::from_state(e),
            ConnectionError::Io(e) => socket_io(&e),
            ConnectionError::RequestsDone => Self::Stopped,
            other => Self::Protocol(other.to_string()),
        }
    }

    fn from_state(error: StateError) -> Self {
        match error {
            StateError::Io(e) | StateError::Deserialization(CodecError::Io(e)) => socket_io(&e),
            StateError::ConnectionAborted => Self::HungUp,
            StateError::Unsolicited(id) => Self::UnsolicitedAck(id),
            StateError::ServerDisconnect { reason_code, reason_string } => {
                Self::Disconnected { code: reason_code as u8, reason: reason_string.map(|r| printable(&r)) }
            }
            StateError::Deserialization(CodecError::PayloadSizeLimitExceeded { pkt_size, max }) => {
                Self::IncomingTooLarge { size: pkt_size, max: max as usize }
            }
            // DISCONNECT may be empty, and then means code 0; the codec refuses it with this error.
            StateError::Deserialization(CodecError::PayloadRequired) => {
                Self::Protocol("it sent a packet without content (perhaps an empty DISCONNECT)".into())
            }
            other => Self::Protocol(printable(&other.to_string())),
        }
    }
}

/// `std` reports resolver failures without an operating system code, connect failures with one.
fn connect_io(error: &io::Error) -> CloseKind {
    match (error.raw_os_error(), error.kind()) {
        (_, io::ErrorKind::ConnectionRefused) => CloseKind::TcpRefused,
        (Some(_), _) => CloseKind::TcpFailed(error.to_string()),
        (None, _) => CloseKind::Dns(error.to_string()),
    }
}

fn socket_io(error: &io::Error) -> CloseKind {
    match rustls_error(error) {
        Some(e) => CloseKind::Tls(tls_failure(e)),
        // TLS without close_notify.
        None if error.kind() == io::ErrorKind::UnexpectedEof => CloseKind::HungUp,
        None => CloseKind::Lost(error.to_string()),
    }
}

fn tls_io(error: &io::Error) -> CloseKind {
    match rustls_error(error) {
        Some(e) => CloseKind::Tls(tls_failure(e)),
        None => CloseKind::Tls(TlsFailure::Handshake(error.to_string())),
    }
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

fn tls_failure(error: &rustls::Error) -> TlsFailure {
    match error {
        rustls::Error::InvalidCertificate(e) => certificate_failure(e),
        rustls::Error::AlertReceived(alert) => alert_failure(*alert),
        rustls::Error::InvalidMessage(_) => TlsFailure::Handshake("its answer is not TLS".into()),
        other => TlsFailure::Handshake(printable(&other.to_string())),
    }
}

fn certificate_failure(error: &CertificateError) -> TlsFailure {
    use CertificateError as C;
    let shown = |t: &rustls_pki_types::UnixTime| Some(date(t.as_secs() as i64));
    match error {
        // A CA of the right name and another key: the name is found, the signature does not fit.
        C::UnknownIssuer | C::BadSignature => TlsFailure::UnknownIssuer,
        C::Expired => TlsFailure::Expired { not_after: None, now: None },
        C::ExpiredContext { time, not_after } => TlsFailure::Expired { not_after: shown(not_after), now: shown(time) },
        C::NotValidYet => TlsFailure::NotYetValid { not_before: None, now: None },
        C::NotValidYetContext { time, not_before } => {
            TlsFailure::NotYetValid { not_before: shown(not_before), now: shown(time) }
        }
        C::NotValidForName => TlsFailure::WrongName { presented: Vec::new() },
        C::NotValidForNameContext { presented, .. } => {
            TlsFailure::WrongName { presented: presented.iter().map(|p| bare_name(p)).collect() }
        }
        other => TlsFailure::BadServerCertificate(printable(&other.to_string())),
    }
}

/// The broker's objection. Certificate alerts are about our certificate: we have checked its own already.
fn alert_failure(alert: AlertDescription) -> TlsFailure {
    use AlertDescription as A;
    match alert {
        A::CertificateRequired | A::NoCertificate => TlsFailure::ClientCertificateMissing,
        A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateRevoked
        | A::CertificateExpired
        | A::CertificateUnknown
        | A::UnknownCA
        | A::AccessDenied
        | A::DecryptError => TlsFailure::ClientCertificateRefused(format!("{alert:?}")),
        other => TlsFailure::Handshake(format!("it sent the alert {other:?}")),
    }
}

/// rustls shows a name as `DnsName("broker")`.
fn bare_name(shown: &str) -> String {
    let inside = shown.split_once('"').and_then(|(_, rest)| rest.split_once('"'));
    printable(inside.map_or(shown, |(name, _)| name))
}

fn packet_name(packet: &rumqttc::v5::Incoming) -> &'static str {
    use rumqttc::v5::Incoming as P;
    match packet {
        P::Disconnect(_) => "DISCONNECT",
        P::Publish(_) => "PUBLISH",
        P::PingResp(_) => "PINGRESP",
        P::SubAck(_) => "SUBACK",
        _ => "another packet",
    }
}

/// The peer's words, fit for a log line: no control characters, at most 200 characters.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_broker_says_cannot_forge_a_log_line() {
        let shown = printable(&format!("bye\nlevel=error{}\u{1b}[31m", "x".repeat(300)));
        assert!(shown.starts_with("bye?level=error") && shown.chars().count() == 200, "{shown}");
    }
}
