//! A large backlog sent as fast as the broker takes it: the agent beside a client that has nothing else to do.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use holdover::uplink::transport::tls::{Roots, TlsFiles};

use crate::broker::{Broker, HOST};
use crate::figure::{Figure, Outcome, Section};
use crate::median::{largest, median};
use crate::raw::{self, Drained, InFlight};
use crate::{edge, fill, packets, scratch};

pub const SECTION: Section = Section {
    name: "drain",
    about: "sending a backlog over TLS to mosquitto, pacing off, 1 MiB in flight, beside a raw client with the same records",
    run,
};

/// One below the shipped broker's Receive Maximum, as the agent has it.
const ROOM: InFlight = InFlight { messages: 39, bytes: 1 << 20 };
/// Between looks at how far the agent is.
const LOOK: Duration = Duration::from_millis(10);
/// For an agent that makes no progress at all.
const PATIENCE: Duration = Duration::from_secs(120);
/// Linux counts CPU time for others in hundredths of a second.
const TICK: f64 = 0.01;

/// One drain by the agent.
struct Replay {
    drained: Drained,
    /// The most memory it ever had.
    peak_mb: f64,
}

fn run(short: bool) -> Outcome {
    let filled = fill::outbox(short)?;
    let agent = edge::agent()?;
    let dir = scratch::dir("drain")?;
    let broker = Broker::start(&dir)?;
    let file = dir.join("packets");
    let sent = packets::write(&filled.dir, &file, ROOM)?;
    let (mut raw, mut replays) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        raw.push(raw::drain(broker.port, &broker.tls(), HOST, &file, ROOM)?);
        replays.push(replay(&agent, &filled.dir, &broker, Keys { uplink: UPLINK, broker: "" })?);
    }
    let mb = sent.bytes as f64 / 1e6;
    let of = |runs: &[Drained], what: fn(&Drained) -> f64| runs.iter().map(what).collect::<Vec<_>>();
    let ours: Vec<Drained> = replays.iter().map(|r| r.drained).collect();
    let rate = |runs: &[Drained]| mb / median(&of(runs, |d| d.seconds));
    let cpu = |runs: &[Drained]| 1e3 * median(&of(runs, |d| d.cpu_seconds)) / mb;
    let peak = largest(&replays.iter().map(|r| r.peak_mb).collect::<Vec<_>>());
    let about = format!("{mb:.0} MB in {} packets, {} records, median of 3", sent.messages, filled.records);
    let mut figures = vec![
        Figure::new("agent", rate(&ours), "MB/s").note(about),
        Figure::new("raw client", rate(&raw), "MB/s")
            .note("same window, same records in the packets of an uplink that never waits for the outbox"),
        Figure::new("agent / raw client", rate(&ours) / rate(&raw), "").budget(">= 0.7"),
        Figure::new("agent, peak memory (RSS)", peak, "MB").budget("<= 10"),
        Figure::new("agent, CPU", cpu(&ours), "ms/MB"),
        Figure::new("raw client, CPU", cpu(&raw), "ms/MB"),
    ];
    // In a short run nothing more is built.
    if !short {
        let keys = Keys { uplink: UPLINK, broker: "compression = \"zstd\"\n" };
        let packed = replay(&edge::compressing_agent()?, &filled.dir, &broker, keys)?;
        figures.push(
            Figure::new("agent, zstd", mb / packed.drained.seconds, "MB/s").note("the same records, before zstd; once"),
        );
        figures.push(Figure::new("agent, zstd, peak memory (RSS)", packed.peak_mb, "MB"));
        figures.push(Figure::new("agent, zstd, CPU", 1e3 * packed.drained.cpu_seconds / mb, "ms/MB"));
        figures.extend(without_libraries(&filled.dir, &broker, mb)?);
    }
    Ok(figures)
}

/// By the static build, once; nothing where that cannot be built, which the section `edge` says.
fn without_libraries(outbox: &Path, broker: &Broker, mb: f64) -> Result<Vec<Figure>, Box<dyn Error>> {
    let Ok(program) = edge::static_agent()? else { return Ok(Vec::new()) };
    let ours = replay(&program, outbox, broker, Keys { uplink: UPLINK, broker: "" })?;
    Ok(vec![
        Figure::new("agent, static", mb / ours.drained.seconds, "MB/s").note("once"),
        Figure::new("agent, static, peak memory (RSS)", ours.peak_mb, "MB").budget("<= 10"),
        Figure::new("agent, static, CPU", 1e3 * ours.drained.cpu_seconds / mb, "ms/MB"),
    ])
}

