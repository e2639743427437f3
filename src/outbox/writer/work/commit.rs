//! What is made durable: runs, records that are stored anew, and what becomes of those that the disk refuses.

use std::sync::Arc;
use std::time::Duration;

use super::super::handle::{Reply, Returned, Stored, Waiting};
use super::super::{Edit, Event};
use super::Writer;
use crate::clock::Now;
use crate::outbox::{AppendError, Appended};
use crate::record::Run;
use crate::wire::Chunk;

/// Commits of 128 KiB in one turn: runs wait in memory meanwhile.
const REDRAWS: usize = 8;

impl Writer {
    pub(super) fn commit(&mut self, waiting: Vec<Waiting>, now: Now) {
        let mut waiting = self.let_go(waiting);
        let Some(outbox) = &mut self.opening.outbox else { return };
        let edits: Vec<Option<Edit>> = waiting.iter_mut().map(|waiting| waiting.edit.take()).collect();
        let (runs, rest): (Vec<Run>, Vec<_>) =
            waiting.into_iter().map(|w| (w.run, (w.size, w.reply, w.attempted))).unzip();
        let is_kept = |at: usize| rest.get(at).is_some_and(|(_, reply, _)| reply.is_some());
        match outbox.append_keeping(&runs, is_kept, now) {
            Ok(appended) => {
                if runs.iter().any(|run| is_vouched_for(run, now)) {
                    outbox.vouch(now);
                }
                self.shared.inbox().bytes -= rest.iter().map(|(size, ..)| size).sum::<usize>();
                if let Some(witness) = &mut self.witness {
                    appended.runs.iter().flat_map(|(_, chunks)| chunks).for_each(witness);
                }
                // Refused or too large, whole: nothing is told of their commit.
                let unstored = runs.len().saturating_sub(appended.runs.len());
                answer(&appended, &runs, rest.into_iter().map(|(_, reply, _)| reply));
                self.recovered();
                let next_seq = appended.next_seq;
                for (collector, chunks) in appended.runs {
                    (self.tell)(Event::Appended { collector, chunks, next_seq });
                }
                if !appended.losses.is_empty() {
                    (self.tell)(Event::Lost(appended.losses));
                }
                self.send_all((0..unstored).map(|_| Event::Unstored).collect());
                // One commit stores all of its runs, or refuses them all.
                self.note(edits.into_iter().flatten().collect(), appended.refused == 0, now);
            }
            Err(AppendError::Unavailable { why, retry_in, attempted: now_too }) => {
                self.broken = true;
                let waiting = runs.into_iter().zip(rest).zip(edits);
                let waiting = waiting.map(|((run, (size, reply, before)), edit)| Waiting {
                    run,
                    size,
                    reply,
                    attempted: before || now_too,
                    edit,
                });
                self.put_back(waiting.collect(), &why, now.mono + retry_in);
            }
        }
        self.problems();
    }

    /// What the runs of a commit note is saved behind it, and dropped with runs that were refused.
    fn note(&mut self, edits: Vec<Edit>, stored: bool, now: Now) {
        if edits.is_empty() {
            return;
        }
        if let Some(outbox) = self.opening.outbox.as_mut().filter(|_| stored) {
            edits.iter().for_each(|edit| edit.apply(outbox));
            self.save(now);
        }
        self.send_all(edits.iter().map(|_| Event::Noted { stored }).collect());
    }

    /// Some steps of what [`Outbox::redraw`] does; the disk's refusal ends them until another turn.
    pub(super) fn redraw(&mut self, now: Now) {
        let was_redrawing = std::mem::take(&mut self.redrawing);
        for step in 0..REDRAWS {
            let Some(outbox) = &mut self.opening.outbox else { return };
            let Ok(Some(redrawn)) = outbox.redraw(now) else {
                // Until the old seqs are durably declared, a kill brings their records back under them.
                if was_redrawing || step > 0 {
                    self.save(now);
                }
                return;
            };
            let chunks: Vec<Chunk> = redrawn.runs.into_iter().flat_map(|(_, chunks)| chunks).collect();
            if let Some(witness) = &mut self.witness {
                chunks.iter().for_each(witness);
            }
            self.send_all([Event::Redrawn(chunks), Event::Lost(redrawn.losses)].into());
        }
        self.redrawing = true;
    }

    /// Runs that could not be stored are first again, and still counted. Those that their makers keep are given back, with
    /// all that wait behind them, unless some of them may be in the file: these wait too.
    pub(super) fn put_back(&mut self, runs: Vec<Waiting>, why: &str, until: Duration) {
        self.not_before = until;
        let shared = Arc::clone(&self.shared);
        let mut inbox = shared.inbox();
        inbox.unwritable = Some(why.to_owned());
        let all = runs.into_iter().chain(std::mem::take(&mut inbox.runs));
        let (returned, left): (Vec<_>, Vec<_>) = all.partition(Waiting::can_be_returned);
        inbox.bytes -= returned.iter().map(|waiting| waiting.size).sum::<usize>();
        inbox.runs = left.into();
        inbox.since = if inbox.runs.is_empty() { None } else { inbox.since.or(Some(until)) };
        drop(inbox);
        for reply in returned.into_iter().filter_map(|waiting| waiting.reply) {
            // Whoever asked may have gone away.
            drop(reply.send(Err(Returned::Unwritable(why.to_owned()))));
            (self.tell)(Event::Unstored);
        }
    }

    /// Without those that their makers have given up.
    fn let_go(&mut self, waiting: Vec<Waiting>) -> Vec<Waiting> {
        let (gone, waiting): (Vec<_>, Vec<_>) = waiting.into_iter().partition(Waiting::is_given_up);
        self.shared.inbox().bytes -= gone.iter().map(|waiting| waiting.size).sum::<usize>();
        self.send_all(gone.iter().map(|_| Event::Unstored).collect());
        waiting
    }
}

/// Whether a time service that vouched for the clock when the run was made vouches for the present reading too: a run that
/// waited in memory says nothing of a clock that was set since. Points with a time of their own say nothing either.
fn is_vouched_for(run: &Run, now: Now) -> bool {
    run.context.synced && run.points.iter().any(|point| now.continues(point.ts, point.mono))
}

/// Tells whoever waits for one of `runs` what the commit has made of it.
fn answer(appended: &Appended, runs: &[Run], replies: impl Iterator<Item = Option<Reply>>) {
    for (run, reply) in runs.iter().zip(replies) {
        let Some(reply) = reply else { continue };
        // By identity: several may go by one name, and one without a stored record is not listed.
        let chunks = appended.runs.iter().find(|(name, _)| Arc::ptr_eq(name, &run.collector)).map(|(_, chunks)| chunks);
        let outcome = match chunks {
            Some(chunks) => Ok(Stored {
                epoch: chunks.first().map_or(0, |chunk| chunk.epoch),
                seqs: chunks.iter().map(|chunk| chunk.first..=chunk.last()).collect(),
            }),
            None if appended.refused > 0 => Err(Returned::Full),
            None => Err(Returned::Oversize),
        };
        // Whoever asked may have gone away: it is stored all the same.
        drop(reply.send(outcome));
    }
}
