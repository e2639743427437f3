//! What the tests against real programs stand on: a laboratory of certificates, mosquitto, the agent, the witness,
//! a proxy that breaks connections, and the oracle that judges.
//!
//! Everything started here is a child of the test, lives in a temporary directory, listens on 127.0.0.1 and is
//! ended by its process id when its owner is dropped.

pub mod agent;
pub mod child;
pub mod clock;
pub mod front;
pub mod hub;
pub mod judge;
pub mod lab;
pub mod mosquitto;
pub mod oracle;
pub mod proxy;
pub mod python;
pub mod random;
pub mod scripted_broker;
pub mod scripted_hub;
pub mod sub;
pub mod tail;
pub mod witness;

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// A debug build on a busy two-core machine; nothing waits this long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// An interpreter for the tools.
pub fn python() -> Command {
    let mut command = Command::new(python::with_modules(&["msgpack", "paho.mqtt.client", "zstandard"]));
    // A clean clone stays clean.
    command.arg("-B");
    command
}

pub fn tool(name: &str) -> PathBuf {
    root().join("tests/tools").join(name)
}

/// Polls until `condition` gives a value; panics with `what` and `details` after `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "waited {limit:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, limit, || condition().then_some(()));
}

/// Lets real time pass while real programs do something; never used to wait for a condition.
pub fn pass_time(span: Duration) {
    std::thread::sleep(span);
}

/// How much of something a campaign asks for, or a seed to repeat.
pub fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text:?} is not a number")))
}

/// A port nobody listens on. Below the range that the kernel hands out to outgoing connections, so that a broker
/// that is stopped finds it free when it is started again.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 20_000;
    let own = u16::try_from(u64::from(std::process::id()) * 97 % u64::from(COUNT)).expect("below COUNT");
    for _ in 0..COUNT {
        let port = FIRST + (own + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

pub fn read_lossy(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The end of a log, for a failing test's output.
pub fn tail_of(path: &Path, lines: usize) -> String {
    let text = read_lossy(path);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