/// What is added to the agent's configuration.
#[derive(Clone, Copy)]
pub struct Keys<'a> {
    pub uplink: &'a str,
    pub broker: &'a str,
}

/// Nobody subscribes, so that the broker does nothing but acknowledge; that counts as delivered.
pub const UPLINK: &str = "history_rate = \"unlimited\"\nin_flight = 39\nin_flight_bytes = \"1MiB\"\n";

/// Lets the agent deliver all of the outbox in `outbox`, and puts that back as it was.
fn replay(agent: &Path, outbox: &Path, broker: &Broker, keys: Keys<'_>) -> Result<Replay, Box<dyn Error>> {
    let state = outbox.join("state-v1.redb");
    let kept = std::fs::read(&state)?;
    let mut agent = Agent::start(agent, outbox, broker.port, &broker.tls(), keys)?;
    let replay = agent.drained();
    drop(agent);
    std::fs::write(&state, kept)?;
    replay
}

/// The agent with nothing to collect, in a process of its own.
pub struct Agent {
    child: Child,
    outbox: PathBuf,
}

impl Agent {
    pub fn start(
        program: &Path,
        outbox: &Path,
        port: u16,
        tls: &TlsFiles,
        keys: Keys<'_>,
    ) -> Result<Self, Box<dyn Error>> {
        let (Roots::File(ca), Some(own)) = (&tls.roots, &tls.identity) else { return Err("no certificates".into()) };
        let config = ca.with_file_name("holdover.toml");
        let text = format!(
            "[host]\nid = \"{HOST}\"\nsite = \"lab\"\n[broker]\nurl = \"mqtts://localhost:{port}\"\nca = {ca:?}\ncert = {:?}\n\
             key = {:?}\nunheard = \"settle\"\n{}[outbox]\ndir = {outbox:?}\nmax_bytes = \"2GiB\"\n[uplink]\n{}\
             [agent]\ndefault_collectors = false\n",
            own.certificate, own.key, keys.broker, keys.uplink
        );
        std::fs::write(&config, text)?;
        let log = std::fs::File::create(ca.with_file_name("agent.log"))?;
        let mut command = Command::new(program);
        command.args(["run", "--config"]).arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(Self { child: command.spawn()?, outbox: outbox.to_owned() })
    }

    /// Waits until it is connected, then until nothing is left to send.
    fn drained(&mut self) -> Result<Replay, Box<dyn Error>> {
        self.wait(|look| look.connected)?;
        let (began, cpu) = (Instant::now(), self.cpu()?);
        self.wait(|look| look.backlog == 0)?;
        let drained = Drained { seconds: began.elapsed().as_secs_f64(), cpu_seconds: self.cpu()? - cpu };
        Ok(Replay { drained, peak_mb: self.peak_mb()? })
    }

    pub fn wait(&mut self, done: impl Fn(&Look) -> bool) -> Result<(), Box<dyn Error>> {
        let began = Instant::now();
        loop {
            if self.look().is_some_and(|look| done(&look)) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("the agent ended: {status}").into());
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("the agent got nowhere within {PATIENCE:?}").into());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// What it says of itself; nothing before it listens.
    pub fn look(&self) -> Option<Look> {
        let document: serde_json::Value = serde_json::from_str(&holdover::agent::ask(&self.outbox).ok()?).ok()?;
        Some(Look {
            connected: document["connection"]["connected"].as_bool()?,
            bytes_sent: document["connection"]["bytes_sent"].as_u64()?,
            backlog: document["status"]["backlog"].as_u64()?,
        })
    }

    /// Seconds, all threads.
    fn cpu(&self) -> Result<f64, Box<dyn Error>> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let ticks: u64 = after_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
        Ok(ticks as f64 * TICK)
    }

    fn peak_mb(&self) -> Result<f64, Box<dyn Error>> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024.0 / 1e6)
    }
}

/// One look at a running agent.
pub struct Look {
    pub connected: bool,
    pub bytes_sent: u64,
    pub backlog: u64,
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Killed rather than stopped: nothing it has still to save is wanted.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
