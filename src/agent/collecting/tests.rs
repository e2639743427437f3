//! The account of runs: whatever is due becomes a record or is counted as missed.

use std::path::Path;

use super::*;
use crate::collect::{Params, Points};
use crate::record::Value;
use crate::schedule::{Blackout, Job, Misfire, Schedule, Share, Zone};

/// Long enough for the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);
const PERIOD: Duration = Duration::from_secs(10);

static BROKEN: CollectorSpec = CollectorSpec {
    name: "broken",
    about: "panics at its first run",
    default_schedule: "10s",
    default_on: false,
    params: &[],
    metrics: &[],
    build: |_| Ok(Box::new(Broken { runs: 0 })),
};

struct Broken {
    runs: u32,
}

impl Collector for Broken {
    fn collect(&mut self, _: &Context<'_>, out: &mut Points) -> Result<(), RunError> {
        self.runs += 1;
        assert!(self.runs > 1, "planted");
        out.add("broken").uint("runs", u64::from(self.runs));
        Ok(())
    }
}

fn at(seconds: u64) -> Now {
    let mono = Duration::from_secs(1_000 + seconds);
    Now { mono, boot: mono, wall_ms: 1_700_000_000_000 + seconds as i64 * 1000 }
}

/// One collector that is due every ten seconds, first at `at(10)`.
fn collecting(source: Source) -> Collecting {
    let job = Job {
        collector: "demo".into(),
        schedule: Schedule::every(PERIOD).unwrap(),
        jitter: Duration::ZERO,
        misfire: Misfire::Skip,
        blackouts: [].into(),
    };
    let scheduler = Scheduler::new(vec![job], at(0));
    Collecting::new(scheduler, vec![("demo".into(), source)], HostRoot::default(), "edge-01".into(), "boot".into())
}

fn script(text: &str) -> Source {
    let mut script = exec::Script::new(["/bin/sh", "-c", text]);
    script.timeout = PATIENCE * 10;
    Source::Script(Arc::new(script))
}

fn account(collecting: &Collecting) -> Account {
    collecting.accounts().next().unwrap().1.clone()
}

fn error(run: &Run) -> (ErrorKind, &str) {
    let error = run.points[0].error.as_ref().unwrap();
    (error.kind, &error.message)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.expect("within the patience of a test") })
}

/// A run of the one collector that does what the test wants.
fn plant(collecting: &mut Collecting, run: impl Future<Output = Vec<Point>> + Send + 'static) {
    assert!(collecting.scheduler.mark_running(0));
    let context = collecting.context(&at(10));
    let task = collecting.scripts.spawn(run);
    collecting.running.insert(task.id(), Running { collector: "demo".into(), started: at(10), context });
}

/// `what` may take a while: bounded by [`PATIENCE`].
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..PATIENCE.as_millis() / 10 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain until {what}");
}

#[test]
fn a_panic_in_a_collector_is_its_record_and_the_next_run_happens() {
    let built = (BROKEN.build)(&Params::default()).unwrap();
    let mut collecting = collecting(Source::Builtin { spec: &BROKEN, collector: built });
    let first = collecting.poll(&at(10), &AgentFigures::default());
    assert_eq!(error(&first[0]).0, ErrorKind::Panic);
    let second = collecting.poll(&at(20), &AgentFigures::default());
    assert_eq!(second[0].points[0].error, None);
    let account = account(&collecting);
    assert_eq!((account.runs, account.failed, account.missed), (2, 1, 0));
}

/// Its source is missing, then there, then missing again, two runs each.
static FLEETING: CollectorSpec =
    CollectorSpec { name: "fleeting", build: |_| Ok(Box::new(Fleeting { runs: 0 })), ..BROKEN };

struct Fleeting {
    runs: u32,
}

impl Collector for Fleeting {
    fn collect(&mut self, _: &Context<'_>, out: &mut Points) -> Result<(), RunError> {
        self.runs += 1;
        if matches!(self.runs, 3 | 4) {
            out.add("fleeting").uint("runs", u64::from(self.runs));
            return Ok(());
        }
        Err(RunError::new(ErrorKind::Unsupported, "there is none here"))
    }
}

#[test]
fn a_source_that_the_host_lacks_is_recorded_once_each_time_it_goes() {
    let built = (FLEETING.build)(&Params::default()).unwrap();
    let mut collecting = collecting(Source::Builtin { spec: &FLEETING, collector: built });
    let mut made = Vec::new();
    for run in 1..=6 {
        let runs = collecting.poll(&at(run * 10), &AgentFigures::default());
        made.push(runs.first().map(|run| run.points[0].error.is_some()));
        let says = account(&collecting).last_error;
        assert_eq!(says.as_deref(), (!matches!(run, 3 | 4)).then_some("there is none here"), "run {run}");
    }
    assert_eq!(made, [Some(true), None, Some(false), Some(false), Some(true), None]);
    let account = account(&collecting);
    assert_eq!((account.runs, account.failed, account.silent, account.missed), (6, 2, 2, 0), "six were due");
}

