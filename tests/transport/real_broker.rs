//! Against Debian's mosquitto over mutual TLS.

use std::path::Path;

use holdover::uplink::transport::tls::{self, IdentityFiles, Roots, TlsFiles, VerificationTime};
use holdover::uplink::transport::{
    BrokerUrl, CloseKind, ConnectOptions, Connection, PublishRefused, Session, Subscription, TlsFailure,
    TransportEvent, Will, packet_size,
};

use super::mosquitto::Mosquitto;
use super::pki::{Authority, Pair};
use super::{LONG, closed, connected, next, publish, run};

struct Site {
    dir: tempfile::TempDir,
    ca: Authority,
    edge: Pair,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::new(dir.path(), "site-ca");
        let edge = ca.host(dir.path(), "edge-01");
        Self { dir, ca, edge }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Requires client certificates, takes the CN as user name, lets a host write below its own name.
    fn broker(&self, server: &Pair) -> Mosquitto {
        let acl = self.path().join("acl");
        std::fs::write(&acl, "pattern write v1/plant-a/%u/#\nuser hub-1\ntopic read v1/#\n").unwrap();
        let conf = format!(
            "cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\nuse_identity_as_username true\nacl_file {}\n",
            self.ca.file.display(),
            server.certificate.display(),
            server.key.display(),
            acl.display()
        );
        Mosquitto::start(self.path(), &conf)
    }

    fn good_broker(&self) -> Mosquitto {
        self.broker(&self.ca.server(self.path(), "server", &["localhost", "127.0.0.1"], false))
    }

    fn options(&self, host: &str, port: u16, pair: Option<&Pair>) -> ConnectOptions {
        options_with(host, port, Roots::File(self.ca.file.clone()), pair)
    }
}

fn options_with(host: &str, port: u16, roots: Roots, pair: Option<&Pair>) -> ConnectOptions {
    let identity = pair.map(|p| IdentityFiles { certificate: p.certificate.clone(), key: p.key.clone() });
    let loaded = tls::load(&TlsFiles { roots, identity }, VerificationTime::new(None)).unwrap();
    assert_eq!(loaded.warnings, []);
    let id = loaded.identity.and_then(|i| i.common_name).unwrap_or_else(|| "nobody".into());
    let url = BrokerUrl::parse(&format!("mqtts://{host}:{port}"), false).unwrap();
    ConnectOptions { tls: Some(loaded.config), ..ConnectOptions::new(url, id) }
}

#[test]
fn a_publish_over_mutual_tls_is_acknowledged_by_a_real_broker() {
    let site = Site::new();
    let broker = site.good_broker();
    run(async {
        let hub_pair = site.ca.host(site.path(), "hub-1");
        let mut hub_options = site.options("localhost", broker.port, Some(&hub_pair));
        hub_options.session = Session::kept(3600);
        let mut hub = Connection::open(&hub_options).unwrap();
        hub.subscribe(vec![Subscription::shared("hubs", "v1/+/+/m/+")]).unwrap();
        connected(&mut hub).await;
        let TransportEvent::Subscribed(outcomes) = next(&mut hub).await else { panic!("no SUBACK") };
        assert_eq!(outcomes[0].code, 1);

        let mut edge = Connection::open(&site.options("localhost", broker.port, Some(&site.edge))).unwrap();
        let limits = connected(&mut edge).await;
        assert_eq!(limits.window, 10);
        let mut message = publish(7, "v1/plant-a/edge-01/m/cpu", b"hello");
        message.content_type = Some("application/vnd.msgpack");
        edge.publish(message).unwrap();
        assert_eq!(next(&mut edge).await, TransportEvent::Acked { token: 7, code: 0 });

        let TransportEvent::Received(got) = next(&mut hub).await else { panic!("nothing received") };
        assert_eq!((got.topic.as_str(), got.payload.as_slice()), ("v1/plant-a/edge-01/m/cpu", b"hello".as_slice()));
        assert_eq!(got.content_type.as_deref(), Some("application/vnd.msgpack"));
        hub.ack(got.ack.unwrap()).unwrap();
        assert_eq!(hub.disconnect(LONG).await.reason.kind, CloseKind::Stopped);
        assert_eq!(edge.disconnect(LONG).await.reason.kind, CloseKind::Stopped);
    });
}

/// Connects, expects no success, and returns why.
#[expect(clippy::print_stdout, reason = "the words are for people; --nocapture shows them")]
fn refused(options: &ConnectOptions) -> (CloseKind, String) {
    run(async {
        let mut connection = Connection::open(options).unwrap();
        let reason = closed(&mut connection).await;
        let shown = reason.to_string();
        println!("{shown}");
        assert!(shown.contains(&options.url.address()), "it says where: {shown}");
        assert!(shown.contains("; ") && !shown.contains('\n'), "it says what to do, on one line: {shown}");
        (reason.kind, shown)
    })
}

