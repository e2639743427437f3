//! What is brought from before: where the sink stands, and what the tracker knew.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::adopt::{adopt, begin_batch};
use super::options::IngestError;
use super::writer::{FIRST_WAIT, LONGEST_WAIT};
use crate::aside;
use crate::clock::{self, Now};
use crate::hub::ledger::{Ledger, LedgerError};
use crate::hub::repeats::Repeats;
use crate::hub::sinks::Sink;
use crate::hub::tracker::{Bounds, Tracker};

/// `hosts` and `gaps` read the ledger themselves while no hub runs, and let go of it within moments.
const READERS: u32 = 40;
const READ: Duration = Duration::from_millis(250);

/// Opens the ledger, in a directory that is made if need be; another hub's is refused only after a while.
pub(super) async fn open(dir: &Path) -> Result<Ledger, IngestError> {
    let unusable = |e: std::io::Error| IngestError::Dir { path: dir.to_owned(), why: e.to_string() };
    std::fs::create_dir_all(dir).map_err(unusable)?;
    for _ in 0..READERS {
        match Ledger::open(dir) {
            Err(LedgerError::InUse(_)) => tokio::time::sleep(READ).await,
            opened => return Ok(opened?),
        }
    }
    Ok(Ledger::open(dir)?)
}

/// Agrees with the sink on where it stands, before the first batch.
pub fn begin(ledger: &mut Ledger, sink: &mut dyn Sink, now: Now) -> Result<(), IngestError> {
    adopt(ledger, sink, &|| false)?;
    begin_batch(ledger, sink, now)?;
    if ledger.position()?.is_none() {
        let position = sink.flush()?;
        ledger.draft()?.commit(&position)?;
    }
    Ok(())
}

pub(super) struct Ground {
    pub ledger: Ledger,
    pub sink: Box<dyn Sink>,
    pub tracker: Tracker,
    pub sites: BTreeMap<String, String>,
}

/// Brings what is from before, beside the runtime's thread. A full disk is waited for, as the writer does: it is no reason
/// to stay down. `None`: stopped.
pub(super) async fn settle(
    mut ledger: Ledger,
    mut sink: Box<dyn Sink>,
    mut stop: Pin<&mut impl Future<Output = ()>>,
) -> Result<Option<Ground>, IngestError> {
    let (mut wait, mut said) = (FIRST_WAIT, Repeats::default());
    loop {
        let stopped = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stopped);
        let attempt = move || {
            let found = bring(&mut ledger, sink.as_mut(), &|| flag.load(Ordering::Relaxed));
            (ledger, sink, found)
        };
        let mut attempt = aside::run("hub-start", attempt);
        let ended = tokio::select! {
            ended = &mut attempt => ended,
            () = stop.as_mut() => {
                stopped.store(true, Ordering::Relaxed);
                attempt.await.ok();
                return Ok(None);
            }
        };
        let found;
        (ledger, sink, found) = ended.map_err(|lost| IngestError::Internal(format!("cannot begin: {lost}")))?;
        let error = match found {
            Ok((tracker, sites)) => return Ok(Some(Ground { ledger, sink, tracker, sites })),
            Err(error @ (IngestError::Sink(_) | IngestError::Ledger(LedgerError::Io { .. }))) => error,
            Err(error) => return Err(error),
        };
        let why = format!("cannot begin: {error}");
        let detail = format!("; trying again in {:.1} s", wait.as_secs_f64());
        said.say(&why, &detail, clock::now().mono).inspect(|text| tracing::error!("{text}"));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.as_mut() => return Ok(None),
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

fn bring(
    ledger: &mut Ledger,
    sink: &mut dyn Sink,
    stopped: &dyn Fn() -> bool,
) -> Result<(Tracker, BTreeMap<String, String>), IngestError> {
    adopt(ledger, sink, stopped)?;
    if stopped() {
        return Ok((Tracker::of_everything(Bounds::default()), BTreeMap::new()));
    }
    let now = clock::now();
    begin(ledger, sink, now)?;
    remembered(ledger, now)
}

/// A tracker that knows what the ledger knows.
pub fn remembered(ledger: &mut Ledger, now: Now) -> Result<(Tracker, BTreeMap<String, String>), IngestError> {
    let mut tracker = Tracker::of_everything(Bounds::default());
    let mut sites = BTreeMap::new();
    ledger.view()?.each(|host, row, accounts| {
        let mut accounts: Vec<_> = accounts.iter().collect();
        accounts.sort_by_key(|(epoch, account)| (*epoch == row.epoch, account.last_ms));
        for (epoch, account) in accounts {
            tracker.remember(host, *epoch, &account.seen, account.next, now);
            tracker.declare(host, &account.losses(*epoch));
        }
        if tracker.knows(host) {
            sites.insert(host.to_owned(), row.site.clone());
        }
    })?;
    Ok((tracker, sites))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::sinks::{Begun, Beyond, Correction, SinkError, Stored};

    /// Full for so many reads; then without end, or at its end.
    struct Planted {
        full: usize,
        endless: bool,
    }

    impl Sink for Planted {
        fn beyond(&mut self, _: Option<&str>) -> Result<Option<Beyond>, SinkError> {
            if self.full > 0 {
                self.full -= 1;
                let source = std::io::ErrorKind::StorageFull.into();
                return Err(SinkError { what: "planted", path: "/nowhere".into(), source });
            }
            Ok(self.endless.then(|| Beyond { rows: Vec::new(), since_ms: 1, position: "1".to_owned() }))
        }
        fn begin(&mut self, _: Option<&str>, _: Now) -> Result<Begun, SinkError> {
            Ok(Begun::Ready)
        }
        fn write(&mut self, _: &Stored<'_>) -> Result<(), SinkError> {
            Ok(())
        }
        fn correct(&mut self, _: &Correction<'_>) -> Result<(), SinkError> {
            Ok(())
        }
        fn flush(&mut self) -> Result<String, SinkError> {
            Ok("0".to_owned())
        }
    }

    async fn settled(sink: Planted, stop: impl Future<Output = ()>) -> Option<Ground> {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path()).unwrap();
        tokio::pin!(stop);
        settle(ledger, Box::new(sink), stop).await.unwrap()
    }

    #[tokio::test]
    async fn a_start_on_a_full_disk_waits_for_room() {
        assert!(settled(Planted { full: 2, endless: false }, std::future::pending()).await.is_some());
    }

    #[tokio::test]
    async fn a_start_without_a_thread_is_an_error_that_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path()).unwrap();
        let sink = Box::new(Planted { full: 0, endless: false });
        let stop = std::pin::pin!(std::future::pending());
        let error = aside::without_threads(settle(ledger, sink, stop)).await.err().expect("there is no thread");
        assert!(error.to_string().contains("cannot begin: the system gives no thread"), "{error}");
    }

    #[tokio::test]
    async fn a_start_that_waits_or_reads_ends_when_it_is_told_to() {
        for full in [0, usize::MAX] {
            let stop = tokio::time::sleep(Duration::from_millis(50));
            assert!(settled(Planted { full, endless: true }, stop).await.is_none());
        }
    }
}
