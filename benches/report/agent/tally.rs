//! Everyone's subscriber, and how many values it received of whom.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use holdover::wire::{DecodeLimits, decode_envelope};

use crate::support::child::Running;
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::{PATIENCE, wait_until};

pub struct Tally {
    out: PathBuf,
    subscriber: Running,
}

impl Tally {
    /// Connected when this returns.
    pub fn start(lab: &Lab, broker: &Mosquitto) -> Self {
        let (out, log) = (lab.path("tally.out"), lab.path("tally.log"));
        let mut command = broker.client("mosquitto_sub", &lab.client("hub"));
        // Time, topic, payload in hex.
        command.args(["-q", "1", "-t", "#", "-F", "> %U %t %x"]);
        let mut subscriber = Running::start_split("mosquitto_sub", &mut command, &out, &log);
        // It subscribes right after; the warm-up is longer than that takes.
        wait_until("mosquitto_sub to connect", PATIENCE, || {
            subscriber.assert_running();
            broker.log().contains("as hub")
        });
        Self { out, subscriber }
    }

    /// Ends the subscription. Values received between two moments, by who sent them.
    pub fn values(mut self, from: SystemTime, to: SystemTime) -> Result<BTreeMap<String, u64>, Box<dyn Error>> {
        // What it has not written yet, it writes at its end.
        self.subscriber.terminate(PATIENCE);
        let mut values = BTreeMap::new();
        for line in std::fs::read_to_string(&self.out)?.lines() {
            let Some(line) = line.strip_prefix("> ") else { continue };
            let words: Vec<&str> = line.split(' ').collect();
            let [at, topic, payload] = words[..] else { continue };
            let at = UNIX_EPOCH + Duration::from_secs_f64(at.parse()?);
            if at >= from && at < to {
                let (sender, count) = count(topic, &bytes(payload)?)?;
                *values.entry(sender).or_default() += count;
            }
        }
        Ok(values)
    }
}

/// Whose message it is, and how many values it brings.
fn count(topic: &str, payload: &[u8]) -> Result<(String, u64), Box<dyn Error>> {
    let levels: Vec<&str> = topic.split('/').collect();
    match levels[..] {
        ["v1", _site, host, "m" | "h", ..] => {
            let envelope = decode_envelope(payload, &DecodeLimits::default())?;
            Ok((host.to_owned(), envelope.records.iter().map(|record| record.fields.len() as u64).sum()))
        }
        // Heartbeats and catalogues bring no values.
        ["v1", _site, host, ..] => Ok((host.to_owned(), 0)),
        // collectd: time:value[:value], below a prefix of its own.
        [sender, ..] => Ok((sender.to_owned(), payload.iter().filter(|&&byte| byte == b':').count() as u64)),
        [] => Err("a topic without a level".into()),
    }
}

fn bytes(hex: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let pairs = (0..hex.len()).step_by(2).map(|at| hex.get(at..at + 2).ok_or("half a byte"));
    pairs.map(|pair| Ok(u8::from_str_radix(pair?, 16)?)).collect()
}
