//! Honest time (P10): agents whose clocks are wrong connect all the same, and the hub puts their times right once.
//!
//! All run on this host, so a record's true time is known: its `mono` and the difference of this host's clocks.

use std::time::Duration;

use holdover::clock;
use holdover::uplink::transport::tls::RELEASED_S;
use serde_json::Value as Json;

use crate::support::agent::{Agent, burst};
use crate::support::clock::WallClock;
use crate::support::hub::{Hub, Stored};
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::{PATIENCE, pass_time, wait_until};

const DAY: i64 = 86_400;
const YEAR: i64 = 365 * DAY;
/// Anchors are rounded to a millisecond, and the clock of this host may be slewed while we look.
const TOLERANCE_MS: i64 = 1_000;
/// An agent asks the time service at most so often.
const ASKED_EVERY: Duration = Duration::from_secs(10);

struct Host {
    name: &'static str,
    agent: Agent,
    clock: WallClock,
}

impl Host {
    fn new(lab: &Lab, broker: &Mosquitto, name: &'static str, seconds: i64) -> Host {
        let mut agent = Agent::new(lab, name, broker.port);
        agent.setup.collectors = burst(agent.dir(), "a", 5, 10) + &burst(agent.dir(), "b", 5, 10);
        let clock = WallClock::of(&mut agent, seconds);
        agent.up();
        Host { name, agent, clock }
    }

    fn lines<'a>(&self, stored: &'a Stored) -> Vec<&'a Json> {
        let own = stored.records.iter().filter(|((host, _), _)| host == self.name);
        own.flat_map(|(_, lines)| lines).collect()
    }

    /// The lines that tell how to correct records that were stored before.
    fn corrections<'a>(&self, stored: &'a Stored) -> Vec<&'a Json> {
        stored.corrections.iter().filter(|line| line["host"] == self.name).collect()
    }
}

fn corrected(line: &Json) -> bool {
    line["corrected"] == true
}

fn ms(line: &Json) -> i64 {
    let time = line["time"].as_str().expect("a time");
    time.parse::<jiff::Timestamp>().expect("RFC 3339").as_millisecond()
}

/// When the record of a line was truly made.
fn truth(line: &Json) -> i64 {
    let now = clock::now();
    line["mono"].as_i64().expect("unsynced records carry it") + now.wall_ms - now.boot_ms() as i64
}

fn assert_off_by(line: &Json, seconds: i64) {
    let off = line["ts"].as_i64().expect("a time") - truth(line) - seconds * 1000;
    assert!(off.abs() < TOLERANCE_MS, "{off} ms beside what the clock was set to: {line}");
    assert_eq!(line["synced"], false, "{line}");
}

fn assert_right(time_ms: i64, line: &Json) {
    let off = time_ms - truth(line);
    assert!(off.abs() < TOLERANCE_MS, "off by {off} ms: {line}");
}

/// Every record made under a wrong clock has its true time, by itself or by the one correction.
fn assert_put_right(host: &Host, stored: &Stored) {
    let lines = host.lines(stored);
    let unsynced = lines.iter().copied().filter(|line| line["synced"] == false);
    let (mended, as_came): (Vec<&Json>, Vec<&Json>) = unsynced.partition(|line| corrected(line));
    assert!(mended.len() >= 10, "only {} of {} records were corrected", mended.len(), lines.len());
    mended.iter().for_each(|line| assert_right(ms(line), line));
    let corrections = host.corrections(stored);
    assert_eq!(corrections.len(), usize::from(!as_came.is_empty()), "told once, and only when needed");
    for (line, correction) in as_came.iter().zip(corrections.iter().cycle()) {
        assert_eq!(line["boot"], correction["boot"]);
        let offset = correction["offset"].as_i64().expect("a number");
        assert_right(offset + line["mono"].as_i64().expect("a number"), line);
    }
    for pair in mended.windows(2) {
        assert!(ms(pair[0]) <= ms(pair[1]) + TOLERANCE_MS, "{} is before {}", pair[1], pair[0]);
    }
    let now = clock::now().wall_ms;
    let right = lines.iter().filter(|line| line["synced"] == true).map(|line| now - ms(line));
    assert!(right.clone().count() >= 10 && right.clone().all(|age| (0..YEAR * 1000).contains(&age)));
    eprintln!("{}: {} records, {} corrected, {} as they came", host.name, lines.len(), mended.len(), as_came.len());
}

