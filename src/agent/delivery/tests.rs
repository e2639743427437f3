//! The way to a connection: what can fail before there is one, and what must not stop the loop.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use super::*;
use crate::outbox::{self, FileDisk, writer};
use crate::uplink::Settings;
use crate::uplink::transport::tls::Roots;
use crate::wire::TopicScheme;

/// Long enough for the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A delivery to a port that nobody listens on, trusting the authority at `ca`.
fn delivery(ca: PathBuf) -> Delivery {
    let topics = TopicScheme::new("", "lab", "edge-01").unwrap();
    let settings = Settings {
        urls: vec!["mqtts://localhost:1".into()],
        ..Settings::new("edge-01", "lab", Arc::from("boot"), topics)
    };
    let broker = Broker {
        urls: vec![BrokerUrl::parse("mqtts://localhost:1", false).unwrap()],
        client_id: "edge-01".into(),
        tls: TlsFiles { roots: Roots::File(ca), identity: None },
        username: None,
        password: None,
        keep_alive: Duration::from_secs(30),
        connect_timeout: Duration::from_secs(20),
        window: 10,
        saved_wall_ms: None,
    };
    Delivery::new(Uplink::new(settings, Vec::new(), Vec::new(), 1), broker)
}

fn outbox(dir: &Path) -> Handle {
    let opening = writer::open(Arc::new(FileDisk), outbox::Options::new(dir), now(0)).unwrap();
    opening.spawn(Duration::from_millis(50), None).unwrap().0
}

fn now(seconds: u64) -> Now {
    let mono = Duration::from_secs(1_000 + seconds);
    Now { mono, boot: mono, wall_ms: 1_800_000_000_000 + seconds as i64 * 1000 }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let done = runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.expect("within patience") });
    runtime.shutdown_background();
    done
}

/// A preparation that ends when the answer is dropped, as a disk that hangs.
fn hang(delivery: &mut Delivery) -> std::sync::mpsc::SyncSender<()> {
    let (release, wait) = sync_channel::<()>(0);
    let task = aside::run("hang", move || Err(format!("released: {:?}", wait.recv())));
    delivery.preparing = Some(Preparing { task, abandoned: false });
    release
}

#[test]
fn certificates_that_cannot_be_read_are_one_failed_attempt() {
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("ca.crt");
        let (mut delivery, mut outbox) = (delivery(missing.clone()), outbox(dir.path()));
        delivery.act(now(0), &mut outbox).await;
        assert!(delivery.preparing.is_some() && delivery.connection.is_none());
        let happening = delivery.next().await;
        delivery.happened(happening, now(0));
        let why = delivery.last_close().unwrap();
        assert!(why.contains(missing.to_str().unwrap()) && why.contains("localhost:1"), "{why}");
        assert!(delivery.connection.is_none() && delivery.preparing.is_none());
        assert!(delivery.next_wake().is_some(), "another attempt is planned");
    });
}

#[test]
fn a_thread_that_the_system_does_not_give_is_one_failed_attempt() {
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let (mut delivery, mut outbox) = (delivery(dir.path().join("ca.crt")), outbox(dir.path()));
        aside::without_threads(delivery.act(now(0), &mut outbox)).await;
        let happening = delivery.next().await;
        delivery.happened(happening, now(0));
        let why = delivery.last_close().unwrap();
        assert!(why.contains("the certificates were not read: the system gives no thread"), "{why}");
        assert!(delivery.next_wake().is_some(), "another attempt is planned");
    });
}

#[test]
fn the_loop_goes_on_while_the_disk_of_the_certificates_hangs() {
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let (mut delivery, mut outbox) = (delivery(dir.path().join("ca.crt")), outbox(dir.path()));
        let _release = hang(&mut delivery);
        let waiting = tokio::time::timeout(Duration::from_millis(20), delivery.next());
        assert!(waiting.await.is_err(), "nothing has happened yet");
        // A new attempt starts no second reader.
        delivery.act(now(0), &mut outbox).await;
        let why = delivery.last_close().unwrap();
        assert!(why.contains("does not answer"), "{why}");
    });
}

#[test]
fn an_attempt_that_was_given_up_does_not_connect_later() {
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let mut delivery = delivery(dir.path().join("ca.crt"));
        let release = hang(&mut delivery);
        delivery.disconnect(false, now(1)).await;
        drop(release);
        let waiting = tokio::time::timeout(Duration::from_millis(200), delivery.next());
        assert!(waiting.await.is_err(), "what was given up is no event");
        assert!(delivery.last_close().is_none());
    });
}

#[test]
fn secrets_do_not_show_in_what_is_printed_for_debugging() {
    let dir = tempfile::tempdir().unwrap();
    let mut delivery = delivery(dir.path().join("ca.crt"));
    delivery.broker.password = Some(Secret::new("s3cret"));
    delivery.broker.username = Some("edge".into());
    assert!(!format!("{:?} {:?}", delivery.broker, credentials(&delivery.broker)).contains("s3cret"));
}
