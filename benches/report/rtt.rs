//! The drain over slow round trips: what the default settings let through, and what their window alone would.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::drain::{Agent, Keys};
use crate::figure::{Figure, Outcome, Section};
use crate::{edge, fill, relay, scratch};

pub const SECTION: Section = Section {
    name: "rtt",
    about: "sending a backlog with default settings over round trips of 1, 50 and 200 ms (a delaying relay)",
    run,
};

const ROUND_TRIPS_MS: [u64; 3] = [1, 50, 200];
/// Not measured: the batch size grows from its start.
const WARM_UP: Duration = Duration::from_secs(3);

fn run(short: bool) -> Outcome {
    let filled = fill::outbox(short)?;
    let agent = edge::agent()?;
    let dir = scratch::dir("rtt")?;
    let broker = Broker::start(&dir)?;
    let span = Duration::from_secs(if short { 3 } else { 10 });
    let mut figures = Vec::new();
    for ms in ROUND_TRIPS_MS {
        let port = relay::start(broker.port, Duration::from_millis(ms))?;
        let rate = rate(&agent, &filled.dir, &broker, (port, ""), span)?;
        let note = "default: at most 480 kB/s and 8 batches/s, 10 messages and 64 KiB in flight";
        figures.push(Figure::new(format!("default settings, {ms} ms"), rate, "kB/s").note(note));
    }
    for ms in [50, 200] {
        let port = relay::start(broker.port, Duration::from_millis(ms))?;
        let rate = rate(&agent, &filled.dir, &broker, (port, "history_rate = \"unlimited\"\n"), span)?;
        let note = format!("64 KiB each round trip are {:.0} kB/s", 65_536.0 / ms as f64);
        figures.push(Figure::new(format!("default window, not paced, {ms} ms"), rate, "kB/s").note(note));
    }
    Ok(figures)
}

/// kB of payload a second. The outbox is put back as it was.
fn rate(
    program: &Path,
    outbox: &Path,
    broker: &Broker,
    (port, uplink): (u16, &str),
    span: Duration,
) -> Result<f64, Box<dyn Error>> {
    let state = outbox.join("state-v1.redb");
    let kept = std::fs::read(&state)?;
    let mut agent = Agent::start(program, outbox, port, &broker.tls(), Keys { uplink, broker: "" })?;
    agent.wait(|look| look.connected)?;
    std::thread::sleep(WARM_UP);
    let first = agent.look().ok_or("the agent does not answer")?;
    let began = Instant::now();
    std::thread::sleep(span);
    let last = agent.look().ok_or("the agent does not answer")?;
    let seconds = began.elapsed().as_secs_f64();
    drop(agent);
    std::fs::write(&state, kept)?;
    if last.backlog == 0 {
        return Err("the backlog was too small for this".into());
    }
    Ok((last.bytes_sent - first.bytes_sent) as f64 / 1e3 / seconds)
}
