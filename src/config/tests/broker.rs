use std::os::unix::fs::PermissionsExt;

use super::super::{Ca, Config, Origin};
use super::*;

#[test]
fn bad_urls_are_refused_with_what_to_write() {
    for (url, why, hint) in [
        ("b.example.com:8883", "no scheme", "write \"mqtts://b.example.com:8883\""),
        ("mqtts://b:80", "port 80", "usually 8883"),
        ("mqtt://127.0.0.1:80", "port 80", "usually 8883"),
        ("http://b", "not supported", "not MQTT"),
        ("https://b", "not supported", "not MQTT"),
        ("ssl://b:8883", "not supported", "write \"mqtts://b:8883\""),
        ("tcp://b", "not supported", "write mqtts://"),
        ("wss://b/mqtt", "not supported", "WebSocket"),
        ("mqtts://", "no host", "mqtts://broker.example.com"),
        ("mqtts://b:0", "port", "usually 8883"),
        ("mqtts://b:65536", "port", "usually 8883"),
        ("mqtts://b/topic", "after the port", "host.prefix"),
        ("mqtts://a b", "neither", "mqtts://broker.example.com"),
    ] {
        let message = error(parse(&format!("[broker]\nurl = \"{url}\"\n")));
        let (what, advice) = message.split_once("\n  hint: ").unwrap();
        assert!(what.contains(why) && advice.contains(hint), "{url}: {message}");
        assert!(what.starts_with("/etc/holdover/holdover.toml:2:7: error: broker.url: "), "{message}");
    }
}

#[test]
fn password_in_a_url_is_refused_and_not_repeated() {
    let message = error(parse("[broker]\nurl = \"mqtts://edge:hunter2@b.example.com\"\n"));
    assert!(message.contains("password_file") && !message.contains("hunter2"), "{message}");
}

#[test]
fn clear_text_goes_to_loopback_only_and_only_when_allowed() {
    let with = |url: &str, allowed: bool| parse(&format!("[broker]\nurl = \"{url}\"\nallow_clear_text = {allowed}\n"));
    for url in ["mqtt://localhost", "mqtt://127.0.0.1:1884", "mqtt://127.8.9.1", "mqtt://[::1]"] {
        assert!(with(url, true).is_ok(), "{url}");
        assert!(error(with(url, false)).contains("add allow_clear_text = true"), "{url}");
    }
    for url in [
        "mqtt://b.example.com",
        "mqtt://10.0.0.1",
        "mqtt://0.0.0.0",
        "mqtt://[::]",
        "mqtt://localhost.example.com",
        "mqtt://127.0.0.1.example",
    ] {
        for allowed in [true, false] {
            let message = error(with(url, allowed));
            assert!(message.contains("clear text") && message.contains("mqtts://"), "{url}: {message}");
        }
    }
}

#[test]
fn broker_must_be_named_once() {
    let message = error(parse(""));
    assert!(
        message.contains("broker.url is missing") && message.contains("hint: under [broker] write url"),
        "{message}"
    );
    assert!(error(parse("[broker]\nca = \"system\"\n")).contains(":1:1: error: broker.url is missing"));
    assert!(error(parse("[broker]\nurl = \"mqtts://a\"\nurls = [\"mqtts://b\"]\n")).contains("both given"));
    assert!(error(parse("[broker]\nurls = []\n")).contains("empty"));
    let two = parse("[broker]\nurls = [\"mqtts://a\", \"mqtts://b:1\"]\n").unwrap();
    assert_eq!(two.config.broker.urls.len(), 2);
    let both_bad = errors(parse("[broker]\nurls = [\"mqtts://a:80\", \"x\"]\n"));
    assert_eq!(both_bad.len(), 2, "{both_bad:?}");
}

#[test]
fn tls_on_the_clear_text_port_is_a_warning() {
    let checked = parse("[broker]\nurl = \"mqtts://b:1883\"\n").unwrap();
    assert!(warnings(&checked)[0].contains("usually clear text"));
}

#[test]
fn certificate_files_must_be_there_and_come_in_pairs() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("holdover.toml");
    std::fs::write(dir.path().join("host.pem"), "x").unwrap();
    let text = |lines: &str| Config::parse(&file, &format!("[broker]\nurl = \"mqtts://b\"\n{lines}"), &around(&[]));
    assert!(error(text("cert = \"host.pem\"")).contains("a certificate without its key"));
    assert!(error(text("key = \"host.pem\"")).contains("a key without its certificate"));
    let missing = error(text("ca = \"nowhere.pem\""));
    assert!(
        missing.contains("holdover.toml:3:6: error: broker.ca: cannot read") && missing.contains("nowhere.pem"),
        "{missing}"
    );
    assert!(error(text("ca = \".\"")).contains("it is a directory"));
    assert!(error(text("ca = \"$HOME/ca.pem\"")).contains("$HOME is not replaced"));
    let ca = text("ca = \"host.pem\"").unwrap().config.broker.ca;
    assert_eq!(ca, Ca::File(dir.path().join("host.pem")));
}

