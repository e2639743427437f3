//! What is done at night: the audit, and forgetting what is complete and long silent.
//!
//! The cron card's scheduler only says when, in UTC; the writer's thread does it. It is handed out over a channel of
//! one place: a run that is due while the last has not begun is that one.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use super::options::IngestError;
use crate::clock::Now;
use crate::hub::accounts::{self, HostsDocument};
use crate::hub::ledger::{Ledger, LedgerError};

/// 03:17:00 UTC: when few look, and not when everybody's jobs start.
pub const NIGHTLY: &str = "0 17 3 * * *";
/// Directory of the audits within the hub's.
pub const AUDITS: &str = "audit";
/// Audits that are kept.
const KEPT: usize = 60;
/// Hosts that the log names.
const NAMED: usize = 10;

/// Runs until the runtime ends.
pub(super) struct Housekeeping {
    scheduler: JobScheduler,
}

impl Housekeeping {
    pub async fn start(schedule: &str, due: mpsc::Sender<()>) -> Result<Self, IngestError> {
        let failed = |e: JobSchedulerError| IngestError::Internal(format!("housekeeping cannot be scheduled: {e}"));
        let scheduler = JobScheduler::new().await.map_err(failed)?;
        scheduler.add(job(schedule, due).map_err(failed)?).await.map_err(failed)?;
        scheduler.start().await.map_err(failed)?;
        Ok(Self { scheduler })
    }

    pub async fn end(mut self) {
        if let Err(error) = self.scheduler.shutdown().await {
            tracing::debug!(%error, "the scheduler had ended");
        }
    }
}

/// Never `new_repeated`: after a stall longer than its period it never runs again.
fn job(schedule: &str, due: mpsc::Sender<()>) -> Result<Job, JobSchedulerError> {
    Job::new_async(schedule, move |_, _| {
        let due = due.clone();
        Box::pin(async move {
            if due.try_send(()).is_err() {
                tracing::debug!("housekeeping is due while the last has not begun");
            }
        })
    })
}

/// Whether the scheduler reads it; for the command line.
pub fn check_schedule(schedule: &str) -> Result<(), String> {
    let (due, _) = mpsc::channel(1);
    job(schedule, due).map(drop).map_err(|e| format!("{e}; write it with seconds, in UTC, such as {NIGHTLY:?}"))
}

#[derive(Debug, thiserror::Error)]
pub(super) enum HousekeepingError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("cannot write the audit {path}: {source}")]
    Audit { path: PathBuf, source: std::io::Error },
}

/// All of it.
pub(super) fn keep_house(
    ledger: &mut Ledger,
    dir: &Path,
    forget_after: Duration,
    now: Now,
) -> Result<(), HousekeepingError> {
    let document = accounts::hosts(&ledger.view()?, now)?;
    tell(&document);
    write_audit(&dir.join(AUDITS), &document)?;
    let forgotten = forget(ledger, forget_after, now)?;
    if forgotten > 0 {
        tracing::info!(
            epochs = forgotten,
            "forgot what is complete and was silent for {} days",
            forget_after.as_secs() / 86_400
        );
    }
    Ok(())
}

fn tell(document: &HostsDocument) {
    let sum = |part: fn(&accounts::HostDocument) -> u64| document.hosts.iter().map(part).fold(0, u64::saturating_add);
    let (stored, declared, missing) = (sum(|h| h.stored), sum(|h| h.absent.declared), sum(|h| h.absent.missing));
    tracing::info!(hosts = document.hosts.len(), stored, declared, missing, "audit");
    let incomplete = document.hosts.iter().filter(|host| host.absent.missing > 0);
    for host in incomplete.clone().take(NAMED) {
        tracing::warn!(
            host = host.host,
            missing = host.absent.missing,
            "audit: records are missing; see `holdover-hub gaps`"
        );
    }
    if let Some(more) = incomplete.count().checked_sub(NAMED).filter(|more| *more > 0) {
        tracing::warn!("audit: and {more} more hosts");
    }
}

