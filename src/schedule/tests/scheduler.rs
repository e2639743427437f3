use std::sync::Arc;
use std::time::Duration;

use super::ms;
use crate::clock::Now;
use crate::schedule::{
    Job, LONGEST_PAUSE, MAX_COUNTED, Misfire, MissReason, Missed, Polled, RECHECK, Schedule, Scheduler, Share, Zone,
};

const MINUTE: &str = "0 * * * * ?";
const DAILY: &str = "0 0 3 * * ?";

fn cron(expression: &str, misfire: Misfire) -> Job {
    let schedule = Schedule::cron(expression, Zone::utc()).unwrap();
    Job { collector: Arc::from("c"), schedule, jitter: Duration::ZERO, misfire, blackouts: [].into() }
}

fn every(seconds: u64) -> Job {
    let schedule = Schedule::every(Duration::from_secs(seconds)).unwrap();
    Job { collector: Arc::from("e"), schedule, jitter: Duration::ZERO, misfire: Misfire::Skip, blackouts: [].into() }
}

/// A host's clocks, moved by hand.
struct Host {
    now: Now,
    scheduler: Scheduler,
}

impl Host {
    fn new(wall: &str, jobs: Vec<Job>) -> Self {
        let now = Now { mono: Duration::from_secs(1_000), boot: Duration::from_secs(1_000), wall_ms: ms(wall) };
        Self { now, scheduler: Scheduler::new(jobs, now) }
    }

    /// Time passes without anyone looking.
    fn pass(&mut self, seconds: f64) {
        self.now.mono += Duration::from_secs_f64(seconds);
        self.now.boot += Duration::from_secs_f64(seconds);
        self.now.wall_ms += (seconds * 1000.0) as i64;
    }

    fn suspend(&mut self, seconds: u64) {
        self.now.boot += Duration::from_secs(seconds);
        self.now.wall_ms += seconds as i64 * 1000;
    }

    fn step(&mut self, seconds: i64) {
        self.now.wall_ms += seconds * 1000;
    }

    fn poll(&mut self) -> Polled {
        self.scheduler.poll(self.now)
    }

    /// As the loop does: sleeps to each wake-up for so long, ends each run at once, and tells the times that ran.
    fn run(&mut self, seconds: u64) -> Vec<i64> {
        let end = self.now.mono + Duration::from_secs(seconds);
        let mut ran = Vec::new();
        while let Some(wake) = self.scheduler.next_wake().filter(|&wake| wake <= end) {
            self.pass(wake.saturating_sub(self.now.mono).as_secs_f64());
            for run in self.poll().due {
                self.scheduler.mark_done(run.job);
                ran.push(run.scheduled_ms);
            }
        }
        self.pass((end - self.now.mono).as_secs_f64());
        ran
    }
}

fn missed(count: u64, reason: MissReason) -> Vec<Missed> {
    vec![Missed { job: 0, collector: Arc::from("c"), count, reason }]
}

#[test]
fn cron_runs_at_its_times_and_rechecks_the_wall_clock() {
    let mut host = Host::new("2026-01-01 02:59:10", vec![cron(DAILY, Misfire::Skip)]);
    assert_eq!(host.scheduler.next_wake(), Some(host.now.mono + RECHECK));
    host.pass(30.0);
    assert_eq!(host.poll(), Polled::default());
    assert_eq!(host.scheduler.next_wake(), Some(host.now.mono + Duration::from_secs(20)));
    host.pass(20.25);
    let polled = host.poll();
    assert_eq!((polled.due.len(), polled.missed.len()), (1, 0));
    let run = &polled.due[0];
    assert_eq!((run.scheduled_ms, run.lateness), (ms("2026-01-01 03:00:00"), Duration::from_millis(250)));
    assert_eq!(host.poll(), Polled::default());
}

#[test]
fn interval_runs_on_multiples_whatever_the_wall_clock_does() {
    let mut host = Host::new("2026-01-01 00:00:00", vec![every(10)]);
    host.pass(3.0);
    assert_eq!(host.poll(), Polled::default());
    assert_eq!(host.scheduler.next_wake(), Some(Duration::from_secs(1_010)));
    for step in [86_400, -86_400 * 365 * 30, 5, -5] {
        host.step(step);
        assert_eq!(host.run(100).len(), 10, "after a step of {step} s");
    }
}

#[test]
fn interval_that_was_not_looked_at_runs_once_and_counts_the_rest() {
    let mut host = Host::new("2026-01-01 00:00:00", vec![every(10)]);
    host.pass(47.0);
    let polled = host.poll();
    assert_eq!(polled.due.len(), 1);
    assert_eq!((polled.due[0].lateness, polled.due[0].missed), (Duration::from_secs(7), 3));
    assert_eq!(polled.due[0].scheduled_ms, ms("2026-01-01 00:00:40"));
    assert_eq!((polled.missed[0].count, polled.missed[0].reason), (3, MissReason::Late));
    assert_eq!(host.scheduler.next_wake(), Some(Duration::from_secs(1_050)));
}

