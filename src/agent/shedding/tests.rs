//! The ladder over simulated time: no clock, no process.

use super::ladder::{CALM, Change, Ladder, Limits, MAX_PATIENCE, PATIENCE, RAISE, Resource, Sample, TOP};
use super::*;

const WINDOW: Duration = Duration::from_secs(30);
const LIMITS: Limits = Limits { memory: 1_000, cpu: 50, window: WINDOW };
const DAY: u32 = 24 * 3600 / 30;

/// A process whose use a test sets, window by window.
struct Host {
    ladder: Ladder,
    sample: Sample,
}

impl Host {
    fn new(limits: Limits) -> Self {
        let sample = Sample { at: Duration::from_secs(500), memory: Some(10), cpu: Some(Duration::from_secs(3)) };
        Self { ladder: Ladder::new(limits, sample), sample }
    }

    /// One window at the end of which so much memory is used, and over which so many percent of a core were.
    fn window(&mut self, memory: u64, percent: f64) -> Option<Change> {
        self.sample.at = self.ladder.next_look();
        self.sample.memory = Some(memory);
        self.sample.cpu = self.sample.cpu.map(|cpu| cpu + WINDOW.mul_f64(percent / 100.0));
        self.ladder.look(self.sample)
    }

    /// So many windows of the same use; returns the stages that they lead to.
    fn windows(&mut self, count: u32, memory: u64, percent: f64) -> Vec<u8> {
        (0..count).filter_map(|_| self.window(memory, percent)).map(|change| change.stage).collect()
    }
}

#[test]
fn a_use_within_its_limits_changes_nothing_in_a_day() {
    let mut host = Host::new(LIMITS);
    // At the limit is not beyond it.
    assert!(host.windows(DAY, 1_000, 50.0).is_empty());
}

#[test]
fn one_window_beyond_is_no_reason_and_two_in_a_row_are_a_stage() {
    let mut host = Host::new(LIMITS);
    for _ in 0..100 {
        assert_eq!(host.window(5_000, 0.0), None);
        assert_eq!(host.window(900, 0.0), None);
    }
    assert_eq!(host.window(5_000, 0.0), None);
    let change = host.window(2_000, 0.0).unwrap();
    assert_eq!(change, Change { stage: 1, up: true, resource: Resource::Memory, value: 2_000.0, limit: 1_000.0 });
}

#[test]
fn it_goes_up_stage_by_stage_to_the_top_and_stays_there() {
    let mut host = Host::new(LIMITS);
    assert_eq!(host.windows(RAISE * 3, 10, 80.0), [1, 2, 3]);
    assert!(host.windows(DAY, 10, 400.0).is_empty());
    assert_eq!((host.ladder.stage(), host.ladder.cpu().unwrap().round()), (TOP, 400.0));
}

#[test]
fn it_comes_down_stage_by_stage_once_it_is_calm_for_long_enough() {
    let mut host = Host::new(LIMITS);
    host.windows(RAISE * 3, 5_000, 10.0);
    // Within the limit, and not calm: nothing changes.
    assert!(host.windows(DAY, (1_000.0 * CALM) as u64 + 1, 10.0).is_empty());
    assert!(host.windows(PATIENCE - 1, 700, 10.0).is_empty());
    // Calm is calm in both.
    assert!(host.windows(1, 700, 45.0).is_empty());
    assert!(host.windows(PATIENCE - 1, 700, 10.0).is_empty());
    let change = host.window(700, 10.0).unwrap();
    assert_eq!(change, Change { stage: 2, up: false, resource: Resource::Memory, value: 700.0, limit: 1_000.0 });
    assert_eq!(host.windows(2 * PATIENCE, 700, 10.0), [1, 0]);
    assert!(host.windows(DAY, 700, 10.0).is_empty());
}

#[test]
fn the_worse_of_two_is_named() {
    let mut host = Host::new(LIMITS);
    host.window(1_500, 80.0);
    let change = host.window(1_500, 80.0).unwrap();
    assert_eq!((change.resource, change.value.round(), change.limit), (Resource::Cpu, 80.0, 50.0));
}

