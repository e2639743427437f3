//! What is brought from before: where the sink stands, and what the tracker knew.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::LAST_ATTEMPT;
use super::adopt::{adopt, begin_batch};
use super::options::IngestError;
use super::socket::{self, Bound};
use super::writer::{FIRST_WAIT, LONGEST_WAIT};
use crate::aside;
use crate::clock::{self, Now};
use crate::hub::ledger::{Ledger, LedgerError};
use crate::hub::repeats::Repeats;
use crate::hub::sinks::{Sink, SinkError};
use crate::hub::tracker::{Bounds, Tracker};

/// `hosts` and `gaps` read the ledger themselves while no hub runs, and let go of it within moments.
const READERS: u32 = 40;
const READ: Duration = Duration::from_millis(250);

/// A ledger, and the sink that it keeps account of.
pub(super) type Store = (Ledger, Box<dyn Sink>);

/// Opens the ledger, in a directory that is made if need be, and the sink. May block.
pub(super) fn open(dir: &Path, sink: impl FnOnce() -> Result<Box<dyn Sink>, SinkError>) -> Result<Store, IngestError> {
    std::fs::create_dir_all(dir).map_err(|source| IngestError::Dir { path: dir.to_owned(), source })?;
    Ok((Ledger::open(dir)?, sink()?))
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

/// Opens and brings what is from before, beside the runtime's thread: a disk may hang. One that is full, fails or is away is
/// waited for, as the writer does: it is no reason to stay down. What will not pass by itself is an error. `None`: stopped.
pub(super) async fn settle(
    open: impl Fn() -> Result<Store, IngestError> + Send + 'static,
    mut stop: Pin<&mut impl Future<Output = ()>>,
) -> Result<Option<(Ground, Bound)>, IngestError> {
    let (mut start, mut readers) = (Start { open, store: None }, 0);
    let (mut wait, mut said) = (FIRST_WAIT, Repeats::default());
    loop {
        let stopped = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stopped);
        let attempt = move || {
            let found = start.attempt(&|| flag.load(Ordering::Relaxed));
            (start, found)
        };
        let mut attempt = aside::run("hub-start", attempt);
        let ended = tokio::select! {
            ended = &mut attempt => ended,
            () = stop.as_mut() => {
                stopped.store(true, Ordering::Relaxed);
                if timeout(LAST_ATTEMPT, attempt).await.is_err() {
                    tracing::warn!("the disk does not answer: ending without it");
                }
                return Ok(None);
            }
        };
        let found;
        (start, found) = ended.map_err(|lost| IngestError::Internal(format!("cannot begin: {lost}")))?;
        let error = match found {
            Ok(brought) => return Ok(brought.and_then(|brought| start.into_ground(brought))),
            Err(error) => error,
        };
        let pause = match error {
            IngestError::Ledger(LedgerError::InUse(_)) if readers < READERS => {
                readers += 1;
                READ
            }
            error if error.may_pass() => {
                let detail = format!("; trying again in {:.1} s", wait.as_secs_f64());
                let why = format!("cannot begin: {error}");
                said.say(&why, &detail, clock::now().mono).inspect(|text| tracing::error!("{text}"));
                let next = (wait * 2).min(LONGEST_WAIT);
                std::mem::replace(&mut wait, next)
            }
            error if error.is_lasting() => return Err(IngestError::Unusable(Box::new(error))),
            error => return Err(error),
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = stop.as_mut() => return Ok(None),
        }
    }
}

/// What one attempt leaves to the next.
struct Start<F> {
    open: F,
    store: Option<Store>,
}

type Brought = (Tracker, BTreeMap<String, String>, Bound);

impl<F: Fn() -> Result<Store, IngestError>> Start<F> {
    /// `None`: stopped.
    fn attempt(&mut self, stopped: &dyn Fn() -> bool) -> Result<Option<Brought>, IngestError> {
        let (ledger, sink) = match &mut self.store {
            Some(store) => store,
            none => none.insert((self.open)()?),
        };
        adopt(ledger, sink.as_mut(), stopped)?;
        if stopped() {
            return Ok(None);
        }
        let now = clock::now();
        begin(ledger, sink.as_mut(), now)?;
        let (tracker, sites) = remembered(ledger, now)?;
        let dir = ledger.dir();
        let bound = socket::bind(dir).map_err(|source| IngestError::Dir { path: dir.to_owned(), source })?;
        Ok(Some((tracker, sites, bound)))
    }

