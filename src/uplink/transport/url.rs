//! The broker's address as a checked type.
//!
//! `mqtts://host[:port]`, 8883 by default. Clear text (`mqtt://`) is for loopback and only when the user says so;
//! port 80 is refused. Never holds a secret: user info in a URL is an error.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use rustls_pki_types::ServerName;

/// Where a broker is and whether the way there is encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BrokerUrl {
    tls: bool,
    /// Without the brackets of an IPv6 literal.
    host: String,
    port: u16,
}

/// The URL was refused; `url` is shown without what might be a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("broker URL {0:?} has no scheme; write mqtts://host or mqtts://host:8883")]
    NoScheme(String),
    #[error("broker URL scheme {0:?} is not supported; use mqtts:// (MQTT over TLS)")]
    Scheme(String),
    #[error(
        "broker URL holds a user name or password; remove what stands before '@' and give credentials in files \
         (username, password_file)"
    )]
    UserInfo,
    #[error("broker URL {url:?} has {part:?} after the port; only scheme, host and port are allowed")]
    Trailing { url: String, part: String },
    #[error("broker URL {0:?} has no host; write mqtts://host")]
    NoHost(String),
    #[error("broker host {0:?} is neither a DNS name nor an IP address (IPv6 is written [::1], without a zone)")]
    Host(String),
    #[error("broker port {0:?} is not a number in 1..=65535")]
    Port(String),
    #[error("broker port 80 is refused: it belongs to HTTP; MQTT over TLS is on 8883")]
    Port80,
    #[error("clear text to {0} is refused: mqtt:// is for loopback addresses only; use mqtts://")]
    ClearText(String),
    #[error("clear text is off; to use mqtt:// on loopback set allow_clear_text = true, else use mqtts://")]
    ClearTextNotAllowed,
}

impl BrokerUrl {
    /// `allow_clear_text` is the user's explicit word; without it even loopback must use TLS.
    pub fn parse(url: &str, allow_clear_text: bool) -> Result<Self, UrlError> {
        let url = url.trim();
        if url.contains('@') {
            return Err(UrlError::UserInfo);
        }
        let (scheme, rest) = url.split_once("://").ok_or_else(|| UrlError::NoScheme(url.into()))?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "mqtts" => true,
            "mqtt" => false,
            _ => return Err(UrlError::Scheme(scheme.into())),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if let Some(at) = rest.find(['/', '?', '#']) {
            return Err(UrlError::Trailing { url: url.into(), part: rest[at..].into() });
        }
        let (host, port) = split_port(rest)?;
        let host = checked_host(host, url)?;
        let port = match port {
            None if tls => 8883,
            None => 1883,
            Some(text) => match text.parse::<u16>() {
                Ok(port) if port > 0 && text.bytes().all(|b| b.is_ascii_digit()) => port,
                _ => return Err(UrlError::Port(text.into())),
            },
        };
        if port == 80 {
            return Err(UrlError::Port80);
        }
        let parsed = Self { tls, host, port };
        match (tls, parsed.is_loopback(), allow_clear_text) {
            (false, false, _) => Err(UrlError::ClearText(parsed.address())),
            (false, true, false) => Err(UrlError::ClearTextNotAllowed),
            _ => Ok(parsed),
        }
    }

    pub fn tls(&self) -> bool {
        self.tls
    }

    /// DNS name or IP address, IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port` as a person writes it.
    pub fn address(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// The host is an IP address: connecting asks no DNS.
    pub fn is_ip(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok()
    }

    fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(ip) => ip.is_loopback(),
            Err(_) => self.host == "localhost",
        }
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "mqtts" } else { "mqtt" }, self.address())
    }
}

