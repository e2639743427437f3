//! What is brought from before: where the sink stands, and what the tracker knew.

use std::collections::BTreeMap;

use super::options::IngestError;
use crate::clock::Now;
use crate::hub::ledger::Ledger;
use crate::hub::sinks::Sink;
use crate::hub::tracker::{Bounds, Tracker};

/// Agrees with the sink on where it stands, before the first batch: what lies behind it is then a batch's.
pub fn begin(ledger: &mut Ledger, sink: &mut dyn Sink, now: Now) -> Result<(), IngestError> {
    let position = ledger.position()?.map(str::to_owned);
    sink.begin(position.as_deref(), now)?;
    if position.is_none() {
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