#[test]
fn run_that_is_still_going_is_a_missed_overlap() {
    let mut host = Host::new("2026-01-01 00:00:30", vec![cron(MINUTE, Misfire::Skip)]);
    host.pass(30.0);
    assert_eq!(host.poll().due.len(), 1);
    assert!(host.scheduler.is_running(0));
    host.pass(60.0);
    assert_eq!(host.poll(), Polled { due: vec![], missed: missed(1, MissReason::Overlap) });
    host.scheduler.mark_done(0);
    host.pass(60.0);
    assert_eq!(host.poll().due.len(), 1);
}

#[test]
fn run_started_by_command_counts_as_running() {
    let mut host = Host::new("2026-01-01 00:00:30", vec![cron(MINUTE, Misfire::Skip)]);
    assert!(host.scheduler.mark_running(0));
    assert!(!host.scheduler.mark_running(0));
    assert!(!host.scheduler.mark_running(7));
    host.pass(30.0);
    assert_eq!(host.poll().missed, missed(1, MissReason::Overlap));
}

#[test]
fn forward_step_past_a_due_time_follows_the_misfire_policy() {
    for (misfire, due, skipped) in [(Misfire::Skip, 0, 1), (Misfire::Once, 1, 0)] {
        let mut host = Host::new("2026-01-01 02:00:00", vec![cron(DAILY, misfire)]);
        host.step(2 * 3600);
        let polled = host.poll();
        assert_eq!(polled.due.len(), due, "{misfire:?}");
        assert_eq!(polled.missed, if skipped > 0 { missed(1, MissReason::ClockStep) } else { vec![] });
        host.scheduler.mark_done(0);
        // 23 hours to the next one.
        assert_eq!(host.run(24 * 3600), [ms("2026-01-02 03:00:00")]);
    }
}

#[test]
fn once_runs_once_however_many_were_passed_over() {
    let mut host = Host::new("2026-01-01 00:00:30", vec![cron(MINUTE, Misfire::Once)]);
    host.suspend(3 * 3600);
    let polled = host.poll();
    assert_eq!(polled.due.len(), 1);
    assert_eq!(polled.due[0].scheduled_ms, ms("2026-01-01 03:00:00"));
    assert_eq!(polled.missed, missed(179, MissReason::Suspend));
}

#[test]
fn suspended_daily_job_is_skipped_and_counted() {
    let mut host = Host::new("2026-01-01 02:00:00", vec![cron(DAILY, Misfire::Skip)]);
    host.suspend(3 * 3600);
    assert_eq!(host.poll(), Polled { due: vec![], missed: missed(1, MissReason::Suspend) });
}

#[test]
fn stalled_loop_is_late_and_within_grace_still_runs() {
    let mut host = Host::new("2026-01-01 02:59:59", vec![cron(DAILY, Misfire::Skip)]);
    host.pass(50.0);
    assert_eq!(host.poll().due[0].lateness, Duration::from_secs(49));
    host.scheduler.mark_done(0);
    host.pass(86_400.0 + 61.0);
    assert_eq!(host.poll(), Polled { due: vec![], missed: missed(1, MissReason::Late) });
}

#[test]
fn first_time_sync_of_a_board_without_clock_is_bounded_work() {
    let mut host = Host::new("1970-01-01 00:00:20", vec![cron("* * * * * ?", Misfire::Once)]);
    host.now.wall_ms = ms("2026-06-01 12:00:00") + 400;
    let polled = host.poll();
    assert_eq!(polled.due[0].scheduled_ms, ms("2026-06-01 12:00:00"));
    assert_eq!(polled.missed, missed(MAX_COUNTED - 1, MissReason::ClockStep));
    host.scheduler.mark_done(0);
    assert_eq!(host.run(5).len(), 5);
}

#[test]
fn small_backward_step_runs_nothing_twice() {
    let mut host = Host::new("2026-01-01 02:59:00", vec![cron(DAILY, Misfire::Skip), cron(MINUTE, Misfire::Skip)]);
    let mut ran = host.run(61);
    host.step(-2);
    ran.extend(host.run(200));
    let daily = ms("2026-01-01 03:00:00");
    // The two jobs meet at 03:00; after the step neither repeats it.
    assert_eq!(ran.iter().filter(|&&at| at == daily).count(), 2);
    let minutes: Vec<i64> = (1..=3).map(|n| daily + n * 60_000).collect();
    assert_eq!(ran[ran.len() - 3..], minutes);
}

#[test]
fn daily_job_is_not_repeated_by_an_hour_back() {
    let mut host = Host::new("2026-01-01 02:59:00", vec![cron(DAILY, Misfire::Skip)]);
    assert_eq!(host.run(1_800).len(), 1);
    host.step(-3600);
    assert_eq!(host.run(86_400 + 3_600), [ms("2026-01-02 03:00:00")]);
}

