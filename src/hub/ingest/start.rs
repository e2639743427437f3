//! What is brought from before: where the sink stands, and what the tracker knew.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::adopt::{adopt, begin_batch};
use super::options::IngestError;
use crate::clock::Now;
use crate::hub::ledger::{Ledger, LedgerError};
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
    adopt(ledger, sink)?;
    begin_batch(ledger, sink, now)?;
    if ledger.position()?.is_none() {
        let position = sink.flush()?;
        ledger.draft()?.commit(&position)?;
    }
    Ok(())
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
