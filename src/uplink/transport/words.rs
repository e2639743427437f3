//! The words of a [`CloseReason`]: what happened, where, and what a person should do, on one line.

use std::fmt;
use std::time::Duration;

use super::codes::{connack_name, disconnect_name};
use super::{CloseKind, CloseReason, TlsFailure};

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, todo) = self.kind.words();
        let (before, after) = match what.split_once("{at}") {
            Some((before, after)) => (before.to_owned(), after.to_owned()),
            None => (format!("{what}: "), String::new()),
        };
        write!(f, "{before}{}{after}", self.address)?;
        match todo.is_empty() {
            true => Ok(()),
            false => write!(f, "; {todo}"),
        }
    }
}

impl CloseKind {
    /// What happened, with `{at}` where the address belongs, and what to do about it (may be empty).
    fn words(&self) -> (String, String) {
        let (what, todo) = match self {
            Self::Dns(why) => {
                (format!("cannot resolve {{at}} ({why})"), "check the host name in the URL and the DNS of this host")
            }
            Self::TcpRefused => (
                "connection refused by {at}".into(),
                "nothing listens there: check host and port, and that the broker runs",
            ),
            Self::TcpFailed(why) => {
                (format!("cannot reach {{at}} ({why})"), "check network, routes and firewalls in between")
            }
            Self::ConnectTimeout { after, dns: true } => {
                (format!("no DNS answer for {{at}} within {after:?}"), "check the name servers of this host")
            }
            Self::ConnectTimeout { after, dns: false } => (
                format!("{{at}} did not complete TCP, TLS and CONNACK within {after:?}"),
                "check firewalls, the port, and whether the broker is overloaded",
            ),
            Self::Tls(failure) => return failure.words(),
            Self::ClosedBeforeConnack { tls: true } => (
                "{at} closed the connection after TLS and before CONNACK".into(),
                "most likely it refuses the client certificate or does not speak MQTT 5: see the broker's log",
            ),
            Self::ClosedBeforeConnack { tls: false } => (
                "{at} closed the connection before CONNACK".into(),
                "it may want TLS (mqtts://) or not speak MQTT 5: see the broker's log",
            ),
            Self::ConnectRefused { code } => return connack_words(*code),
            Self::Unsuitable(why) => (format!("{{at}} {why}"), "use another broker or change its configuration"),
            Self::Disconnected { code, reason } => return disconnect_words(*code, reason.as_deref()),
            Self::HungUp => (
                "{at} closed the connection".into(),
                "reconnecting; if this repeats, another client uses the same client id or the broker's log tells why",
            ),
            Self::Lost(why) => (format!("connection to {{at}} lost ({why})"), ""),
            Self::Silence(d) => {
                (format!("{{at}} has been silent for {}", whole(*d)), "the network or the broker is gone; reconnecting")
            }
            Self::NoAck(d) => (
                format!("{{at}} answers but has not acknowledged a publish for {}", whole(*d)),
                "the broker is stuck or overloaded; reconnecting",
            ),
            Self::AckOutOfOrder(d) => (
                format!("{{at}} acknowledges out of order and left a packet id taken for {}", whole(*d)),
                "reconnecting; a larger Receive Maximum at the broker avoids it",
            ),
            Self::NoSuback(d) => {
                (format!("{{at}} has not answered a SUBSCRIBE for {}", whole(*d)), "see the broker's log; reconnecting")
            }
            Self::UnsolicitedAck(id) => (
                format!("{{at}} acknowledged packet id {id}, which was not in flight"),
                "a fault of the broker; nothing was settled by it; reconnecting",
            ),
            Self::IncomingTooLarge { size, max } => (
                format!("{{at}} sent a packet of {size} bytes although we announced {max} at most"),
                "lower the broker's message size limit or raise max_incoming_packet",
            ),
            Self::Protocol(why) => {
                (format!("{{at}} broke the MQTT 5 protocol: {why}"), "is this an MQTT 5 broker? see its log")
            }
            Self::Stopped => ("disconnected from {at}".into(), ""),
        };
        (what, todo.into())
    }
}

impl TlsFailure {
    fn words(&self) -> (String, String) {
        let (what, todo) = match self {
            Self::UnknownIssuer => (
                "TLS: the certificate of {at} is signed by an unknown authority (not by the configured CA)".into(),
                "set the CA file that issued the broker's certificate; a CA made anew has the old one's name, not its key",
            ),
            Self::Expired { not_after, now } => (
                format!("TLS: the certificate of {{at}} expired{}{}", on(" on ", not_after), on(", it is now ", now)),
                "renew the broker's certificate, or check the clock of this host",
            ),
            Self::NotYetValid { not_before, now } => (
                format!(
                    "TLS: the certificate of {{at}} is not valid{}{}",
                    on(" before ", not_before),
                    on(", it is now ", now)
                ),
                "check the clock of this host",
            ),
            Self::WrongName { presented } => (
                format!("TLS: the certificate of {{at}} is for another name ({})", list(presented)),
                "use that name in the URL, or have the certificate issued for this one",
            ),
            Self::BadServerCertificate(why) => {
                (format!("TLS: the certificate of {{at}} is refused ({why})"), "have the broker's certificate reissued")
            }
            Self::ClientCertificateMissing => (
                "TLS: {at} requires a client certificate and none was sent".into(),
                "set the certificate and key files of this host",
            ),
            Self::ClientCertificateRefused(alert) => (
                format!("TLS: {{at}} refused this host's client certificate ({alert})"),
                "check that its CA is trusted by the broker, that it has neither expired nor been revoked",
            ),
            Self::Handshake(why) => (
                format!("TLS handshake with {{at}} failed ({why})"),
                "is this port a TLS port (8883)? TLS 1.2 or newer?",
            ),
        };
        (what, todo.into())
    }
}