#[test]
fn private_key_open_to_everyone_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("holdover.toml");
    for name in ["host.pem", "host.key"] {
        std::fs::write(dir.path().join(name), "x").unwrap();
    }
    let key = dir.path().join("host.key");
    let text = format!("{BROKER}cert = \"host.pem\"\nkey = \"host.key\"\n");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = Config::parse(&file, &text, &around(&[])).unwrap();
    assert!(warnings(&open)[0].contains("open to every user"), "{:?}", open.warnings);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(Config::parse(&file, &text, &around(&[])).unwrap().warnings.is_empty());
}

#[test]
fn password_comes_from_a_file_and_is_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("holdover.toml");
    let password = dir.path().join("password");
    std::fs::write(&password, "hunter2\n").unwrap();
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!("{BROKER}username = \"edge\"\npassword_file = \"password\"\n");
    let checked = Config::parse(&file, &text, &around(&[])).unwrap();
    assert_eq!(checked.config.broker.password.as_ref().unwrap().reveal(), "hunter2");
    for shown in [format!("{checked:?}"), checked.effective(), checked.effective_json().to_string()] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    for (content, expected) in [("", "is empty"), ("\n", "is empty"), ("a\nb\n", "more than one line")] {
        std::fs::write(&password, content).unwrap();
        assert!(error(Config::parse(&file, &text, &around(&[]))).contains(expected), "{content:?}");
    }
    std::fs::write(&password, b"\xff\xfe").unwrap();
    assert!(error(Config::parse(&file, &text, &around(&[]))).contains("not UTF-8"));
    std::fs::write(&password, vec![b'x'; 100_000]).unwrap();
    assert!(error(Config::parse(&file, &text, &around(&[]))).contains("larger than 64KiB"));
    std::fs::remove_file(&password).unwrap();
    assert!(error(Config::parse(&file, &text, &around(&[]))).contains("cannot read"));
    let inline = error(parse(&format!("{BROKER}password = \"hunter2\"\n")));
    assert!(inline.contains("did you mean password_file?") && !inline.contains("hunter2"), "{inline}");
}

#[test]
fn systemd_directories_are_replaced_in_paths() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("pw"), "s3cret").unwrap();
    let vars =
        env(&[("CREDENTIALS_DIRECTORY", &dir.path().to_string_lossy()), ("STATE_DIRECTORY", "/var/lib/a:/var/lib/b")]);
    let text = format!("{BROKER}password_file = \"$CREDENTIALS_DIRECTORY/pw\"\n");
    let checked = Config::parse(Path::new("/h.toml"), &text, &around(&vars)).unwrap();
    assert_eq!(checked.config.broker.password.unwrap().reveal(), "s3cret");
    assert_eq!(checked.config.outbox.dir, Path::new("/var/lib/a"));
    let text = format!("{BROKER}[outbox]\ndir = \"/data\"\n");
    let explicit = Config::parse(Path::new("/h.toml"), &text, &around(&vars)).unwrap();
    assert_eq!(explicit.config.outbox.dir, Path::new("/data"));
    let message = error(parse(&format!("{BROKER}password_file = \"$CREDENTIALS_DIRECTORY/pw\"\n")));
    assert!(message.contains("$CREDENTIALS_DIRECTORY is not set"), "{message}");
}

#[test]
fn outside_check_is_worded_and_placed_like_ours() {
    let checked = with_broker("").unwrap();
    let problem = checked.refuse("broker.url", "the certificate has expired", "renew it");
    assert!(matches!(problem.origin, Some(Origin::File { line: 2, column: 7, .. })), "{problem}");
    let shown = "/etc/holdover/holdover.toml:2:7: error: broker.url: the certificate has expired\n  hint: renew it";
    assert_eq!(problem.to_string(), shown);
}

#[test]
fn client_id_is_checked() {
    assert!(error(parse(&format!("{BROKER}client_id = \"a/b\"\n"))).contains("leave it out to use the host id"));
    let checked = parse(&format!("{BROKER}client_id = \"edge-01\"\n")).unwrap();
    assert_eq!(checked.config.broker.client_id.as_deref(), Some("edge-01"));
}

#[test]
fn compression_is_off_unless_asked_for_and_built_in() {
    use crate::uplink::Compression;
    let with = |keys: &str| parse(&format!("[broker]\nurl = \"mqtts://b\"\n{keys}"));
    assert_eq!(with("").unwrap().config.broker.compression, Compression::None);
    assert_eq!(with("compression = \"none\"\n").unwrap().config.broker.compression, Compression::None);
    assert!(error(with("compression = \"gzip\"\n")).contains("zstd"));
    let asked = with("compression = \"zstd\"\n");
    if cfg!(feature = "zstd") {
        assert_eq!(asked.unwrap().config.broker.compression, Compression::Zstd);
    } else {
        let message = error(asked);
        assert!(message.contains(":3:15: error: broker.compression: this build of holdover has no zstd"), "{message}");
        assert!(message.contains("hint: leave it out") && message.contains("--features zstd"), "{message}");
    }
}
