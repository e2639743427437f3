//! `[broker]`: where to connect and with which credentials. Clear text and port 80 are refused here.
//!
//! Looks at whether the named files can be read; what is inside a certificate is judged by the transport's own check.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::problem::Problem;
use super::reader::{Reader, Section};
use super::{Secret, source};
use crate::uplink::transport::{BrokerUrl, UrlError};
use crate::uplink::{Compression, Encoding, Unheard};
use crate::wire::COMPRESSES;

/// The port that brokers usually serve without TLS.
const CLEAR_PORT: u16 = 1883;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// At least one, tried in turn.
    pub urls: Vec<BrokerUrl>,
    pub ca: Ca,
    /// Always together with `key`.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub username: Option<String>,
    /// Read when the configuration was.
    pub password: Option<Secret>,
    /// `None`: the host id.
    pub client_id: Option<String>,
    pub keep_alive: Duration,
    pub encoding: Encoding,
    pub compression: Compression,
    pub unheard: Unheard,
}

/// Who may vouch for the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ca {
    System,
    File(PathBuf),
}

pub(super) fn check(mut section: Section, reader: &mut Reader<'_>) -> Option<Broker> {
    let allow_clear_text = reader.bool(&mut section, "allow_clear_text").unwrap_or(false);
    let urls = check_urls(&mut section, allow_clear_text, reader);
    let ca = check_ca(&mut section, reader);
    let cert = reader.path(&mut section, "cert");
    let key = reader.path(&mut section, "key");
    check_files(cert.as_deref(), key.as_deref(), reader);
    let username = reader.text(&mut section, "username");
    let password = check_password(&mut section, reader);
    let client_id = check_client_id(&mut section, reader);
    let keep_alive = reader.duration(&mut section, "keep_alive");
    let encoding = if reader.text(&mut section, "encoding")? == "json" { Encoding::Json } else { Encoding::Msgpack };
    let compression = check_compression(&mut section, reader)?;
    let unheard = if reader.text(&mut section, "unheard")? == "settle" { Unheard::Settle } else { Unheard::Hold };
    reader.finish(section);
    let keep_alive = keep_alive?;
    Some(Broker { urls, ca: ca?, cert, key, username, password, client_id, keep_alive, encoding, compression, unheard })
}

fn check_compression(section: &mut Section, reader: &mut Reader<'_>) -> Option<Compression> {
    if reader.text(section, "compression")? == "none" {
        return Some(Compression::None);
    }
    if !COMPRESSES {
        let hint = "leave it out, or use a build with the feature: cargo build --no-default-features --features zstd";
        reader.error("broker.compression", "this build of holdover has no zstd", hint);
        return None;
    }
    Some(Compression::Zstd)
}

fn check_urls(section: &mut Section, allow_clear_text: bool, reader: &mut Reader<'_>) -> Vec<BrokerUrl> {
    let one = reader.text(section, "url");
    let several = reader.texts(section, "urls");
    let (key, texts) = match (one, several) {
        (Some(_), Some(_)) => {
            reader.error("broker.urls", "url and urls are both given", "keep one of the two");
            return Vec::new();
        }
        (Some(url), None) => ("broker.url", vec![url]),
        (None, Some(urls)) => ("broker.urls", urls),
        (None, None) => {
            missing_url(section, reader);
            return Vec::new();
        }
    };
    if texts.is_empty() {
        reader.error(key, "the list is empty", "name at least one broker");
    }
    let mut urls = Vec::new();
    for text in texts {
        match BrokerUrl::parse(&text, allow_clear_text) {
            Ok(url) => urls.push(url),
            Err(error) => reader.error(key, &error, &url_hint(&error, &text)),
        }
    }
    for url in urls.iter().filter(|url| url.tls() && url.port() == CLEAR_PORT) {
        reader.warn(
            key,
            format!("{url} names the port that is usually clear text"),
            "MQTT over TLS usually has port 8883",
        );
    }
    urls
}