fn split_port(rest: &str) -> Result<(&str, Option<&str>), UrlError> {
    if let Some(inner) = rest.strip_prefix('[') {
        let (host, after) = inner.split_once(']').ok_or_else(|| UrlError::Host(rest.into()))?;
        host.parse::<Ipv6Addr>().map_err(|_| UrlError::Host(format!("[{host}]")))?;
        return match after {
            "" => Ok((host, None)),
            _ => match after.strip_prefix(':') {
                Some(port) => Ok((host, Some(port))),
                None => Err(UrlError::Host(rest.into())),
            },
        };
    }
    match rest.split_once(':') {
        None => Ok((rest, None)),
        // A bare IPv6 address: where would its port begin?
        Some((_, port)) if port.contains(':') => Err(UrlError::Host(rest.into())),
        Some((host, port)) => Ok((host, Some(port))),
    }
}

fn checked_host(host: &str, url: &str) -> Result<String, UrlError> {
    if host.is_empty() {
        return Err(UrlError::NoHost(url.into()));
    }
    match ServerName::try_from(host) {
        Ok(_) => Ok(host.to_ascii_lowercase()),
        Err(_) => Err(UrlError::Host(host.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<BrokerUrl, UrlError> {
        BrokerUrl::parse(url, true)
    }

    #[test]
    fn good_urls_are_read() {
        for (url, host, port, shown) in [
            ("mqtts://broker.example.org", "broker.example.org", 8883, "mqtts://broker.example.org:8883"),
            (" mqtts://Broker:9/ ", "broker", 9, "mqtts://broker:9"),
            ("MQTTS://10.0.0.1:8884", "10.0.0.1", 8884, "mqtts://10.0.0.1:8884"),
            ("mqtts://[2001:db8::1]", "2001:db8::1", 8883, "mqtts://[2001:db8::1]:8883"),
            ("mqtt://[::1]:1999", "::1", 1999, "mqtt://[::1]:1999"),
            ("mqtt://localhost", "localhost", 1883, "mqtt://localhost:1883"),
            ("mqtt://127.3.2.1", "127.3.2.1", 1883, "mqtt://127.3.2.1:1883"),
        ] {
            let got = parse(url).unwrap();
            assert_eq!((got.host(), got.port(), got.to_string().as_str()), (host, port, shown));
        }
    }

    #[test]
    fn bad_urls_get_their_own_error() {
        use UrlError::*;
        for (url, want) in [
            ("broker:8883", NoScheme("broker:8883".into())),
            ("https://broker", Scheme("https".into())),
            ("mqtts://u:p@broker", UserInfo),
            ("mqtts://broker/x@y", UserInfo),
            ("mqtts://broker/topic", Trailing { url: "mqtts://broker/topic".into(), part: "/topic".into() }),
            ("mqtts://broker?x=1", Trailing { url: "mqtts://broker?x=1".into(), part: "?x=1".into() }),
            ("mqtts://", NoHost("mqtts://".into())),
            ("mqtts://:8883", NoHost("mqtts://:8883".into())),
            ("mqtts://bro ker", Host("bro ker".into())),
            ("mqtts://::1", Host("::1".into())),
            ("mqtts://[::1", Host("[::1".into())),
            ("mqtts://[fe80::1%25eth0]", Host("[fe80::1%25eth0]".into())),
            ("mqtts://[10.0.0.1]", Host("[10.0.0.1]".into())),
            ("mqtts://broker:", Port("".into())),
            ("mqtts://broker:0", Port("0".into())),
            ("mqtts://broker:+9", Port("+9".into())),
            ("mqtts://broker:70000", Port("70000".into())),
            ("mqtts://broker:80", Port80),
            ("mqtt://127.0.0.1:80", Port80),
            ("mqtt://10.0.0.1", ClearText("10.0.0.1:1883".into())),
            ("mqtt://localhost.evil.org", ClearText("localhost.evil.org:1883".into())),
        ] {
            assert_eq!(parse(url), Err(want), "{url}");
        }
    }

    #[test]
    fn clear_text_needs_the_users_word_even_on_loopback() {
        assert_eq!(BrokerUrl::parse("mqtt://127.0.0.1", false), Err(UrlError::ClearTextNotAllowed));
        assert_eq!(BrokerUrl::parse("mqtt://192.0.2.1", false), Err(UrlError::ClearText("192.0.2.1:1883".into())));
    }

    #[test]
    fn a_password_in_the_url_is_not_repeated() {
        let error = parse("mqtts://edge:hunter2@broker").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