#[test]
fn only_a_whole_run_without_a_source_is_kept_quiet() {
    let error = |kind, tags: &[(&'static str, &'static str)]| Point {
        ts: 0,
        mono: 0,
        name: "x".into(),
        tags: tags.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        fields: BTreeMap::new(),
        error: Some(RunError::new(kind, "why")),
    };
    assert_eq!(absence(&[error(ErrorKind::Unsupported, &[])]), Some("why"));
    assert_eq!(absence(&[error(ErrorKind::Parse, &[])]), None);
    assert_eq!(absence(&[error(ErrorKind::Unsupported, &[("device", "sdz")])]), None, "it was asked for by name");
    assert_eq!(absence(&[error(ErrorKind::Unsupported, &[]), error(ErrorKind::Unsupported, &[])]), None);
    assert_eq!(absence(&[]), None);
}

#[test]
fn a_run_that_is_due_while_the_last_one_goes_on_is_recorded_as_missed() {
    block_on(async {
        let mut collecting = collecting(script("exec sleep 600"));
        assert!(collecting.poll(&at(10), &AgentFigures::default()).is_empty());
        let missed = collecting.poll(&at(20), &AgentFigures::default());
        let point = &missed[0].points[0];
        assert_eq!((&*point.name, error(&missed[0]).0), ("holdover.collector.missed", ErrorKind::Skipped));
        assert_eq!((&*point.tags["reason"], &point.fields["count"]), ("overlap", &Value::Int(1)));
        let account = account(&collecting);
        assert_eq!((account.runs, account.missed, collecting.running.len()), (0, 1, 1));
    });
}

#[test]
fn occurrences_slept_through_are_counted_not_forgotten() {
    let built = (BROKEN.build)(&Params::default()).unwrap();
    let mut collecting = collecting(Source::Builtin { spec: &BROKEN, collector: built });
    collecting.poll(&at(55), &AgentFigures::default());
    let account = account(&collecting);
    assert_eq!((account.runs, account.missed), (1, 4), "five were due: 10, 20, 30, 40, 50");
}

#[test]
fn a_script_that_runs_at_the_stop_is_killed_and_recorded() {
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let mut collecting = collecting(script(&format!("echo $$ > {}; exec sleep 600", pid.display())));
        collecting.poll(&at(10), &AgentFigures::default());
        eventually("the script has started", || read_pid(&pid).is_some()).await;
        let runs = collecting.stop(&at(12));
        assert_eq!(error(&runs[0]).0, ErrorKind::Signal);
        assert_eq!((runs[0].points[0].ts, runs.len()), (at(10).wall_ms, 1), "it is dated at its start");
        assert_eq!((account(&collecting).runs, collecting.running.len()), (1, 0));
        let pid = read_pid(&pid).unwrap();
        eventually("the script is gone", || gone(pid)).await;
    });
}

#[test]
fn a_script_that_ended_just_before_the_stop_is_recorded_as_it_ended() {
    block_on(async {
        let mut collecting = collecting(script(":"));
        let point = Point { error: None, ..err_point("demo", &at(10), RunError::new(ErrorKind::Exit, "")) };
        plant(&mut collecting, async move { vec![point] });
        tokio::task::yield_now().await;
        let runs = collecting.stop(&at(12));
        assert_eq!((runs.len(), &runs[0].points[0].error), (1, &None));
        assert_eq!((account(&collecting).runs, account(&collecting).failed), (1, 0));
    });
}

#[test]
fn a_script_with_nothing_to_say_is_counted_as_a_silent_run() {
    block_on(async {
        let mut collecting = collecting(script(":"));
        collecting.poll(&at(10), &AgentFigures::default());
        let finished = collecting.finished().await;
        assert!(collecting.complete(finished, &at(11)).is_none());
        let account = account(&collecting);
        assert_eq!((account.runs, account.silent, account.failed), (1, 1, 0));
        collecting.poll(&at(20), &AgentFigures::default());
        assert_eq!(collecting.running.len(), 1, "it runs again");
    });
}

#[test]
fn a_panic_while_a_script_runs_is_its_record_and_the_collector_runs_again() {
    block_on(async {
        let mut collecting = collecting(script(":"));
        plant(&mut collecting, async { panic!("planted") });
        let finished = collecting.finished().await;
        let run = collecting.complete(finished, &at(11)).unwrap();
        assert_eq!(error(&run).0, ErrorKind::Panic);
        assert!(!collecting.scheduler.is_running(0));
    });
}