/// A board without a clock, one seven days behind that is stepped twice while it runs, one ten years ahead, one that is
/// rebooted before anybody has told it the time, and one that is rebooted after that, with all of it still unsent.
#[test]
fn wrong_clocks_are_put_right_once_at_the_hub() {
    // Certificates that began before this version was released, as far as a board in 1970 can tell.
    let age = clock::now().wall_ms / 1000 - RELEASED_S + DAY;
    let lab = Lab::aged(Duration::from_secs(age as u64));
    let mut broker = Mosquitto::start(&lab, "broker");
    let mut hub = Hub::new(&lab, broker.port);
    hub.up();
    hub.listening(1);
    let since_1970 = clock::now().wall_ms / 1000 - 20;
    let mut none = Host::new(&lab, &broker, "edge-1970", -since_1970);
    let mut slow = Host::new(&lab, &broker, "edge-slow", -7 * DAY);
    let mut fast = Host::new(&lab, &broker, "edge-fast", 10 * YEAR);
    let mut lost = Host::new(&lab, &broker, "edge-lost", -3 * YEAR);
    let mut later = Host::new(&lab, &broker, "edge-later", -2 * YEAR);

    // Connected while the time is wrong: stored as it came, and flagged. For the one in the future the certificates
    // are over: it collects, and waits.
    fast.agent.wait_for_log("expired");
    for (host, seconds) in [(&none, -since_1970), (&slow, -7 * DAY), (&lost, -3 * YEAR), (&later, -2 * YEAR)] {
        wait_until(&format!("records of {}", host.name), PATIENCE, || host.lines(&hub.stored()).len() >= 10);
        for line in host.lines(&hub.stored()) {
            assert_off_by(line, seconds);
            assert!(!corrected(line), "nobody knows better yet: {line}");
        }
    }
    assert!(fast.lines(&hub.stored()).is_empty());

    // An outage; clocks are stepped; then one host loses its power and the others learn the time.
    broker.stop();
    for seconds in [3 * DAY, -8 * DAY] {
        slow.clock.set(seconds);
        slow.agent.wait_for_more(20);
    }
    [&mut none, &mut fast, &mut lost, &mut later].into_iter().for_each(|host| host.agent.wait_for_more(20));
    lost.agent.kill();
    lost.clock.reboot(&mut lost.agent, "2a2a2a2a-0000-4000-8000-2a2a2a2a2a2a");
    lost.agent.up();
    lost.agent.wait_for_more(1);
    // This one ends in good order and saves its time, which is ten years ahead of what it starts with.
    fast.agent.down();
    fast.clock.set(0);
    fast.agent.up();
    fast.agent.wait_for_more(1);
    [&none, &slow, &fast, &lost, &later].into_iter().for_each(|host| host.clock.synchronise(&host.agent));
    pass_time(ASKED_EVERY);
    [&mut none, &mut slow, &mut fast, &mut lost, &mut later].into_iter().for_each(|host| host.agent.wait_for_more(30));
    // The power of this one goes off before it could tell anybody; its next boot knows no time.
    later.agent.kill();
    later.clock.set(-YEAR);
    later.clock.reboot(&mut later.agent, "3b3b3b3b-0000-4000-8000-3b3b3b3b3b3b");
    later.agent.up();
    later.agent.wait_for_more(20);

    broker.up();
    for host in [&mut none, &mut slow, &mut fast, &mut lost, &mut later] {
        hub.wait_until_stored(&mut host.agent, PATIENCE);
        host.agent.down();
    }
    hub.kill();
    hub.up();
    wait_until("a hub that knows of no gap", PATIENCE, || hub.output(&["gaps"]).status.code() == Some(0));
    hub.down();
    let stored = hub.stored();
    assert!(stored.twice().is_empty());
    [&none, &slow, &fast].into_iter().for_each(|host| assert_put_right(host, &stored));
    assert!(fast.corrections(&stored).is_empty(), "nothing was stored before its time was known");
    let far = |line: &Json| (line["ts"].as_i64().expect("a number") - truth(line)) / 1000 / DAY;
    let steps: std::collections::BTreeSet<_> =
        slow.lines(&stored).into_iter().filter(|line| line["synced"] == false).map(far).collect();
    assert!(
        [-8, -7, 3].iter().all(|days| steps.contains(days) || steps.contains(&(days - days.signum()))),
        "{steps:?}"
    );
    assert_boots_apart(&lost, &stored);
    assert_earlier_boot_put_right(&later, &stored);
}