/// Complete or not at all; the oldest make room.
fn write_audit(dir: &Path, document: &HostsDocument) -> Result<(), HousekeepingError> {
    let at = jiff::Timestamp::from_millisecond(document.at_ms).unwrap_or_default();
    let path = dir.join(format!("audit-{}.json", at.strftime("%Y%m%dT%H%M%SZ")));
    let write = || {
        std::fs::create_dir_all(dir)?;
        let (temp, text) = (dir.join("audit.tmp"), serde_json::to_vec_pretty(document)?);
        let fill = || {
            let mut file = std::fs::File::create(&temp)?;
            file.write_all(&text)?;
            file.sync_all()
        };
        // A full disk is not made fuller by an attempt.
        fill().inspect_err(|_| drop(std::fs::remove_file(&temp)))?;
        std::fs::rename(&temp, &path)?;
        let mut audits = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("audit-") && name.ends_with(".json") {
                audits.push(path);
            }
        }
        audits.sort();
        let excess = audits.len().saturating_sub(KEPT);
        audits.iter().take(excess).try_for_each(std::fs::remove_file)
    };
    write().map_err(|source| HousekeepingError::Audit { path: path.clone(), source })
}

/// Epochs that are complete, not their host's last, and silent; returns how many.
fn forget(ledger: &mut Ledger, after: Duration, now: Now) -> Result<usize, LedgerError> {
    let limit = now.wall_ms.saturating_sub(i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
    let mut silent = Vec::new();
    ledger.view()?.each(|host, row, accounts| {
        for (epoch, account) in accounts {
            let promised = row.promises(*epoch).next().is_some();
            if *epoch != row.epoch && account.last_ms < limit && !promised && account.missing().is_empty() {
                silent.push((host.to_owned(), *epoch));
            }
        }
    })?;
    let Some(position) = ledger.position()?.map(str::to_owned).filter(|_| !silent.is_empty()) else { return Ok(0) };
    let mut draft = ledger.draft()?;
    silent.iter().for_each(|(host, epoch)| draft.remove(host, *epoch));
    draft.commit(&position)?;
    Ok(silent.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    fn now(day: i64) -> Now {
        Now { mono: Duration::ZERO, boot: Duration::ZERO, wall_ms: 1_790_000_000_000 + day * DAY }
    }

    fn epochs(ledger: &mut Ledger) -> Vec<u64> {
        let mut epochs = Vec::new();
        let mut note = |_: &str, _: &_, accounts: &[(u64, _)]| epochs.extend(accounts.iter().map(|(epoch, _)| *epoch));
        ledger.view().unwrap().each(|a, b, c| note(a, b, c)).unwrap();
        epochs
    }

    #[test]
    fn complete_and_silent_epochs_are_forgotten_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        let mut draft = ledger.draft().unwrap();
        for (epoch, seqs, day) in [(1, 1..=9, 0), (2, 3..=9, 0), (3, 1..=9, 50), (4, 1..=9, 0), (5, 1..=9, 99)] {
            draft.host("a").unwrap().hear("lab", Some(epoch), now(day).wall_ms);
            let account = draft.account("a", epoch).unwrap();
            account.take(seqs);
            account.last_ms = now(day).wall_ms;
        }
        draft.commit("x").unwrap();
        let days = |n: u64| Duration::from_secs(n * 86_400);
        keep_house(&mut ledger, dir.path(), days(200), now(100)).unwrap();
        assert_eq!(epochs(&mut ledger), [1, 2, 3, 4, 5]);
        keep_house(&mut ledger, dir.path(), days(90), now(101)).unwrap();
        assert_eq!(epochs(&mut ledger), [2, 3, 5], "2 is incomplete, 3 not silent for long, 5 the last");
        assert_eq!(ledger.position().unwrap(), Some("x"));
        for day in 102..200 {
            keep_house(&mut ledger, dir.path(), days(900), now(day)).unwrap();
        }
        let audits = std::fs::read_dir(dir.path().join(AUDITS)).unwrap().count();
        assert_eq!(audits, KEPT);
    }

    #[test]
    fn schedules_are_checked_before_anything_starts() {
        assert_eq!(check_schedule(NIGHTLY), Ok(()));
        assert!(check_schedule("17 3 * *").unwrap_err().contains("with seconds"));
    }
}