#[test]
fn a_script_s_records_carry_the_clock_context_of_its_start() {
    block_on(async {
        let mut collecting = collecting(script("echo 'demo value=1'"));
        collecting.synced = Synced { value: false, next: Duration::MAX };
        collecting.poll(&at(10), &AgentFigures::default());
        collecting.synced = Synced { value: true, next: Duration::MAX };
        let finished = collecting.finished().await;
        let run = collecting.complete(finished, &at(11)).unwrap();
        assert!(!run.context.synced, "its times were taken before the clock was set");
    });
}

fn read_pid(path: &Path) -> Option<rustix::process::Pid> {
    let pid = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
    rustix::process::Pid::from_raw(pid)
}

fn gone(pid: rustix::process::Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

/// Every run is accounted for at once, and one record tells of the whole window.
#[test]
fn a_blackout_is_counted_by_run_and_recorded_once() {
    let built = (FLEETING.build)(&Params::default()).unwrap();
    let mut collecting = collecting(Source::Builtin { spec: &FLEETING, collector: built });
    // at(15) to at(55), as seconds of the UTC day.
    let from = (at(15).wall_ms / 1000 % 86_400) as u32;
    let window = Blackout::daily(Blackout::ALL_DAYS, from, from + 40, Zone::utc());
    let job = Job {
        collector: "demo".into(),
        schedule: Schedule::every(PERIOD).unwrap(),
        jitter: Duration::ZERO,
        misfire: Misfire::Skip,
        blackouts: [window].into(),
    };
    assert!(collecting.replace(vec![job], vec![("demo".into(), None)], &at(0)).is_empty());
    let figures = AgentFigures::default();
    assert_eq!(collecting.poll(&at(10), &figures).len(), 1, "before it");
    for second in [20, 30, 40, 50] {
        assert!(collecting.poll(&at(second), &figures).is_empty(), "at {second}");
    }
    assert_eq!((account(&collecting).missed, account(&collecting).runs), (4, 1));
    let after = collecting.poll(&at(60), &figures);
    let (kind, message) = error(&after[0]);
    assert_eq!((kind, message), (ErrorKind::Skipped, "4 due run(s) of demo did not happen: blackout"));
    assert_eq!(after[0].points[0].fields["count"], Value::uint(4));
    assert_eq!((account(&collecting).missed, account(&collecting).runs), (4, 2), "due: six");
    assert!(collecting.stop(&at(61)).is_empty(), "told already");
}

/// An agent that is killed in a long window has told of all but an hour of it.
#[test]
fn a_long_blackout_is_recorded_each_hour() {
    let built = (FLEETING.build)(&Params::default()).unwrap();
    let mut collecting = collecting(Source::Builtin { spec: &FLEETING, collector: built });
    let job = Job {
        collector: "demo".into(),
        schedule: Schedule::every(Duration::from_secs(600)).unwrap(),
        jitter: Duration::ZERO,
        misfire: Misfire::Skip,
        blackouts: [Blackout::daily(Blackout::ALL_DAYS, 0, 86_400, Zone::utc())].into(),
    };
    collecting.replace(vec![job], vec![("demo".into(), None)], &at(0));
    let told: Vec<(u64, Value)> = (1..=20)
        .flat_map(|n| {
            let runs = collecting.poll(&at(n * 600), &AgentFigures::default());
            runs.into_iter().map(move |run| (n, run.points[0].fields["count"].clone()))
        })
        .collect();
    // The first is due at 600 s, the one of an hour later is told with it.
    assert_eq!(told, [(7, Value::uint(7)), (14, Value::uint(7))]);
    assert_eq!(account(&collecting).missed, 20);
    let rest = collecting.stop(&at(12_001));
    assert_eq!(rest[0].points[0].fields["count"], Value::uint(6));
}

#[test]
fn what_is_unchanged_by_a_reload_goes_on_and_the_rest_begins_anew() {
    let mut collecting = collecting(Source::Script(Arc::new(exec::Script::new(["/bin/true"]))));
    let job = |name: &str, seconds: u64| Job {
        collector: name.into(),
        schedule: Schedule::every(Duration::from_secs(seconds)).unwrap(),
        jitter: Duration::ZERO,
        misfire: Misfire::Skip,
        blackouts: [].into(),
    };
    let script = || Source::Script(Arc::new(exec::Script::new(["/bin/true"])));
    block_on(async {
        plant(&mut collecting, std::future::pending());
        // Another collector takes the first place, and the one that runs keeps its time and its run.
        let plan = vec![("new".into(), Some(script())), ("demo".into(), None)];
        collecting.replace(vec![job("new", 20), job("demo", 10)], plan, &at(5));
        assert!(collecting.scheduler.is_running(1) && !collecting.scheduler.is_running(0));
        let missed = collecting.poll(&at(10), &AgentFigures::default());
        assert_eq!(error(&missed[0]).1, "1 due run(s) of demo did not happen: overlap");
        // It is withdrawn while it runs, and comes back: still one run at a time.
        collecting.replace(vec![job("new", 20)], vec![("new".into(), None)], &at(11));
        let plan = vec![("demo".into(), Some(script())), ("new".into(), None)];
        collecting.replace(vec![job("demo", 10), job("new", 20)], plan, &at(12));
        assert!(collecting.scheduler.is_running(0), "its first run is still going");
        assert_eq!(collecting.total().missed, 1);
        let ended = collecting.stop(&at(13));
        assert_eq!((ended.len(), &*ended[0].collector), (1, "demo"));
        assert_eq!((collecting.total().runs, collecting.total().failed), (1, 1));
    });
}

/// Missed runs in these records, by collector.
fn shed(runs: &[Run]) -> Vec<(&str, &Value)> {
    let point = |run: &Run| run.points[0].tags.get("reason").is_some_and(|reason| reason == "shed");
    runs.iter().filter(|run| point(run)).map(|run| (&*run.collector, &run.points[0].fields["count"])).collect()
}

#[test]
fn what_is_shed_is_counted_at_once_and_recorded_when_the_stage_changes() {
    let built = (FLEETING.build)(&Params::default()).unwrap();
    let mut collecting = collecting(Source::Builtin { spec: &FLEETING, collector: built });
    let figures = AgentFigures::default();
    collecting.poll(&at(10), &figures);
    assert!(collecting.shed(Share::OneOf(2), &[], &at(11)).is_empty());
    for second in [20, 30, 40, 50] {
        assert!(shed(&collecting.poll(&at(second), &figures)).is_empty(), "at {second}");
    }
    let counts = |account: Account| (account.runs, account.missed, account.shed);
    assert_eq!(counts(account(&collecting)), (3, 2, 2), "five were due");
    let told = collecting.shed(Share::OneOf(4), &["demo".to_owned()], &at(51));
    assert_eq!(shed(&told), [("demo", &Value::Int(2))]);
    assert_eq!(error(&told[0]).1, "2 due run(s) of demo did not happen: shed");
    // It is off: told while it goes on, and no more often than each ten minutes.
    let mut told = Vec::new();
    for second in (60..=1_270).step_by(10) {
        told.extend(collecting.poll(&at(second), &figures));
    }
    assert_eq!(shed(&told), [("demo", &Value::Int(61)), ("demo", &Value::Int(61))]);
    assert_eq!(told.len(), 2, "nothing ran");
    collecting.poll(&at(1_280), &figures);
    assert_eq!(shed(&collecting.stop(&at(1_281))), [("demo", &Value::Int(1))]);
    assert_eq!(counts(account(&collecting)), (3, 125, 125), "128 were due");
}

#[test]
fn the_agent_s_own_collector_is_never_shed_and_a_command_is_obeyed() {
    let own = collect::COLLECTORS.iter().find(|spec| spec.name == collect::OWN).unwrap();
    let built = (own.build)(&Params::default()).unwrap();
    let mut collecting = collecting(Source::Builtin { spec: own, collector: built });
    let figures = AgentFigures::default();
    collecting.shed(Share::None, &["demo".to_owned()], &at(1));
    assert_eq!((1..=5).map(|n| collecting.poll(&at(n * 10), &figures).len()).sum::<usize>(), 5);

    let built = (FLEETING.build)(&Params::default()).unwrap();
    let mut other = super::tests::collecting(Source::Builtin { spec: &FLEETING, collector: built });
    other.shed(Share::None, &[], &at(1));
    assert!(other.poll(&at(10), &figures).is_empty());
    assert!(other.run_now("demo", &at(11), &figures).unwrap().is_some());
}

#[test]
fn a_reload_tells_what_was_shed_before_it() {
    let built = (FLEETING.build)(&Params::default()).unwrap();
    let mut collecting = collecting(Source::Builtin { spec: &FLEETING, collector: built });
    collecting.shed(Share::None, &[], &at(1));
    collecting.poll(&at(10), &AgentFigures::default());
    assert_eq!(shed(&collecting.replace(Vec::new(), Vec::new(), &at(11))), [("demo", &Value::Int(1))]);
    assert_eq!((collecting.total().missed, collecting.total().shed), (1, 1));
}