/// What a boot made before it learnt the time is put right, although it was over before any of that could be sent; the next
/// one, which has not learnt it, stays flagged.
fn assert_earlier_boot_put_right(host: &Host, stored: &Stored) {
    let own = own_boot();
    let unsynced = host.lines(stored).into_iter().filter(|line| line["synced"] == false);
    let (first, second): (Vec<&Json>, Vec<&Json>) = unsynced.partition(|line| line["boot"] == *own);
    let (mended, as_came): (Vec<&Json>, Vec<&Json>) = first.into_iter().partition(|line| corrected(line));
    assert!(mended.len() >= 10 && as_came.len() >= 10, "{} corrected, {} as they came", mended.len(), as_came.len());
    mended.iter().for_each(|line| assert_right(ms(line), line));
    let corrections = host.corrections(stored);
    assert!(corrections.len() == 1 && corrections[0]["boot"] == *own, "{corrections:?}");
    let offset = corrections[0]["offset"].as_i64().expect("a number");
    as_came.iter().for_each(|line| assert_right(offset + line["mono"].as_i64().expect("a number"), line));
    assert!(second.len() >= 20);
    for line in second {
        assert!(!corrected(line), "nothing is known of that boot: {line}");
        assert_off_by(line, -YEAR);
    }
}

fn own_boot() -> String {
    let own = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id");
    own.trim().to_owned()
}

/// A boot that never learnt the time stays flagged, whatever the next one knows.
fn assert_boots_apart(host: &Host, stored: &Stored) {
    let own = own_boot();
    let of_first = |line: &&&Json| line["boot"] == *own;
    let lines = host.lines(stored);
    assert!(lines.iter().filter(of_first).count() >= 30);
    for line in lines.iter().filter(of_first) {
        assert!(!corrected(line), "nothing is known of that boot: {line}");
        assert_off_by(line, -3 * YEAR);
    }
    assert!(host.corrections(stored).iter().all(|line| line["boot"] != *own));
    assert!(lines.iter().any(|line| line["synced"] == true));
}

/// One `put` on the board, and when this host's clock says that it began and ended.
struct Put {
    name: &'static str,
    count: usize,
    began_ms: i64,
    ended_ms: i64,
}

impl Put {
    fn at(agent: &Agent, name: &'static str, count: usize, time: impl Fn(usize) -> String) -> Put {
        let lines: String = (0..count).map(|n| format!("{name} n={n}i {}\n", time(n))).collect();
        let began_ms = clock::now().wall_ms;
        let output = agent.output_with(&["put", "--collector", "app"], lines.as_bytes());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Put { name, count, began_ms, ended_ms: clock::now().wall_ms }
    }

