//! Too much for the disk (P5, P8): the outbox stays within `max_bytes`, a full file system stops neither agent nor
//! draining, and what is dropped is declared to the subscriber.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::agent::{Agent, burst, trickle};
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::proxy::Proxy;
use crate::support::tail::Tail;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, pass_time};

const MIB: u64 = 1 << 20;

#[test]
fn full_outbox_stays_within_its_bytes_and_declares_what_it_drops() {
    let lab = Lab::new();
    let line = Line::cut(&lab);
    let mut agent = Agent::new(&lab, "edge-01", line.proxy.port);
    agent.setup.max_bytes = "16MiB".to_owned();
    agent.setup.uplink = "history_rate = \"20MB\"\nhistory_batches = 500\n".to_owned();
    // 3 MB a second: the outbox is full after six.
    agent.setup.collectors = flood(&agent);
    agent.up();
    let outbox = agent.setup.outbox.clone();
    let (full, end) = (agent.committed() + 2_600, Instant::now() + PATIENCE * 2);
    let worst = watch(&mut agent, &outbox, |agent, _| {
        assert!(Instant::now() < end, "only {} records were committed", agent.committed());
        agent.committed() >= full
    });
    assert!(worst <= 16 * MIB, "{worst} bytes on disk, max_bytes is 16 MiB");
    assert!(worst > 8 * MIB, "only {worst} bytes on disk: it was never full");
    line.drain_and_judge(&mut agent);
}

/// `max_bytes` promises more than the file system has. The tmpfs is in a mount namespace of the agent's own, so it is
/// gone with it; as another user than root the test needs user namespaces.
#[test]
fn full_file_system_stops_neither_agent_nor_draining() {
    let lab = Lab::new();
    let line = Line::cut(&lab);
    let mut agent = Agent::new(&lab, "edge-01", line.proxy.port);
    std::fs::create_dir_all(&agent.setup.outbox).expect("own directory");
    let outbox = agent.setup.outbox.clone();
    let mount = format!("mount -t tmpfs -o size=20m none '{}' && exec \"$@\"", outbox.display());
    if rustix::process::geteuid().is_root() {
        agent.wrap(&["unshare", "--mount", "sh", "-c", &mount, "sh"]);
    } else {
        agent.wrap(&["unshare", "--mount", "--map-root-user", "sh", "-c", &mount, "sh"]);
    }
    agent.setup.max_bytes = "64MiB".to_owned();
    agent.setup.uplink = "history_rate = \"20MB\"\nhistory_batches = 500\n".to_owned();
    agent.setup.collectors = flood(&agent);
    agent.up();
    let inside = Path::new("/proc").join(agent.id().to_string()).join("root");
    let inside = inside.join(outbox.strip_prefix("/").expect("an absolute path"));
    let (mut full, end) = (None, Instant::now() + PATIENCE);
    let worst = watch(&mut agent, &inside, |_, used| {
        assert!(full.is_some() || Instant::now() < end, "{used} bytes used: the file system does not fill up");
        full = full.or((used > 15 * MIB).then(Instant::now));
        full.is_some_and(|since: Instant| since.elapsed() > Duration::from_secs(6))
    });
    assert!(worst > 16 * MIB, "only {worst} bytes on a file system of 20 MiB: it was never full");
    // Still collecting: a full disk is a reason to drop the oldest, not to stop.
    agent.wait_for_more(500);
    line.drain_and_judge(&mut agent);
}

const FLOOD: [&str; 4] = ["flood-1", "flood-2", "flood-3", "flood-4"];

/// 3 MB a second in runs that memory can hold, and a trickle beside it.
fn flood(agent: &Agent) -> String {
    FLOOD.map(|name| burst(agent.dir(), name, 60, 12_000)).concat() + &trickle(agent.dir())
}

/// The most disk space that the directory took until `done`, which is given the space of the moment.
fn watch(agent: &mut Agent, dir: &Path, mut done: impl FnMut(&mut Agent, u64) -> bool) -> u64 {
    let mut worst = 0;
    loop {
        agent.check();
        let used = blocks(dir);
        worst = worst.max(used);
        if done(agent, used) {
            return worst;
        }
        pass_time(Duration::from_millis(20));
    }
}

/// Bytes of all blocks below `dir`, as `du` counts them. Files come and go meanwhile.
fn blocks(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| {
        let about = entry.path().symlink_metadata().ok()?;
        Some(about.blocks() * 512 + if about.is_dir() { blocks(&entry.path()) } else { 0 })
    });
    sizes.sum()
}

/// Broker, witness and `tail` are there; the agent cannot reach them yet.
struct Line {
    witness: Witness,
    tail: Tail,
    proxy: Proxy,
    _broker: Mosquitto,
}

impl Line {
    fn cut(lab: &Lab) -> Line {
        let broker = Mosquitto::start(lab, "broker");
        let witness = Witness::start(lab, broker.port, "edge-01");
        let tail = Tail::start(lab, &broker, &["--fail-on-gap", "--json"]);
        let proxy = Proxy::start(broker.port);
        proxy.refuse(true);
        Line { witness, tail, proxy, _broker: broker }
    }

    /// The broker can be reached: everything arrives or has been declared, and new records go on arriving.
    fn drain_and_judge(mut self, agent: &mut Agent) {
        FLOOD.iter().for_each(|name| agent.silence(name));
        self.proxy.refuse(false);
        let witness = &mut self.witness;
        witness.wait_for_all(agent, PATIENCE * 3);
        agent.wait_for_more(100);
        witness.wait_for_all(agent, PATIENCE * 2);
        agent.down();
        witness.assert_sound(agent);
        witness.assert_no_gap();
        let losses = &witness.received.losses;
        assert!(!losses.is_empty(), "more was committed than fits, and no loss was declared");
        let (committed, received) = (agent.committed(), witness.received.records.len());
        let declared: u64 = losses.iter().map(|loss| loss.count).sum();
        eprintln!("{committed} committed, {received} received, {declared} declared lost");
        let ended = losses.iter().all(|loss| loss.to.is_some());
        assert!(ended, "a loss without an end, though the outbox was readable: {losses:?}");
        let (code, said) = self.tail.stop();
        let end: String = said.lines().rev().take(5).collect::<Vec<_>>().join("\n");
        assert!(said.contains("\"type\":\"loss\""), "tail saw no declared loss; it ended with:\n{end}");
        assert_eq!(code, Some(0), "tail calls it a gap; it ended with:\n{end}");
    }
}
