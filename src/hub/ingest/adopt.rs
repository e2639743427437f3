//! What the sink holds and the ledger does not know becomes known before a batch is written behind it: after a crash between the two
//! commits, when an older ledger was put back or files were while we run, and when it was lost. A commit for each part, so that memory is bounded.

use std::time::Duration;

use super::commit::CommitError;
use crate::clock::Now;
use crate::hub::ledger::{Draft, Ledger, LedgerError};
use crate::hub::repeats::HostRepeats;
use crate::hub::sinks::{Begun, Beyond, Found, Sink, SinkError};

/// More often than this nobody puts files there while they are read.
const AGAIN: usize = 5;

/// Begins a batch of the sink where the ledger stands, having learnt what lies behind.
pub(super) fn begin_batch(ledger: &mut Ledger, sink: &mut dyn Sink, now: Now) -> Result<(), CommitError> {
    for _ in 0..AGAIN {
        let position = ledger.position()?.map(str::to_owned);
        if sink.begin(position.as_deref(), now)? == Begun::Ready {
            return Ok(());
        }
        adopt(ledger, sink, &|| false)?;
    }
    let source = std::io::Error::other("there is always more in it than was read");
    Err(SinkError { what: "cannot read back", path: ledger.dir().to_owned(), source }.into())
}

/// Until nothing is left, or between two parts `stopped`: the next start goes on there.
pub(super) fn adopt(ledger: &mut Ledger, sink: &mut dyn Sink, stopped: &dyn Fn() -> bool) -> Result<(), CommitError> {
    let (mut news, mut lines) = (HostRepeats::default(), 0);
    let mut position = ledger.position()?.map(str::to_owned);
    while let Some(part) = sink.beyond(position.as_deref())? {
        let mut draft = ledger.draft()?;
        take(&mut draft, &part)?;
        draft.commit(&part.position)?;
        for ((host, what), epoch) in ledger.take_forgotten() {
            news.say(&host, what.text(), Duration::ZERO).inspect(|text| tracing::warn!(host, epoch, "{text}"));
        }
        lines += part.rows.len();
        position = Some(part.position);
        if stopped() {
            break;
        }
    }
    if lines > 0 {
        tracing::info!(lines, "the files held what the ledger did not know: it is stored, and known now");
    }
    Ok(())
}

fn take(draft: &mut Draft<'_>, part: &Beyond) -> Result<(), LedgerError> {
    for run in part.rows.chunk_by(follows) {
        match (&run[0], &run[run.len() - 1]) {
            (Found::Record { host, site, epoch, seq: from, boot }, Found::Record { seq: to, .. }) => {
                let row = draft.host(host)?;
                let heard = row.last_ms.max(part.since_ms);
                row.hear(site, Some(*epoch), heard);
                if let Some((boot, offset)) = boot {
                    row.clocks.found(boot, *epoch, *from..=*to, *offset);
                }
                let account = draft.account(host, *epoch)?;
                account.take(*from..=*to);
                account.last_ms = account.last_ms.max(part.since_ms);
                if account.first_ms == 0 {
                    account.first_ms = part.since_ms;
                }
            }
            (Found::Correction { host, boot, offset_ms }, _) => draft.host(host)?.clocks.told(boot, *offset_ms),
            (Found::Record { .. }, Found::Correction { .. }) => {}
        }
    }
    Ok(())
}

/// Whether `b` is the record behind `a`, of the same epoch and timed alike.
fn follows(a: &Found, b: &Found) -> bool {
    match (a, b) {
        (
            Found::Record { host, site, epoch, seq, boot },
            Found::Record { host: host_b, site: site_b, epoch: epoch_b, seq: seq_b, boot: boot_b },
        ) => seq.checked_add(1) == Some(*seq_b) && (host, site, epoch, boot) == (host_b, site_b, epoch_b, boot_b),
        _ => false,
    }
}
