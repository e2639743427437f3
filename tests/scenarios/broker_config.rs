//! The shipped mosquitto configuration keeps what it says, judged by clients that are not ours.

use std::process::Command;
use std::time::Duration;

use crate::support::child::Running;
use crate::support::lab::{Identity, Lab};
use crate::support::mosquitto::Mosquitto;
use crate::support::{PATIENCE, pass_time, read_lossy, wait_until};

/// What `mosquitto_pub` says of one publish at QoS 1: the reason code of its PUBACK.
fn publish(broker: &Mosquitto, who: &Identity, topic: &str) -> Option<u8> {
    let output = broker.client("mosquitto_pub", who).args(["-q", "1", "-d", "-m", topic, "-t", topic]).output();
    let output = output.expect("mosquitto_pub starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, code) = text.lines().find(|line| line.contains("received PUBACK"))?.rsplit_once("RC:")?;
    code.trim_end_matches(')').parse().ok()
}

#[test]
fn host_writes_its_own_leaves_only_and_a_spy_sees_nothing_else() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let (edge, hub, viewer) = (lab.client("edge-01"), lab.client("hub"), lab.client("viewer"));
    let (seen, log) = (lab.path("seen"), lab.path("spy.log"));
    let mut command = broker.client("mosquitto_sub", &viewer);
    command.args(["-q", "1", "-t", "#", "-F", "%t"]);
    let _spy = Running::start_split("spy", &mut command, &seen, &log);
    wait_until("the spy to subscribe", PATIENCE, || {
        publish(&broker, &edge, "v1/lab/edge-01/m/ready");
        read_lossy(&seen).contains("ready")
    });

    let own = ["m/cpu", "h", "status", "meta", "event", "reply/hub"].map(|leaf| format!("v1/lab/edge-01/{leaf}"));
    for topic in &own {
        assert_eq!(publish(&broker, &edge, topic), Some(0), "{topic}");
    }
    let forbidden = [
        "v1/lab/edge-01/cmd",
        "v1/lab/edge-01/ack/hub",
        "v1/lab/edge-01/m/a/b",
        "v1/lab/edge-01/other",
        "v1/lab/edge-02/m/cpu",
        "v1/lab/edge-02/h",
        "v1/lab/edge-02/status",
        "v1/lab/edge-02/ack/hub",
        "v1/_hubs/hub/w1/state",
        "v1/_hubs/edge-01/m/state",
        "v1/lab/edge-02/reply/hub",
        "v1/_hubs/edge-01/reply/state",
        "other/edge-01/m/cpu",
    ];
    for topic in forbidden {
        assert_eq!(publish(&broker, &edge, topic), Some(0x87), "{topic}");
    }
    let orders = ["v1/lab/edge-01/cmd", "v1/lab/edge-02/ack/hub", "v1/_hubs/hub/w1/state"];
    for topic in orders {
        assert_eq!(publish(&broker, &hub, topic), Some(0), "{topic}");
    }
    for topic in ["v1/lab/edge-01/m/cpu", "v1/lab/edge-01/ack/other", "v1/_hubs/other/w1/state"] {
        assert_eq!(publish(&broker, &hub, topic), Some(0x87), "{topic}");
    }
    // A last message behind the others: when the spy has it, it has all there was.
    publish(&broker, &edge, "v1/lab/edge-01/m/end");
    wait_until("the spy to see the end", PATIENCE, || read_lossy(&seen).contains("m/end"));
    let heard: Vec<String> = read_lossy(&seen).lines().map(str::to_owned).collect();
    let heard: Vec<&str> = heard.iter().map(String::as_str).filter(|t| !t.ends_with("/ready")).collect();
    let mut expected: Vec<&str> = own.iter().map(String::as_str).collect();
    expected.extend(orders);
    expected.push("v1/lab/edge-01/m/end");
    assert_eq!(heard, expected);
}

#[test]
fn host_hears_only_orders_to_itself() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let (edge, hub) = (lab.client("edge-01"), lab.client("hub"));
    let (seen, log) = (lab.path("seen"), lab.path("spy.log"));
    let mut command = broker.client("mosquitto_sub", &edge);
    for filter in ["#", "v1/+/+/cmd", "v1/lab/edge-02/cmd", "v1/lab/edge-01/cmd", "v1/_hubs/+/+/state"] {
        command.args(["-t", filter]);
    }
    let _spy = Running::start_split("spy", command.args(["-q", "1", "-F", "%t"]), &seen, &log);
    wait_until("the host to subscribe", PATIENCE, || {
        publish(&broker, &hub, "v1/lab/edge-01/cmd");
        read_lossy(&seen).contains("edge-01/cmd")
    });
    for topic in ["v1/lab/edge-02/cmd", "v1/lab/edge-02/ack/hub", "v1/lab/edge-01/ack/hub", "v1/_hubs/hub/w1/state"] {
        assert_eq!(publish(&broker, &hub, topic).map(|code| code & 0x80), Some(0), "{topic}");
    }
    wait_until("the last message", PATIENCE, || read_lossy(&seen).contains("_hubs"));
    let heard = read_lossy(&seen);
    assert!(!heard.contains("edge-02"), "{heard}");
    assert!(heard.contains("edge-01/ack/hub"), "{heard}");
}

