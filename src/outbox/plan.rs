//! What one append will store: seqs are drawn in order, and runs cut into values. Pure.

use std::sync::Arc;

use super::segment::Batch;
use super::value::{self, Burn, Times};
use crate::clock::Now;
use crate::record::{ClockContext, NO_MONO, Point, Record, Run};
use crate::wire::{Chunk, LossReason, encode_record};

/// Everything one append will store, with its seqs drawn but not yet used.
#[derive(Default)]
pub(super) struct Plan {
    pub batch: Batch,
    pub runs: Vec<(Arc<str>, Vec<Chunk>)>,
    pub burns: Vec<Burn>,
    pub next: u64,
}

/// In `epoch` from the seq `next` on, burns for what is owed first.
pub(super) fn of(
    epoch: u64,
    next: u64,
    owed: impl Iterator<Item = (u64, LossReason, Times)>,
    runs: &[Run],
    now: Now,
) -> Plan {
    let mut planner = Planner { epoch, now, plan: Plan { next, ..Plan::default() } };
    owed.for_each(|(count, reason, times)| planner.burn(count, reason, times));
    runs.iter().for_each(|run| planner.run(run));
    let mut plan = planner.plan;
    plan.batch.burns = plan.burns.iter().map(|burn| (burn.first, value::encode_burn(epoch, burn))).collect();
    plan
}

/// Draws seqs in order and cuts runs into values.
struct Planner {
    epoch: u64,
    now: Now,
    plan: Plan,
}

impl Planner {
    fn burn(&mut self, count: u64, reason: LossReason, times: Times) {
        let first = self.plan.next;
        self.plan.next += count;
        if let Some(last) = self.plan.burns.last_mut().filter(|b| b.reason == reason && b.last() + 1 == first) {
            last.count += count;
            last.times = last.times.join(times);
        } else {
            self.plan.burns.push(Burn { first, count, reason, times });
        }
    }

    fn run(&mut self, run: &Run) {
        let room = value::maps_room(&run.context);
        let foreign = foreign(&run.context);
        let mut context = &run.context;
        let mut open = Open::new(self.plan.next);
        let mut chunks = Vec::new();
        let mut map = Vec::new();
        for point in &run.points {
            let is_foreign = point.mono == NO_MONO;
            let mono = if is_foreign { self.now.boot_ms() } else { point.mono };
            let its = if is_foreign { &foreign } else { &run.context };
            map.clear();
            encode_record(&Record::new(self.plan.next, Point { mono, ..point.clone() }), &mut map);
            if map.len() > room {
                self.close(&mut open, context, &mut chunks);
                self.burn(1, LossReason::Oversize, Times::of(point.ts));
                open = Open::new(self.plan.next);
                continue;
            }
            if open.maps.len() + map.len() > room || its != context {
                self.close(&mut open, context, &mut chunks);
            }
            context = its;
            open.maps.extend_from_slice(&map);
            // Not by its `ts`: the age of a record is that of its storing, whatever an application or a wrong clock says.
            let made = Times::of(self.now.wall_at(mono));
            open.times = if open.count == 0 { made } else { open.times.join(made) };
            open.count += 1;
            self.plan.next += 1;
        }
        self.close(&mut open, context, &mut chunks);
        if !chunks.is_empty() {
            self.plan.runs.push((Arc::clone(&run.collector), chunks));
        }
    }

    fn close(&mut self, open: &mut Open, context: &ClockContext, chunks: &mut Vec<Chunk>) {
        let Open { first, count, times, maps } = std::mem::replace(open, Open::new(self.plan.next));
        if count > 0 {
            let chunk = Chunk { epoch: self.epoch, first, count, context: context.clone(), maps: maps.into() };
            self.plan.batch.chunks.push((first, value::encode_chunk(&chunk, times)));
            chunks.push(chunk);
        }
    }
}

/// Under which context points go whose time is not of the host's clock: what is taken as it comes needs no other.
fn foreign(context: &ClockContext) -> ClockContext {
    if context.synced { context.clone() } else { ClockContext { boot: ClockContext::NO_BOOT.into(), synced: false } }
}

/// A value being filled.
struct Open {
    first: u64,
    count: u32,
    times: Times,
    maps: Vec<u8>,
}

impl Open {
    fn new(first: u64) -> Self {
        Self { first, count: 0, times: Times::default(), maps: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::record::{Fields, Tags, Value};

    const NOW: Now = Now { mono: Duration::ZERO, boot: Duration::ZERO, wall_ms: 1 };
    const REASONS: [LossReason; 2] = [LossReason::Memory, LossReason::Quota];

    fn context() -> ClockContext {
        ClockContext { boot: Arc::from("boot-1"), synced: true }
    }

    /// A point whose record is so many bytes, for a seq of one byte.
    fn point(bytes: usize) -> Point {
        let sized = |text: usize| Point {
            ts: 1,
            mono: 1,
            name: "system.cpu".into(),
            tags: Tags::new(),
            fields: Fields::from([("text".into(), Value::Str("x".repeat(text)))]),
            error: None,
        };
        let mut map = Vec::new();
        encode_record(&Record::new(1, sized(1000)), &mut map);
        sized(1000 + bytes - map.len())
    }

    /// The counts of the values, and first seqs and counts of the burns.
    fn planned(owed: &[(u64, LossReason)], bytes: &[usize]) -> (Vec<u32>, Vec<(u64, u64, LossReason)>) {
        let points = bytes.iter().map(|bytes| point(*bytes)).collect();
        let run = Run { collector: Arc::from("cpu"), context: context(), points };
        let owed = owed.iter().map(|(count, reason)| (*count, *reason, Times::default()));
        let plan = of(7, 1, owed, &[run], NOW);
        let counts = plan.runs.iter().flat_map(|(_, chunks)| chunks).map(|chunk| chunk.count).collect();
        (counts, plan.burns.iter().map(|burn| (burn.first, burn.count, burn.reason)).collect())
    }

    #[test]
    fn a_value_is_filled_to_its_last_byte() {
        let room = value::maps_room(&context());
        let too_large = vec![(1, 1, LossReason::Oversize)];
        for (bytes, counts, burns) in [
            (vec![room], vec![1], vec![]),
            (vec![room + 1], vec![], too_large),
            (vec![room - 2000, 2000], vec![2], vec![]),
            (vec![room - 2000, 2001], vec![1, 1], vec![]),
        ] {
            assert_eq!(planned(&[], &bytes), (counts, burns), "{bytes:?} of {room}");
        }
    }

    #[test]
    fn burns_of_one_reason_that_follow_each_other_are_one() {
        let [memory, quota] = REASONS;
        let burns = vec![(1, 5, memory), (6, 1, quota), (7, 1, LossReason::Oversize), (9, 2, LossReason::Oversize)];
        let large = 17_000;
        assert_eq!(
            planned(&[(2, memory), (3, memory), (1, quota)], &[large, 2000, large, large]),
            (vec![1], burns),
            "a record lies between"
        );
    }
}