#[test]
fn a_denied_topic_and_a_topic_without_subscribers_are_told_apart() {
    let site = Site::new();
    let broker = site.good_broker();
    run(async {
        let mut edge = Connection::open(&site.options("localhost", broker.port, Some(&site.edge))).unwrap();
        connected(&mut edge).await;
        for (token, topic, code) in [
            (1, "v1/plant-a/edge-01/m/cpu", 0x10),
            (2, "v1/plant-a/edge-02/m/cpu", 0x87),
            (3, "v1/plant-a/edge-01/h", 0x10),
        ] {
            edge.publish(publish(token, topic, b"x")).unwrap();
            assert_eq!(next(&mut edge).await, TransportEvent::Acked { token, code }, "{topic}");
        }
    });
}

#[test]
fn a_broker_certificate_of_an_unknown_issuer_is_refused() {
    let site = Site::new();
    let broker = site.good_broker();
    let anew = site.path().join("anew");
    std::fs::create_dir(&anew).unwrap();
    // The second has the name of the right one and another key.
    for other in [Authority::new(site.path(), "other-ca"), Authority::new(&anew, "site-ca")] {
        let options = options_with("localhost", broker.port, Roots::File(other.file), Some(&site.edge));
        let (kind, shown) = refused(&options);
        assert_eq!(kind, CloseKind::Tls(TlsFailure::UnknownIssuer));
        assert!(shown.contains("signed by an unknown authority (not by the configured CA)"), "{shown}");
        assert!(shown.contains("set the CA file"), "{shown}");
    }
}

#[test]
fn an_expired_broker_certificate_is_refused_whatever_the_clock_says() {
    let site = Site::new();
    let broker = site.broker(&site.ca.server(site.path(), "server", &["localhost"], true));
    let (kind, shown) = refused(&site.options("localhost", broker.port, Some(&site.edge)));
    assert!(matches!(kind, CloseKind::Tls(TlsFailure::Expired { .. })), "{kind:?}");
    assert!(shown.contains("expired on 2021-01-01 00:00:00Z"), "{shown}");
}

#[test]
fn a_broker_certificate_for_another_name_is_refused() {
    let site = Site::new();
    let broker = site.broker(&site.ca.server(site.path(), "server", &["broker.example.org"], false));
    let (kind, shown) = refused(&site.options("localhost", broker.port, Some(&site.edge)));
    assert!(matches!(kind, CloseKind::Tls(TlsFailure::WrongName { .. })), "{kind:?}");
    assert!(shown.contains("broker.example.org"), "{shown}");
}

#[test]
fn a_missing_or_foreign_client_certificate_is_told_as_such() {
    let site = Site::new();
    let broker = site.good_broker();
    let foreign = Authority::new(site.path(), "foreign-ca").host(site.path(), "stranger");
    // Which of the two is seen depends on whether the broker's alert outruns its reset.
    let (kind, shown) = refused(&site.options("localhost", broker.port, None));
    assert!(
        matches!(
            kind,
            CloseKind::Tls(TlsFailure::ClientCertificateMissing) | CloseKind::ClosedBeforeConnack { tls: true }
        ),
        "{kind:?}"
    );
    assert!(shown.contains("client certificate"), "{shown}");
    let (kind, shown) = refused(&site.options("localhost", broker.port, Some(&foreign)));
    assert!(
        matches!(
            kind,
            CloseKind::Tls(TlsFailure::ClientCertificateRefused(_)) | CloseKind::ClosedBeforeConnack { tls: true }
        ),
        "{kind:?}"
    );
    assert!(shown.contains("client certificate"), "{shown}");
}

#[test]
fn a_port_without_listener_without_tls_or_without_name_is_told_as_such() {
    let site = Site::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (kind, _) = refused(&site.options("localhost", free, Some(&site.edge)));
    assert_eq!(kind, CloseKind::TcpRefused);

    let plain = Mosquitto::start(site.path(), "allow_anonymous true\n");
    let (kind, _) = refused(&site.options("localhost", plain.port, Some(&site.edge)));
    assert!(matches!(kind, CloseKind::Tls(TlsFailure::Handshake(_))), "{kind:?}");

    let mut options = site.options("no-such-host.invalid", 8883, Some(&site.edge));
    options.connect_timeout = std::time::Duration::from_secs(5);
    let (kind, _) = refused(&options);
    assert!(matches!(kind, CloseKind::Dns(_) | CloseKind::ConnectTimeout { dns: true, .. }), "{kind:?}");
}