    fn lines<'a>(&self, stored: &'a Stored) -> Vec<&'a Json> {
        let lines = stored.records.values().flatten().filter(|line| line["name"] == self.name);
        lines.collect()
    }

    /// Each is there once and has, by itself or by the one correction, a time at which it was truly put.
    fn assert_put_right(&self, stored: &Stored) {
        let lines = self.lines(stored);
        let mut numbers: Vec<_> = lines.iter().map(|line| line["fields"]["n"].as_u64().expect("a number")).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..self.count as u64).collect::<Vec<_>>(), "{}", self.name);
        for line in lines {
            let time_ms = match line["synced"] == true || corrected(line) {
                true => ms(line),
                false => {
                    let [correction] = &stored.corrections[..] else { panic!("told once: {:?}", stored.corrections) };
                    assert_eq!(line["boot"], correction["boot"]);
                    correction["offset"].as_i64().expect("a number") + line["mono"].as_i64().expect("a number")
                }
            };
            let span = self.began_ms - TOLERANCE_MS..=self.ended_ms + TOLERANCE_MS;
            assert!(span.contains(&time_ms), "{time_ms} is not in {span:?}: {line}");
        }
    }
}

/// What applications put on a board that boots in 1970, before and during an outage, with and without a time of that clock, is
/// put right once at the hub; a time that is another clock's is not touched.
#[test]
fn what_is_put_under_a_clock_of_1970_is_put_right_once_at_the_hub() {
    let age = clock::now().wall_ms / 1000 - RELEASED_S + DAY;
    let lab = Lab::aged(Duration::from_secs(age as u64));
    let mut broker = Mosquitto::start(&lab, "broker");
    let mut hub = Hub::new(&lab, broker.port);
    hub.up();
    hub.listening(1);
    let since_1970 = clock::now().wall_ms / 1000 - 20;
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    agent.setup.sections = "[put]\nenabled = true\n".to_owned();
    agent.setup.collectors = burst(agent.dir(), "a", 1, 10);
    let clock = WallClock::of(&mut agent, -since_1970);
    agent.up();
    wait_until("the agent to answer", PATIENCE, || agent.output(&["status", "--json"]).status.success());
    let untimed = |_: usize| String::new();
    // As an application on the board would write it: nanoseconds since 1970 by the board's clock.
    let boards = |_: usize| format!("{}000000", clock::now().wall_ms - since_1970 * 1000);
    let others_ms = clock::now().wall_ms - DAY * 1000;
    let others = |n: usize| format!("{}000000", others_ms + n as i64);

    let connected = Put::at(&agent, "app.connected", 20, untimed);
    let seen = |hub: &Hub, put: &Put| put.lines(&hub.stored()).len() == put.count;
    wait_until("what was put to be stored", PATIENCE, || seen(&hub, &connected));
    for line in connected.lines(&hub.stored()) {
        assert_off_by(line, -since_1970);
        assert!(!corrected(line), "nobody knows better yet: {line}");
    }
    broker.stop();
    let away = Put::at(&agent, "app.away", 20, untimed);
    let timed = Put::at(&agent, "app.timed", 20, boards);
    let foreign = Put::at(&agent, "app.foreign", 20, others);
    clock.synchronise(&agent);
    pass_time(ASKED_EVERY);
    agent.wait_for_more(3);
    let later = Put::at(&agent, "app.later", 20, untimed);
    broker.up();
    hub.wait_until_stored(&mut agent, PATIENCE);
    agent.down();
    hub.kill();
    hub.up();
    wait_until("a hub that knows of no gap", PATIENCE, || hub.output(&["gaps"]).status.code() == Some(0));
    hub.down();

    let stored = hub.stored();
    assert!(stored.twice().is_empty());
    assert_eq!(stored.corrections.len(), 1, "{:?}", stored.corrections);
    [&connected, &away, &timed, &later].into_iter().for_each(|put| put.assert_put_right(&stored));
    assert!(connected.lines(&stored).into_iter().all(|line| !corrected(line)), "stored before its time was known");
    assert!([&away, &timed].into_iter().flat_map(|put| put.lines(&stored)).all(corrected));
    let foreign = foreign.lines(&stored);
    assert_eq!(foreign.len(), 20);
    for line in foreign {
        let n = line["fields"]["n"].as_i64().expect("a number");
        assert_eq!((ms(line), line["ts"].as_i64()), (others_ms + n, Some(others_ms + n)), "{line}");
        assert!(!corrected(line) && line["boot"].is_null() && line["mono"].is_null(), "{line}");
    }
}
