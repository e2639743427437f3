//! Days of random jobs, run times, stalls, suspends and clock steps. The seed is printed; HOLDOVER_SEED replays one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{ms, zone};
use crate::clock::Now;
use crate::schedule::{Cron, Job, Misfire, MissReason, Schedule, Scheduler, Share};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("HOLDOVER_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (1..=count).collect(),
    }
}

const EXPRESSIONS: &[&str] =
    &["0 * * * * ?", "0/20 * * * * ?", "0 0/7 * * * ?", "0 30 2 * * ?", "0 0 1-3 * * ?", "30 59 23 ? * MON-FRI"];

/// What happened to one job.
#[derive(Default)]
struct Account {
    runs: u64,
    missed: u64,
    shed: u64,
    last_scheduled: Option<i64>,
    last_decision: Duration,
}

struct World {
    random: Random,
    now: Now,
    /// Of the wall clock, since the last poll.
    stepped_back: i64,
    backward_allowed: bool,
}

impl World {
    /// Sleeps to the wake-up, unless something happens before, meanwhile or instead.
    fn advance(&mut self, wake: Duration) {
        let mut sleep = wake.saturating_sub(self.now.mono) + Duration::from_millis(self.random.below(3));
        match self.random.below(200) {
            0 => sleep += Duration::from_secs(self.random.below(300)),
            1 => {
                let asleep = Duration::from_secs(self.random.below(7_200));
                self.now.boot += asleep;
                self.now.wall_ms += asleep.as_millis() as i64;
            }
            2 => self.now.wall_ms += self.random.below(7_200_000) as i64,
            3 if self.backward_allowed => {
                let back = self.random.below(7_200_000) as i64;
                self.now.wall_ms -= back;
                self.stepped_back += back;
            }
            _ => {}
        }
        self.now.mono += sleep;
        self.now.boot += sleep;
        self.now.wall_ms += sleep.as_millis() as i64;
    }
}

fn simulate(seed: u64, backward_allowed: bool) -> (Vec<Job>, BTreeMap<usize, Account>, i64, World) {
    println!("HOLDOVER_SEED={seed}");
    let wall_ms = ms("2026-10-24 00:00:00") + (seed as i64 * 3_600_000) % 200_000_000;
    let start = Now { mono: Duration::from_secs(50), boot: Duration::from_secs(50), wall_ms };
    let mut world = World { random: Random(seed), now: start, stepped_back: 0, backward_allowed };
    let jobs: Vec<Job> = EXPRESSIONS
        .iter()
        .map(|expression| Job {
            collector: Arc::from(*expression),
            schedule: Schedule::cron(expression, zone("Europe/Berlin")).unwrap(),
            jitter: Duration::from_millis(world.random.below(20_000)),
            misfire: if world.random.below(2) == 0 { Misfire::Skip } else { Misfire::Once },
            blackouts: [].into(),
        })
        .collect();
    let mut scheduler = Scheduler::new(jobs.clone(), start);
    let mut accounts: BTreeMap<usize, Account> =
        (0..jobs.len()).map(|id| (id, Account { last_decision: start.mono, ..Account::default() })).collect();
    let mut ends: Vec<(Duration, usize)> = Vec::new();
    while world.now.mono < Duration::from_secs(2 * 86_400) {
        let wake = scheduler.next_wake().unwrap();
        let wake = ends.iter().map(|(end, _)| *end).fold(wake, Duration::min);
        world.advance(wake);
        ends.retain(|&(end, job)| {
            if end <= world.now.mono {
                scheduler.mark_done(job);
                false
            } else {
                true
            }
        });
        if !backward_allowed && world.random.below(300) == 0 {
            let share = [Share::All, Share::OneOf(2), Share::OneOf(8), Share::None][world.random.below(4) as usize];
            (0..jobs.len()).for_each(|job| scheduler.set_share(job, share));
        }
        let polled = scheduler.poll(world.now);
        for missed in &polled.missed {
            let account = accounts.get_mut(&missed.job).unwrap();
            account.missed += missed.count;
            account.shed += if missed.reason == MissReason::Shed { missed.count } else { 0 };
            account.last_decision = world.now.mono;
        }
        for run in &polled.due {
            let account = accounts.get_mut(&run.job).unwrap();
            assert!(!ends.iter().any(|&(_, job)| job == run.job), "two runs of {} at once", run.collector);
            assert!(run.scheduled_ms <= world.now.wall_ms, "{} ran early", run.collector);
            if let Some(last) = account.last_scheduled {
                assert!(run.scheduled_ms > last || world.stepped_back > 0, "{} ran {last} twice", run.collector);
            }
            account.last_scheduled = Some(run.scheduled_ms);
            account.runs += 1;
            account.last_decision = world.now.mono;
            ends.push((world.now.mono + Duration::from_millis(1 + world.random.below(90_000)), run.job));
        }
        let quiet = world.now.mono - accounts[&0].last_decision;
        assert!(quiet < Duration::from_secs(2 * 60 + 30 + 300), "the minute job was quiet for {quiet:?}");
    }
    (jobs, accounts, start.wall_ms, world)
}

#[test]
fn every_occurrence_is_a_run_or_missed_in_simulated_days() {
    for seed in seeds(15) {
        let (jobs, accounts, start, world) = simulate(seed, false);
        assert!(accounts[&0].shed > 0, "the seed sheds load at least once");
        for (id, account) in accounts {
            let Schedule::Cron(cron, zone) = &jobs[id].schedule else { unreachable!("all jobs are cron") };
            let jitter = jobs[id].jitter.as_millis() as i64;
            let first = cron.next_after(start - jitter, zone);
            let due = std::iter::successors(first, |&at| cron.next_after(at, zone));
            let due = due.take_while(|at| at + jitter <= world.now.wall_ms).count() as u64;
            assert_eq!(account.runs + account.missed, due, "{cron}: {} runs, {} missed", account.runs, account.missed);
        }
    }
}

#[test]
fn no_clock_step_stops_a_job_in_simulated_days() {
    for seed in seeds(15) {
        let (_, accounts, _, world) = simulate(seed, true);
        assert!(world.stepped_back > 0, "the seed steps back at least once");
        // Two days of a minute job, less overlaps and what suspends and steps took.
        assert!(accounts[&0].runs > 500, "{} runs", accounts[&0].runs);
    }
}

#[test]
fn parsed_expressions_are_the_simulated_ones() {
    assert!(EXPRESSIONS.iter().all(|expression| Cron::parse(expression).is_ok()));
}