#[test]
fn clear_text_to_a_tls_port_is_told_as_such() {
    let site = Site::new();
    let broker = site.good_broker();
    let url = BrokerUrl::parse(&format!("mqtt://127.0.0.1:{}", broker.port), true).unwrap();
    let (kind, shown) = refused(&ConnectOptions::new(url, "edge-01"));
    assert_eq!(kind, CloseKind::ClosedBeforeConnack { tls: false });
    assert!(shown.contains("mqtts://"), "{shown}");
}

#[test]
fn tls_works_to_an_ip_address_of_either_family() {
    let site = Site::new();
    let server = site.ca.server(site.path(), "server", &["127.0.0.1", "::1"], false);
    let broker = site.broker(&server);
    run(async {
        let mut edge = Connection::open(&site.options("127.0.0.1", broker.port, Some(&site.edge))).unwrap();
        connected(&mut edge).await;
    });
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        println!("no IPv6 loopback here: only IPv4 was tried");
        return;
    }
    let forward = std::net::TcpListener::bind("[::1]:0").unwrap();
    let port = forward.local_addr().unwrap().port();
    run(async {
        forward.set_nonblocking(true).unwrap();
        let forward = tokio::net::TcpListener::from_std(forward).unwrap();
        let broker_port = broker.port;
        tokio::spawn(async move {
            let (mut client, _) = forward.accept().await.unwrap();
            let mut upstream = tokio::net::TcpStream::connect(("127.0.0.1", broker_port)).await.unwrap();
            tokio::io::copy_bidirectional(&mut client, &mut upstream).await.ok();
        });
        let mut edge = Connection::open(&site.options("[::1]", port, Some(&site.edge))).unwrap();
        connected(&mut edge).await;
    });
}

#[test]
fn the_retained_will_appears_on_a_cut_and_not_after_a_clean_disconnect() {
    const STATUS: &str = "v1/plant-a/edge-01/status";
    let site = Site::new();
    let broker = site.good_broker();
    run(async {
        let hub_pair = site.ca.host(site.path(), "hub-1");
        let mut hub = Connection::open(&site.options("localhost", broker.port, Some(&hub_pair))).unwrap();
        hub.subscribe(vec![Subscription::new("v1/+/+/status")]).unwrap();
        connected(&mut hub).await;
        assert!(matches!(next(&mut hub).await, TransportEvent::Subscribed(_)));

        let mut options = site.options("localhost", broker.port, Some(&site.edge));
        options.will = Some(Will { topic: STATUS.into(), payload: b"{\"state\":\"offline\"}".to_vec(), retain: true });
        let mut edge = Connection::open(&options).unwrap();
        connected(&mut edge).await;
        let mut online = publish(1, STATUS, b"{\"state\":\"online\"}");
        online.retain = true;
        edge.publish(online).unwrap();
        assert_eq!(next(&mut edge).await, TransportEvent::Acked { token: 1, code: 0 });
        let TransportEvent::Received(got) = next(&mut hub).await else { panic!("no status") };
        assert_eq!(got.payload, b"{\"state\":\"online\"}");
        hub.ack(got.ack.unwrap()).unwrap();

        drop(edge);
        let TransportEvent::Received(got) = next(&mut hub).await else { panic!("no will") };
        assert_eq!((got.topic.as_str(), got.payload.as_slice()), (STATUS, b"{\"state\":\"offline\"}".as_slice()));
        hub.ack(got.ack.unwrap()).unwrap();

        // Who subscribes later gets it from the retained store.
        hub.subscribe(vec![Subscription::new(STATUS)]).unwrap();
        let mut late = None;
        while late.is_none() {
            if let TransportEvent::Received(got) = next(&mut hub).await {
                hub.ack(got.ack.unwrap()).unwrap();
                late = Some((got.retain, got.payload));
            }
        }
        assert_eq!(late, Some((true, b"{\"state\":\"offline\"}".to_vec())));

        let mut edge = Connection::open(&options).unwrap();
        connected(&mut edge).await;
        assert_eq!(edge.disconnect(LONG).await.reason.kind, CloseKind::Stopped);
        // Anything published after it would come behind the will, if there were one.
        let mut edge = Connection::open(&site.options("localhost", broker.port, Some(&site.edge))).unwrap();
        connected(&mut edge).await;
        edge.publish(publish(2, STATUS, b"after")).unwrap();
        let TransportEvent::Received(got) = next(&mut hub).await else { panic!("nothing came") };
        assert_eq!(got.payload, b"after");
    });
}