/// A cause that is gone as soon as anything is shed, and back as soon as nothing is: the worst for a ladder.
#[test]
fn a_day_of_flapping_is_few_changes_and_ever_fewer() {
    let mut host = Host::new(LIMITS);
    let mut changes = Vec::new();
    for window in 0..DAY {
        let memory = if host.ladder.stage() == 0 { 2_000 } else { 100 };
        changes.extend(host.window(memory, 1.0).map(|change| (window, change.stage)));
    }
    assert!(changes.iter().all(|(_, stage)| *stage <= 1), "{changes:?}");
    // 5, 10, 20, 40, then 80 windows on stage 1, two on stage 0.
    let expected = 2 * (4 + (DAY - 75 - 10) / (MAX_PATIENCE + RAISE));
    assert!(changes.len().abs_diff(expected as usize) <= 2, "{} for {expected}", changes.len());
    let up: Vec<u32> = changes.iter().filter(|c| c.1 == 1).map(|c| c.0).collect();
    assert!(up.windows(3).all(|w| w[2] - w[1] >= w[1] - w[0]), "{up:?}");
}

/// The shortest time between changes bounds any day, whatever happens in it.
#[test]
fn no_day_whatever_happens_has_more_changes_than_the_ladder_allows() {
    for seed in 1..=50_u64 {
        let mut host = Host::new(LIMITS);
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (mut ups, mut downs, mut at_stage) = (0, 0, 0);
        for _ in 0..DAY {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // Long spells of one kind, so that both ways are gone.
            let spell = (state >> 20) % 8 == 0;
            at_stage = if spell { (state >> 40) % 3 } else { at_stage };
            let before = host.ladder.stage();
            match host.window([100, 900, 3_000][at_stage as usize], 1.0) {
                Some(change) if change.up => {
                    ups += 1;
                    assert_eq!(change.stage, before + 1);
                }
                Some(change) => {
                    downs += 1;
                    assert_eq!(change.stage, before - 1);
                }
                None => assert_eq!(host.ladder.stage(), before),
            }
        }
        assert!(ups >= downs && ups - downs <= u32::from(TOP), "seed {seed}: {ups} up, {downs} down");
        assert!(downs > 0 && downs <= DAY / (PATIENCE + RAISE), "seed {seed}: {downs} down");
    }
}

#[test]
fn a_quiet_time_after_a_descent_makes_it_as_patient_as_at_first() {
    let mut host = Host::new(LIMITS);
    let cycle = |host: &mut Host, quiet: u32| {
        assert_eq!(host.windows(RAISE, 2_000, 1.0), [1]);
        let waited = (1..).find(|_| host.window(100, 1.0).is_some()).unwrap();
        host.windows(quiet, 100, 1.0);
        waited
    };
    let waits = [0, 0, 0, 1_000, 0].map(|quiet| cycle(&mut host, quiet));
    assert_eq!(waits, [5, 10, 20, 40, 5], "it was quiet for long before the last");
}

#[test]
fn other_limits_keep_the_stage_and_are_judged_by_from_then_on() {
    let mut host = Host::new(LIMITS);
    host.windows(RAISE * 2, 5_000, 1.0);
    host.ladder.set_limits(Limits { memory: 100_000, ..LIMITS });
    assert_eq!(host.ladder.stage(), 2);
    assert_eq!(host.windows(2 * PATIENCE, 5_000, 1.0), [1, 0]);
    host.ladder.set_limits(Limits { memory: 0, cpu: 0, ..LIMITS });
    assert!(host.windows(DAY, u64::MAX, 400.0).is_empty(), "0 is no limit");
    // The same limits again are no news: what was counted stays.
    host.ladder.set_limits(LIMITS);
    host.window(5_000, 1.0);
    host.ladder.set_limits(LIMITS);
    assert_eq!(host.windows(1, 5_000, 1.0), [1]);
}