fn connack_words(code: u8) -> (String, String) {
    let todo = match code {
        0x01 | 0x84 => "the broker must speak MQTT 5",
        0x85 => "the broker does not allow this client id: is it the host id that its ACL expects?",
        0x86 => "check the user name and the password file",
        0x87 => "the broker does not allow this user or certificate: check its ACL",
        0x8a => "the broker has banned this client: see its log",
        0x88 | 0x89 | 0x97 | 0x9f => "the broker is busy; trying again later",
        0x9c | 0x9d => "the broker has moved: change the URL",
        0x9a => {
            "it keeps no retained messages, so the next attempt asks for none; allow them at the broker (mosquitto: \
             retain_available true), or whoever subscribes later does not see at once who is there"
        }
        0x95 => "the broker refuses a CONNECT of this size; the will may be too large",
        _ => "see the broker's log",
    };
    (format!("{{at}} refused the connection: {code:#04x} {}", connack_name(code)), todo.into())
}

fn disconnect_words(code: u8, reason: Option<&str>) -> (String, String) {
    let todo = match code {
        0x8e => "another client uses the same client id: a cloned host, or a second agent?",
        0x8b => "the broker is stopping; trying again later",
        0x87 => "check the broker's ACL",
        0x89 | 0x96 | 0x97 => "the broker is busy or a quota is used up; slowing down",
        0x95 => "a packet was larger than the broker allows",
        0x8d => "our pings did not arrive in time: check the network",
        0x9c | 0x9d => "the broker has moved: change the URL",
        _ => "see the broker's log",
    };
    let reason = reason.map(|r| format!(" ({r})")).unwrap_or_default();
    (format!("{{at}} closed the connection: {code:#04x} {}{reason}", disconnect_name(code)), todo.into())
}

fn on(word: &str, date: &Option<String>) -> String {
    date.as_ref().map(|d| format!("{word}{d}")).unwrap_or_default()
}

fn list(names: &[String]) -> String {
    match names {
        [] => "it names none".into(),
        names => names.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", "),
    }
}

fn whole(d: Duration) -> String {
    format!("{} s", d.as_secs())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_code_that_says_what_to_do_is_more_than_a_look_at_the_log() {
        for code in [0x01, 0x84, 0x85, 0x86, 0x87, 0x8a, 0x88, 0x89, 0x97, 0x9f, 0x9c, 0x9d, 0x9a, 0x95] {
            let (what, todo) = connack_words(code);
            assert!(what.contains(connack_name(code)) && todo != connack_words(0x83).1, "{code:#04x}: {what}, {todo}");
        }
        for code in [0x8e, 0x8b, 0x87, 0x89, 0x96, 0x97, 0x95, 0x8d, 0x9c, 0x9d] {
            let (what, todo) = disconnect_words(code, Some("by hand"));
            assert!(what.contains(disconnect_name(code)) && what.ends_with("(by hand)"), "{what}");
            assert_ne!(todo, disconnect_words(0x98, None).1, "{code:#04x}");
        }
    }

    #[test]
    fn names_are_listed_up_to_five() {
        let names: Vec<String> = (1..=7).map(|n| format!("n{n}")).collect();
        assert_eq!((list(&names), list(&[])), ("n1, n2, n3, n4, n5".to_owned(), "it names none".to_owned()));
    }

    #[test]
    fn every_reason_says_where_once_and_on_one_line() {
        use CloseKind as K;
        let d = Duration::from_secs(95);
        let text = || "why".to_owned();
        let tls = [
            TlsFailure::UnknownIssuer,
            TlsFailure::Expired { not_after: Some(text()), now: None },
            TlsFailure::NotYetValid { not_before: None, now: Some(text()) },
            TlsFailure::WrongName { presented: vec![] },
            TlsFailure::BadServerCertificate(text()),
            TlsFailure::ClientCertificateMissing,
            TlsFailure::ClientCertificateRefused(text()),
            TlsFailure::Handshake(text()),
        ];
        let mut kinds = vec![
            K::Dns(text()),
            K::TcpRefused,
            K::TcpFailed(text()),
            K::ConnectTimeout { after: d, dns: true },
            K::ConnectTimeout { after: d, dns: false },
            K::ClosedBeforeConnack { tls: true },
            K::ClosedBeforeConnack { tls: false },
            K::Unsuitable("accepts only QoS 0"),
            K::HungUp,
            K::Lost(text()),
            K::Silence(d),
            K::NoAck(d),
            K::AckOutOfOrder(d),
            K::NoSuback(d),
            K::UnsolicitedAck(7),
            K::IncomingTooLarge { size: 2, max: 1 },
            K::Protocol(text()),
            K::Stopped,
        ];
        kinds.extend(tls.map(K::Tls));
        kinds.extend((0..=255).map(|code| K::ConnectRefused { code }));
        kinds.extend((0..=255).map(|code| K::Disconnected { code, reason: Some(text()) }));
        let address: Arc<str> = "[2001:db8::1]:8883".into();
        for kind in kinds {
            let shown = kind.clone().at(&address).to_string();
            assert_eq!(shown.matches(&*address).count(), 1, "{shown}");
            assert!(!shown.contains("{at}") && !shown.contains('\n'), "{shown}");
            let silent = matches!(kind, K::Lost(_) | K::Stopped);
            assert_eq!(shown.contains("; "), !silent, "it says what to do: {shown}");
        }
    }
}