#[test]
fn a_second_client_with_the_same_id_ends_the_first_with_a_hint() {
    let site = Site::new();
    let broker = site.good_broker();
    run(async {
        let options = site.options("localhost", broker.port, Some(&site.edge));
        let mut first = Connection::open(&options).unwrap();
        connected(&mut first).await;
        let mut second = Connection::open(&options).unwrap();
        connected(&mut second).await;
        let reason = closed(&mut first).await;
        println!("{reason}");
        assert!(matches!(reason.kind, CloseKind::HungUp | CloseKind::Disconnected { code: 0x8e, .. }), "{reason}");
        assert!(reason.to_string().contains("same client id"), "{reason}");
    });
}

#[test]
fn what_the_broker_forbids_in_size_is_refused_before_it_is_sent() {
    let site = Site::new();
    let conf = "allow_anonymous true\nmax_packet_size 2000\nmax_keepalive 30\nmax_inflight_messages 3\n";
    let broker = Mosquitto::start(site.path(), conf);
    run(async {
        let url = BrokerUrl::parse(&format!("mqtt://localhost:{}", broker.port), true).unwrap();
        let mut c = Connection::open(&ConnectOptions::new(url, "edge-01")).unwrap();
        let limits = connected(&mut c).await;
        assert_eq!((limits.max_packet, limits.receive_max, limits.window), (2000, 3, 2));
        assert_eq!(limits.keep_alive.as_secs(), 30);
        assert!(matches!(c.publish(publish(1, "a", &[0; 2000])), Err(PublishRefused::TooLarge { max: 2000, .. })));
        let just = 2000 - packet_size(1, 0, None) - 1;
        c.publish(publish(2, "a", &vec![0; just])).unwrap();
        assert_eq!(next(&mut c).await, TransportEvent::Acked { token: 2, code: 0x10 });
    });
}

#[test]
fn a_kept_session_delivers_again_what_was_not_acknowledged() {
    let site = Site::new();
    let broker = site.good_broker();
    run(async {
        let hub_pair = site.ca.host(site.path(), "hub-1");
        let mut options = site.options("localhost", broker.port, Some(&hub_pair));
        options.session = Session::kept(3600);
        let mut hub = Connection::open(&options).unwrap();
        hub.subscribe(vec![Subscription::new("v1/#")]).unwrap();
        assert!(!connected(&mut hub).await.session_present);
        assert!(matches!(next(&mut hub).await, TransportEvent::Subscribed(_)));

        let mut edge = Connection::open(&site.options("localhost", broker.port, Some(&site.edge))).unwrap();
        connected(&mut edge).await;
        for token in 1..=3 {
            edge.publish(publish(token, "v1/plant-a/edge-01/h", &[token as u8])).unwrap();
            assert_eq!(next(&mut edge).await, TransportEvent::Acked { token, code: 0 });
        }
        let TransportEvent::Received(first) = next(&mut hub).await else { panic!("nothing came") };
        hub.ack(first.ack.unwrap()).unwrap();
        for _ in 0..2 {
            assert!(matches!(next(&mut hub).await, TransportEvent::Received(_)));
        }
        assert_eq!(hub.disconnect(LONG).await.reason.kind, CloseKind::Stopped);

        let mut hub = Connection::open(&options).unwrap();
        assert!(connected(&mut hub).await.session_present);
        for want in 2..=3 {
            let TransportEvent::Received(again) = next(&mut hub).await else { panic!("it was lost") };
            assert_eq!((again.payload.as_slice(), again.dup), ([want].as_slice(), true));
            hub.ack(again.ack.unwrap()).unwrap();
        }
    });
}

#[test]
fn a_certificate_renewed_on_disk_is_used_by_the_next_connection() {
    let site = Site::new();
    let broker = site.good_broker();
    let before = tls::inspect_file(&site.edge.certificate).unwrap();
    run(async {
        let mut c = Connection::open(&site.options("localhost", broker.port, Some(&site.edge))).unwrap();
        connected(&mut c).await;
    });
    let renewed = site.ca.host(site.path(), "edge-77");
    std::fs::copy(&renewed.certificate, &site.edge.certificate).unwrap();
    std::fs::copy(&renewed.key, &site.edge.key).unwrap();
    let after = tls::inspect_file(&site.edge.certificate).unwrap();
    assert_eq!((before.common_name.as_deref(), after.common_name.as_deref()), (Some("edge-01"), Some("edge-77")));
    run(async {
        let mut c = Connection::open(&site.options("localhost", broker.port, Some(&site.edge))).unwrap();
        connected(&mut c).await;
        c.publish(publish(1, "v1/plant-a/edge-77/h", b"x")).unwrap();
        assert_eq!(next(&mut c).await, TransportEvent::Acked { token: 1, code: 0x10 }, "the new name is the user name");
    });
}