#[test]
fn a_shorter_window_ends_at_once_and_a_long_one_is_an_average() {
    let mut host = Host::new(LIMITS);
    let end = host.ladder.next_look();
    host.ladder.set_limits(Limits { window: Duration::from_secs(1), ..LIMITS });
    assert_eq!(host.ladder.next_look() + Duration::from_secs(29), end);
    // The loop was held up: the CPU time is that of the time that passed.
    host.sample.at += Duration::from_secs(100);
    host.sample.cpu = Some(host.sample.cpu.unwrap() + Duration::from_secs(10));
    host.ladder.look(host.sample);
    assert_eq!(host.ladder.cpu().map(f64::round), Some(10.0));
}

#[test]
fn what_the_system_does_not_tell_is_no_reason_and_keeps_nothing_down() {
    let mut host = Host::new(LIMITS);
    host.windows(RAISE, 5_000, 1.0);
    host.sample.cpu = None;
    let mut blind = || {
        host.sample.at = host.ladder.next_look();
        host.sample.memory = None;
        host.ladder.look(host.sample)
    };
    let down = (0..PATIENCE).filter_map(|_| blind()).count();
    assert_eq!((down, host.ladder.stage(), host.ladder.memory(), host.ladder.cpu()), (1, 0, None, None));
}

#[test]
fn the_figures_of_this_process_are_read() {
    let (root, now) = (HostRoot::default(), clock::now());
    let limits = config::Limits { max_memory: 1, max_cpu: 1, window: WINDOW, shed: vec!["slow".into()] };
    let mut shedding = Shedding::new(&limits, &root, now);
    assert_eq!(shedding.look(&root, now), None, "the window is not over");
    for windows in 1..=6 {
        shedding.look(&root, Now { mono: now.mono + WINDOW * windows, ..now });
    }
    let view = shedding.view();
    assert!(view.memory.is_some_and(|bytes| (100_000..4 << 30).contains(&bytes)), "{view:?}");
    assert!(view.cpu.is_some_and(|percent| percent < 100.0), "{view:?}");
    assert_eq!((view.stage, view.off, shedding.unwatched()), (3, vec!["slow".to_owned()], None));
    assert_eq!(shedding.measures(), "one of 8 due runs is made, slow off");
    let missing = HostRoot::recorded("/nonexistent", std::sync::Arc::new(|_| Err(std::io::ErrorKind::NotFound.into())));
    let blind = Shedding::new(&limits, &missing, now);
    assert!(blind.unwatched().is_some_and(|line| line.starts_with("agent.max_memory is not watched")));
}

/// As on Windows, which is asked for neither.
#[test]
fn a_limit_that_is_not_watched_is_told_and_no_figure_is_made_up() {
    let told = |max_memory, max_cpu| {
        let limits = config::Limits { max_memory, max_cpu, window: WINDOW, shed: Vec::new() };
        let mut shedding =
            Shedding { ladder: Ladder::new(ladder_limits(&limits), Sample::default()), named: Vec::new() };
        for windows in 1..9 {
            shedding.ladder.look(Sample { at: WINDOW * windows, ..Sample::default() });
        }
        assert_eq!((shedding.view().cpu, shedding.view().memory, shedding.stage()), (None, None, 0));
        shedding.unwatched()
    };
    assert!(told(1, 1).is_some_and(|line| line.starts_with("agent.max_memory and agent.max_cpu are not watched")));
    assert!(told(0, 1).is_some_and(|line| line.starts_with("agent.max_cpu is not watched")));
    assert_eq!(told(0, 0), None);
}

#[test]
fn a_change_says_figure_limit_and_measure() {
    let change = Change { stage: 2, up: true, resource: Resource::Memory, value: 75_602_329.6, limit: 67_108_864.0 };
    assert_eq!(
        describe(&change, "one of 4 due runs is made"),
        "the agent uses 72.1 MiB of memory, agent.max_memory is 64.0 MiB: stage 2 of 3, one of 4 due runs is made"
    );
    let change = Change { resource: Resource::Cpu, value: 61.26, limit: 50.0, ..change };
    assert!(describe(&change, "x").starts_with("the agent uses 61.3 % of a core, agent.max_cpu is 50.0 %: stage 2"));
    let down = Change { stage: 0, up: false, ..change };
    assert_eq!(describe(&down, "y"), "the agent is within its limits again: stage 0 of 3, y");
}
