//! Where the show takes place: a temporary directory with room enough, and how much its metrics will be.

use std::path::Path;

use anyhow::{Context, bail};
use tempfile::TempDir;

use super::Script;
use super::agents::EVERY;
use super::stage::HOSTS;

/// A record in its MessagePack, about.
const RECORD: f64 = 200.0;
/// What an outbox takes on disk for a byte of records, at most: commits of a few records each.
const GROWTH: f64 = 8.0;
/// Beside that: certificates, logs, and outboxes that are empty.
const FIXED: u64 = 16 << 20;

/// Gone with the value unless it is told otherwise.
pub(super) fn directory(seconds: u64) -> anyhow::Result<TempDir> {
    let dir = tempfile::Builder::new().prefix("holdover-demo-").tempdir();
    let dir = dir.context("there is no temporary directory; set TMPDIR to one that you may write to")?;
    enough(dir.path(), FIXED + (rate() * GROWTH * HOSTS.len() as f64 * seconds as f64) as u64)?;
    Ok(dir)
}

fn enough(dir: &Path, needed: u64) -> anyhow::Result<()> {
    let stat =
        rustix::fs::statvfs(dir).with_context(|| format!("cannot tell how much is free in {}", dir.display()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free < needed {
        bail!(
            "{} MiB are free in {}, and this may take {} MiB; set TMPDIR to a directory with more room",
            free >> 20,
            dir.parent().unwrap_or(dir).display(),
            needed >> 20
        );
    }
    Ok(())
}

/// Bytes a second at which the backlog takes about as long as the script wants.
pub(super) fn pace(script: Script) -> u64 {
    let backlog = rate() * script.outage().as_secs_f64();
    ((backlog / script.drain.as_secs_f64().max(1.0)) as u64).max(2_000)
}

/// Bytes a second of this host's metrics: one record for each disk and network interface and three more at every run.
fn rate() -> f64 {
    let lines = |path: &str, not: &[&str]| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().filter(|line| not.iter().all(|word| !line.contains(word))).count()
    };
    let records = 3 + lines("/proc/net/dev", &["|"]) + lines("/proc/diskstats", &["loop", "ram"]);
    records as f64 * RECORD / EVERY.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_room_is_told_before_anything_starts() {
        let dir = tempfile::tempdir().unwrap();
        enough(dir.path(), 1).unwrap();
        let error = enough(dir.path(), u64::MAX).unwrap_err().to_string();
        assert!(error.contains("set TMPDIR") && error.contains("MiB"), "{error}");
    }

    #[test]
    fn the_backlog_is_paced_to_the_script_and_never_stands_still() {
        let outage = pace(Script::new(100));
        assert!(outage >= 2_000 && (rate() * 42.0 / 25.0 - outage as f64).abs() <= 2_000.0, "{outage} of {}", rate());
    }
}