#[test]
fn large_backward_step_never_stops_a_job() {
    let mut host = Host::new("2036-01-01 02:59:00", vec![cron(DAILY, Misfire::Skip), cron(MINUTE, Misfire::Skip)]);
    host.run(120);
    host.now.wall_ms = ms("2026-01-01 02:30:30");
    let ran = host.run(3600);
    assert_eq!(ran.len(), 61);
    assert_eq!(ran[0], ms("2026-01-01 02:31:00"));
}

#[test]
fn hour_back_keeps_a_minute_job_going() {
    let mut host = Host::new("2026-01-01 12:00:30", vec![cron(MINUTE, Misfire::Skip)]);
    assert_eq!(host.run(600).len(), 10);
    host.step(-3600);
    assert_eq!(host.run(600).len(), 10);
}

#[test]
fn wrong_clock_before_the_first_run_does_not_block_it() {
    let mut host = Host::new("2099-01-01 00:00:00", vec![cron(DAILY, Misfire::Skip)]);
    host.now.wall_ms = ms("2026-01-01 02:59:40");
    assert_eq!(host.run(60), [ms("2026-01-01 03:00:00")]);
}

#[test]
fn jitter_moves_runs_and_nothing_else() {
    let mut job = cron(DAILY, Misfire::Skip);
    job.jitter = Duration::from_secs(90);
    let mut host = Host::new("2026-01-01 03:00:30", vec![job]);
    assert_eq!(host.run(3600), [ms("2026-01-01 03:01:30")]);
    assert_eq!(host.run(86_400), [ms("2026-01-02 03:01:30")]);
}

#[test]
fn schedule_that_ends_leaves_nothing_to_wake_for() {
    let mut host = Host::new("2026-01-01 02:59:40", vec![cron("0 0 3 1 1 ? 2026", Misfire::Skip)]);
    assert_eq!(host.run(60).len(), 1);
    assert_eq!(host.scheduler.next_wake(), None);
    assert_eq!(Scheduler::new(Vec::new(), host.now).next_wake(), None);
}

#[test]
fn a_job_that_is_thinned_out_runs_once_in_so_many_times_and_the_rest_is_missed() {
    let mut host = Host::new("2026-01-01 00:00:30", vec![every(10)]);
    assert_eq!(host.run(100).len(), 10);
    host.scheduler.set_share(0, Share::OneOf(4));
    let mut runs = Vec::new();
    for _ in 0..12 {
        host.pass(10.0);
        let polled = host.poll();
        assert!(polled.missed.iter().all(|missed| (missed.count, missed.reason) == (1, MissReason::Shed)));
        assert_eq!(polled.due.len() + polled.missed.len(), 1);
        runs.push(polled.due.len());
        host.scheduler.mark_done(0);
    }
    assert_eq!(runs, [0, 0, 0, 1].repeat(3));
    host.scheduler.set_share(0, Share::None);
    assert!(host.run(24 * 3600).is_empty());
    host.scheduler.set_share(0, Share::All);
    assert_eq!(host.run(100).len(), 10);
}

#[test]
fn what_is_rare_is_not_thinned_out_and_nothing_waits_longer_than_the_pause() {
    let mut host = Host::new("2026-01-01 00:00:30", vec![cron(DAILY, Misfire::Skip)]);
    host.scheduler.set_share(0, Share::OneOf(8));
    assert_eq!(host.run(5 * 86_400).len(), 5);
    let mut host = Host::new("2026-01-01 00:00:30", vec![cron("0 0/4 * * * ?", Misfire::Skip)]);
    host.scheduler.set_share(0, Share::OneOf(8));
    let ran = host.run(3600);
    // 4 and 8 minutes are within the pause, 12 is the first beyond it.
    assert!(ran.windows(2).all(|pair| pair[1] - pair[0] == 12 * 60_000), "{ran:?}");
    assert!(Duration::from_secs(8 * 60) < LONGEST_PAUSE && ran.len() == 5);
}

#[test]
fn a_share_stays_over_a_reload_and_a_run_that_goes_on_is_an_overlap() {
    let mut host = Host::new("2026-01-01 00:00:30", vec![every(10)]);
    host.scheduler.set_share(0, Share::OneOf(2));
    host.pass(10.0);
    assert_eq!(host.poll().due.len(), 1);
    host.scheduler.replace(vec![every(10)], host.now);
    host.pass(10.0);
    assert_eq!(host.poll().missed[0].reason, MissReason::Overlap);
    host.scheduler.mark_done(0);
    assert_eq!(host.run(40).len(), 2);
}

/// The agent looks a little late, now more and now less: that is no reason to leave out a run that is rare enough.
#[test]
fn what_is_due_at_the_pause_is_not_thinned_out_by_how_late_it_is_looked_at() {
    let mut host = Host::new("2026-01-01 00:00:00", vec![every(600)]);
    host.scheduler.set_share(0, Share::OneOf(2));
    host.run(600);
    let mut runs = 0;
    for n in 0..10 {
        host.pass(if n % 2 == 0 { 600.4 } else { 599.6 });
        runs += host.poll().due.len();
        host.scheduler.mark_done(0);
    }
    assert_eq!(runs, 10);
}