#[test]
fn connection_without_a_good_certificate_is_refused() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let refused = |command: &mut Command| {
        let output = command.args(["-q", "1", "-m", "x", "-t", "v1/lab/edge-01/h"]).output().expect("it starts");
        !output.status.success()
    };
    let (foreign, _) = lab.foreign_client("edge-01");
    assert!(refused(&mut broker.client("mosquitto_pub", &foreign)), "another authority");
    assert!(refused(&mut broker.client("mosquitto_pub", &lab.expired_client("edge-01"))), "expired");
    let port = broker.port.to_string();
    let mut plain = Command::new("mosquitto_pub");
    assert!(refused(plain.args(["-h", "127.0.0.1", "-p", &port])), "clear text");
    let mut nobody = Command::new("mosquitto_pub");
    assert!(refused(nobody.args(["-h", "localhost", "-p", &port]).arg("--cafile").arg(lab.ca())), "no certificate");
    assert!(!refused(broker.client("mosquitto_pub", &lab.client("edge-01")).args(["-d"])), "a good one");
}

#[test]
fn tls_older_than_1_2_is_refused() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let Identity { cert, key } = lab.client("edge-01");
    let handshake = |version: &str| {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &format!("localhost:{}", broker.port), version, "-CAfile"]);
        // The client's own security level would otherwise keep it from even trying.
        command.arg(lab.ca()).args(["-cipher", "DEFAULT:@SECLEVEL=0", "-brief", "-cert"]);
        let output = command.arg(&cert).arg("-key").arg(&key).stdin(std::process::Stdio::null()).output();
        String::from_utf8_lossy(&output.expect("openssl starts").stderr).into_owned()
    };
    assert!(handshake("-tls1_2").contains("CONNECTION ESTABLISHED"));
    let old = handshake("-tls1_1");
    assert!(old.contains("alert protocol version"), "{old}");
}

#[test]
fn host_cannot_throw_another_off_by_its_client_id() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let (one, two, hub) = (lab.client("edge-01"), lab.client("edge-02"), lab.client("hub"));
    let (seen, log) = (lab.path("seen"), lab.path("sub.log"));
    let mut command = broker.client("mosquitto_sub", &two);
    command.args(["-i", "edge-02", "-t", "v1/lab/edge-02/cmd", "-F", "%t"]);
    let mut victim = Running::start_split("victim", &mut command, &seen, &log);
    wait_until("the victim to subscribe", PATIENCE, || {
        publish(&broker, &hub, "v1/lab/edge-02/cmd");
        read_lossy(&seen).contains("edge-02/cmd")
    });
    let mut thief = broker.client("mosquitto_pub", &one);
    let output = thief.args(["-i", "edge-02", "-q", "1", "-t", "v1/lab/edge-01/h", "-m", "x"]).output();
    assert!(output.expect("it starts").status.success(), "it is let in, as itself");
    victim.assert_running();
    assert!(!broker.log().contains("already connected"), "{}", broker.log());
}

#[test]
fn absent_subscriber_gets_its_queue_after_a_crash_of_the_broker() {
    let lab = Lab::new();
    let mut broker = Mosquitto::start(&lab, "broker");
    let (edge, hub) = (lab.client("edge-01"), lab.client("hub"));
    let durable = ["-c", "-x", "3600", "-i", "hub", "-q", "1", "-t", "v1/#"];
    let subscribed = broker.client("mosquitto_sub", &hub).args(durable).arg("-E").status();
    assert!(subscribed.expect("it starts").success());
    // More than mosquitto's own limit of 1,000, beyond which it drops without a word.
    let script = "i=0; while [ $i -lt 1500 ]; do i=$((i + 1)); echo $i; done";
    let mut feed = Command::new("sh").args(["-c", script]).stdout(std::process::Stdio::piped()).spawn().expect("sh");
    let mut publisher = broker.client("mosquitto_pub", &edge);
    publisher.args(["-q", "1", "-l", "-t", "v1/lab/edge-01/h"]).stdin(feed.stdout.take().expect("piped"));
    assert!(publisher.status().expect("it starts").success());
    feed.wait().expect("a child can be waited for");
    // autosave_interval is 10 s.
    pass_time(Duration::from_secs(12));
    broker.kill();
    broker.up();
    let output = broker.client("mosquitto_sub", &hub).args(durable).args(["-C", "1500", "-W", "30"]).output();
    let text = String::from_utf8_lossy(&output.expect("it starts").stdout).into_owned();
    let expected: Vec<String> = (1..=1500).map(|n| n.to_string()).collect();
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}