    fn into_ground(self, (tracker, sites, bound): Brought) -> Option<(Ground, Bound)> {
        self.store.map(|(ledger, sink)| (Ground { ledger, sink, tracker, sites }, bound))
    }
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
    use std::cell::Cell;
    use std::future::pending;
    use std::io;
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;
    use crate::hub::sinks::{Begun, Beyond, Correction, Stored};

    /// Longer than any of this takes.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Full for so many reads; then it hangs until it is let go, goes on without end, or is at its end.
    #[derive(Default)]
    struct Planted {
        full: usize,
        hangs: Option<Mutex<Receiver<()>>>,
        endless: bool,
    }

    fn planted(source: io::Error) -> SinkError {
        SinkError { what: "planted", path: "/nowhere".into(), source }
    }

    impl Sink for Planted {
        fn beyond(&mut self, _: Option<&str>) -> Result<Option<Beyond>, SinkError> {
            if self.full > 0 {
                self.full -= 1;
                return Err(planted(io::ErrorKind::StorageFull.into()));
            }
            if let Some(word) = &self.hangs {
                word.lock().unwrap().recv().ok();
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

    async fn started(
        open: impl Fn() -> Result<Store, IngestError> + Send + 'static,
        stop: impl Future<Output = ()>,
    ) -> Result<Option<Ground>, IngestError> {
        let stop = std::pin::pin!(stop);
        let settled = timeout(PATIENCE, settle(open, stop)).await.expect("it ends");
        settled.map(|ground| ground.map(|(ground, _)| ground))
    }

    /// In a directory of its own, with this sink, which is opened once.
    async fn settled(sink: Planted, stop: impl Future<Output = ()>) -> Result<Option<Ground>, IngestError> {
        let dir = tempfile::tempdir().unwrap();
        let (path, sink) = (dir.path().to_owned(), Cell::new(Some(sink)));
        started(move || open(&path, || Ok(Box::new(sink.take().expect("opened once")))), stop).await
    }

    #[tokio::test]
    async fn a_start_on_a_full_disk_waits_for_room() {
        let sink = Planted { full: 2, ..Planted::default() };
        assert!(settled(sink, pending()).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_start_without_a_thread_is_an_error_that_says_so() {
        let start = aside::without_threads(settled(Planted::default(), pending()));
        let error = start.await.err().expect("there is no thread");
        assert!(error.to_string().contains("cannot begin: the system gives no thread"), "{error}");
    }

    #[tokio::test]
    async fn a_start_that_waits_reads_or_hangs_ends_when_it_is_told_to() {
        let (word, hangs) = sync_channel(1);
        for sink in [
            Planted { endless: true, ..Planted::default() },
            Planted { full: usize::MAX, ..Planted::default() },
            Planted { hangs: Some(Mutex::new(hangs)), ..Planted::default() },
        ] {
            assert!(settled(sink, sleep(Duration::from_millis(50))).await.unwrap().is_none());
        }
        drop(word);
    }

    /// A disk that is away is waited for also where it is opened; a wrong path and a missing right are told, and end it.
    #[tokio::test]
    async fn what_cannot_be_opened_is_waited_for_when_it_may_pass_and_is_an_error_when_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let attempts = Arc::new(Mutex::new(vec![io::ErrorKind::Other, io::ErrorKind::StorageFull]));
        let opening = move || {
            let fails = attempts.lock().unwrap().pop();
            open(&path, || fails.map_or(Ok(Box::new(Planted::default())), |kind| Err(planted(kind.into()))))
        };
        assert!(started(opening, pending()).await.unwrap().is_some());

        let refused = || Err(planted(io::ErrorKind::PermissionDenied.into()).into());
        let error = started(refused, pending()).await.err().expect("it is not waited for");
        assert!(matches!(error, IngestError::Unusable(_)), "{error}");
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let below = move || open(&file.join("below"), || Ok(Box::new(Planted::default())));
        let error = started(below, pending()).await.err().expect("it is not waited for");
        assert!(error.to_string().contains("file/below: Not a directory"), "{error}");
    }
}