/// What to write instead of `text`.
fn url_hint(error: &UrlError, text: &str) -> String {
    let after_scheme = text.split_once("://").map_or(text, |(_, rest)| rest);
    match error {
        UrlError::NoScheme(_) => format!("write \"mqtts://{after_scheme}\""),
        UrlError::Scheme(scheme) => match scheme.to_ascii_lowercase().as_str() {
            "ssl" | "tls" | "tcps" => format!("write \"mqtts://{after_scheme}\""),
            "ws" | "wss" => "MQTT over WebSocket is not supported; use mqtts:// on port 8883 or 443".to_owned(),
            "http" | "https" => "that is not MQTT; write \"mqtts://broker.example.com:8883\"".to_owned(),
            _ => "write mqtts://, which is MQTT over TLS".to_owned(),
        },
        UrlError::UserInfo => "use the keys username and password_file".to_owned(),
        UrlError::Trailing { .. } => "MQTT has no paths; topics start with host.prefix".to_owned(),
        UrlError::Port(_) | UrlError::Port80 => "write the port of MQTT over TLS, usually 8883".to_owned(),
        UrlError::ClearText(_) => format!("write \"mqtts://{after_scheme}\" and the TLS port"),
        UrlError::ClearTextNotAllowed => "add allow_clear_text = true under [broker], or use mqtts://".to_owned(),
        UrlError::NoHost(_) | UrlError::Host(_) => "write \"mqtts://broker.example.com:8883\"".to_owned(),
    }
}

fn missing_url(section: &Section, reader: &mut Reader<'_>) {
    let reported = reader
        .problems
        .iter()
        .any(|problem| ["broker:", "broker.url"].iter().any(|key| problem.message.starts_with(key)));
    if reader.incomplete || reported {
        return;
    }
    let hint = "under [broker] write url = \"mqtts://broker.example.com:8883\"";
    let message = "broker.url is missing: there is nowhere to send records";
    reader.problems.push(match section.origin {
        super::Origin::Default => Problem::general(message).hint(hint),
        _ => Problem::error(&section.origin, message).hint(hint),
    });
}

fn check_ca(section: &mut Section, reader: &mut Reader<'_>) -> Option<Ca> {
    let system = !reader.given(section, "ca") || reader.peek(section, "ca").is_some_and(|text| text == "system");
    if system {
        reader.text(section, "ca");
        return Some(Ca::System);
    }
    let path = reader.path(section, "ca")?;
    readable("broker.ca", &path, reader);
    Some(Ca::File(path))
}

fn check_files(cert: Option<&Path>, key: Option<&Path>, reader: &mut Reader<'_>) {
    match (cert, key) {
        (Some(_), None) if reader.origin_of("broker.key") == super::Origin::Default => {
            reader.error(
                "broker.cert",
                "a certificate without its key",
                "add key = \"...\", the private key of the certificate",
            );
        }
        (None, Some(_)) if reader.origin_of("broker.cert") == super::Origin::Default => {
            reader.error(
                "broker.key",
                "a key without its certificate",
                "add cert = \"...\", the certificate of the key",
            );
        }
        _ => {}
    }
    if let Some(cert) = cert {
        readable("broker.cert", cert, reader);
    }
    if let Some(key) = key {
        readable("broker.key", key, reader);
        warn_open(key, "broker.key", reader);
    }
}

fn readable(path: &str, file: &Path, reader: &mut Reader<'_>) {
    let why = match std::fs::metadata(file) {
        Ok(meta) if meta.is_dir() => "it is a directory".to_owned(),
        Ok(_) => match std::fs::File::open(file) {
            Ok(_) => return,
            Err(error) => error.to_string(),
        },
        Err(error) => error.to_string(),
    };
    let hint = "check the path, and that the user of the agent may read the file";
    reader.error(path, format!("cannot read {}: {why}", file.display()), hint);
}

fn warn_open(file: &Path, path: &str, reader: &mut Reader<'_>) {
    if source::mode(file).is_some_and(|mode| mode & 0o007 != 0) {
        let hint = format!("chmod o= {}", file.display());
        reader.warn(path, format!("{} is open to every user of this host", file.display()), &hint);
    }
}

fn check_password(section: &mut Section, reader: &mut Reader<'_>) -> Option<Secret> {
    let file = reader.path(section, "password_file")?;
    warn_open(&file, "broker.password_file", reader);
    match source::read_secret(&file) {
        Ok(password) => Some(Secret::new(password)),
        Err(why) => {
            reader.error("broker.password_file", why, "the file holds the password in one line");
            None
        }
    }
}

fn check_client_id(section: &mut Section, reader: &mut Reader<'_>) -> Option<String> {
    let id = reader.text(section, "client_id")?;
    if id.len() > 128 || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        let message = format!("{id:?} may hold only up to 128 letters, digits, '_' and '-'");
        reader.error("broker.client_id", message, "leave it out to use the host id");
    }
    Some(id)
}
