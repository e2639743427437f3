//! What is told, once and in the end, whatever goes up and down.

use super::*;
use crate::record::Value;

mod reload;

fn at(seconds: u64) -> Now {
    let mono = Duration::from_secs(1_000 + seconds);
    Now { mono, boot: mono, wall_ms: 1_700_000_000_000 + seconds as i64 * 1000 }
}

fn rule(name: &str) -> Rule {
    Rule {
        name: name.into(),
        collector: "fs".into(),
        record: None,
        tags: Vec::new(),
        field: "used".to_owned(),
        bound: Bound { above: true, limit: 0.9, clear: 0.8 },
        runs: 1,
        lasting: Duration::ZERO,
        severity: "warning".to_owned(),
        message: None,
    }
}

fn measured(disk: &str, value: f64) -> Point {
    Point {
        ts: 0,
        mono: 0,
        name: "fs".into(),
        tags: [("disk".into(), disk.to_owned().into())].into(),
        fields: [("used".into(), Value::Float(value))].into(),
        error: None,
    }
}

fn failed(kind: ErrorKind) -> Point {
    Point { error: Some(RunError::new(kind, "broken")), fields: BTreeMap::new(), ..measured("a", 0.0) }
}

/// The events that runs with these points cause, a second apart.
fn told(events: &mut Events, from: u64, runs: &[Vec<Point>]) -> Vec<String> {
    let name = |point: Point| point.tags["event"].to_string();
    let run = |(n, points): (usize, &Vec<Point>)| events.saw(&"fs".into(), points, &at(from + n as u64));
    runs.iter().enumerate().flat_map(run).map(name).collect()
}

fn new(rules: Vec<Rule>) -> Events {
    Events::new(rules, vec!["fs".into()])
}

type Note = BTreeSet<String>;

/// Hands a run with these events over, as the agent does, and the outbox stores or refuses it.
fn handed(events: &mut Events, note: &mut Note, points: &[Point], stored: bool) {
    let words = events.hand_over(points);
    for (word, there) in words.iter().filter(|_| stored) {
        if *there {
            note.insert(word.clone());
        } else {
            note.remove(word);
        }
    }
    if !words.is_empty() {
        events.settled(stored);
    }
}

/// Runs a second apart, each stored; returns their events.
fn kept(events: &mut Events, note: &mut Note, from: u64, runs: &[Vec<Point>]) -> Vec<Point> {
    let mut all = Vec::new();
    for (n, points) in runs.iter().enumerate() {
        let told = events.saw(&"fs".into(), points, &at(from + n as u64));
        handed(events, note, &told, true);
        all.extend(told);
    }
    all
}

fn names(points: &[Point]) -> Vec<&str> {
    points.iter().map(|point| &*point.tags["event"]).collect()
}

fn text(note: &Note) -> String {
    note.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// A raised alarm and a failed collector, and their note.
fn bad_before() -> Note {
    let (mut before, mut note) = (new(vec![rule("full")]), Note::new());
    kept(&mut before, &mut note, 0, &values(&[1.0]));
    kept(&mut before, &mut note, 1, &[vec![failed(ErrorKind::Exit)]]);
    assert_eq!(note.len(), 2);
    note
}

/// Another process, which knows the note.
fn again(rules: Vec<Rule>, note: &Note) -> Events {
    let mut again = new(rules);
    again.remember(Some(&text(note)));
    again
}

fn values(values: &[f64]) -> Vec<Vec<Point>> {
    values.iter().map(|value| vec![measured("a", *value)]).collect()
}

#[test]
fn a_collector_is_told_when_it_turns_and_not_when_it_goes_on() {
    let mut events = new(Vec::new());
    let (well, bad) = (vec![measured("a", 0.0)], vec![failed(ErrorKind::Exit)]);
    let runs = [well.clone(), bad.clone(), bad.clone(), Vec::new(), well];
    assert_eq!(told(&mut events, 0, &runs), ["collector-failed", "collector-recovered"]);
    let point = &events.saw(&"fs".into(), &bad, &at(9))[0];
    assert_eq!((&*point.name, &point.fields["kind"]), ("holdover.event", &Value::Str("exit".to_owned())));
}

#[test]
fn what_the_host_never_had_is_no_failure_and_what_it_loses_is() {
    let mut events = new(Vec::new());
    let (well, lacks) = (vec![measured("a", 0.0)], vec![failed(ErrorKind::Unsupported)]);
    assert!(told(&mut events, 0, &[lacks.clone(), lacks.clone(), well]).is_empty());
    assert_eq!(told(&mut events, 3, &[lacks]), ["collector-failed"]);
}

#[test]
fn an_alarm_is_raised_once_and_over_only_at_its_clear_level() {
    let mut events = new(vec![rule("full")]);
    assert!(told(&mut events, 0, &values(&[0.5, 0.85, 0.9])).is_empty());
    assert_eq!(told(&mut events, 3, &values(&[0.91, 0.95, 0.85, 0.92, 0.81])), ["alarm-raised"]);
    assert_eq!(told(&mut events, 8, &values(&[0.8, 0.85, 0.9])), ["alarm-cleared"]);
}

#[test]
fn below_is_the_other_way_round() {
    let mut events = new(vec![Rule { bound: Bound { above: false, limit: 0.1, clear: 0.2 }, ..rule("low") }]);
    let runs = values(&[0.5, 0.1, 0.09, 0.15, 0.05, 0.2]);
    assert_eq!(told(&mut events, 0, &runs), ["alarm-raised", "alarm-cleared"]);
}

#[test]
fn it_waits_for_its_runs_and_its_time_and_begins_anew_when_the_value_comes_back() {
    let mut events = new(vec![Rule { runs: 3, ..rule("full") }]);
    assert!(told(&mut events, 0, &values(&[1.0, 1.0, 0.9, 1.0, 1.0])).is_empty());
    assert_eq!(told(&mut events, 5, &values(&[1.0])), ["alarm-raised"]);
    let mut events = new(vec![Rule { lasting: Duration::from_secs(4), ..rule("full") }]);
    assert!(told(&mut events, 0, &values(&[1.0, 1.0, 1.0, 1.0])).is_empty());
    assert_eq!(told(&mut events, 4, &values(&[1.0])), ["alarm-raised"]);
}

#[test]
fn flapping_is_bounded_and_how_it_ends_is_told() {
    let mut events = new(vec![rule("full")]);
    let flaps: Vec<f64> = (0..1_000).map(|n| if n % 2 == 0 { 1.0 } else { 0.0 }).collect();
    let during = told(&mut events, 0, &values(&flaps));
    assert!((4..=8).contains(&during.len()), "{during:?}");
    let after = told(&mut events, 2_000, &values(&[1.0]));
    let last = during.iter().chain(&after).next_back().cloned();
    assert_eq!(last.as_deref(), Some("alarm-raised"));
    assert_eq!(told(&mut events, 4_000, &values(&[0.0])), ["alarm-cleared"]);
}

#[test]
fn a_flood_is_spread_and_nothing_of_it_is_forgotten() {
    let mut events = new(vec![rule("full")]);
    let disks: Vec<Point> = (0..100).map(|n| measured(&format!("d{n}"), 1.0)).collect();
    assert_eq!(events.saw(&"fs".into(), &disks, &at(0)).len(), 32);
    let later: usize = (1..=700).map(|n| events.saw(&"fs".into(), &disks, &at(n)).len()).sum();
    assert_eq!(later, 68);
}

#[test]
fn more_series_than_can_be_followed_are_said_to_be() {
    let mut events = new(vec![rule("full")]);
    let disks: Vec<Point> = (0..600).map(|n| measured(&format!("d{n}"), 1.0)).collect();
    events.saw(&"fs".into(), &disks, &at(0));
    assert!(events.is_crowded());
    assert_eq!(events.series.len(), MAX_SERIES);
}

#[test]
fn what_is_no_longer_measured_is_over_after_three_runs_and_a_failed_run_is_none() {
    let mut events = new(vec![rule("full")]);
    assert_eq!(told(&mut events, 0, &values(&[1.0])), ["alarm-raised"]);
    let other = || vec![measured("b", 0.1)];
    assert_eq!(
        told(&mut events, 1, &[other(), vec![failed(ErrorKind::Exit)], other()]),
        ["collector-failed", "collector-recovered"]
    );
    assert_eq!(told(&mut events, 4, &[other()]), ["alarm-cleared"]);
}

#[test]
fn a_restart_tells_nothing_anew_and_what_ended_meanwhile() {
    let mut note = bad_before();
    let mut after = again(vec![rule("full")], &note);
    assert!(kept(&mut after, &mut note, 0, &[vec![failed(ErrorKind::Exit)]]).is_empty());
    let over = kept(&mut after, &mut note, 1, &values(&[0.95, 0.1]));
    assert_eq!(names(&over), ["collector-recovered", "alarm-cleared"]);
    assert!(note.is_empty(), "{note:?}");
}

/// An outbox that is full, or whose memory is: a later run tells it, and until then the note does not claim it.
#[test]
fn what_could_not_be_stored_is_told_by_a_later_run() {
    let (mut events, mut note) = (new(vec![rule("full")]), Note::new());
    let bad = [measured("a", 1.0), failed(ErrorKind::Exit)];
    let told = events.saw(&"fs".into(), &bad, &at(0));
    assert_eq!(names(&told), ["collector-failed", "alarm-raised"]);
    handed(&mut events, &mut note, &told, false);
    let told = events.saw(&"fs".into(), &bad, &at(1));
    assert_eq!((events.hand_over(&told).len(), told.len()), (2, 2));
    events.refused();
    assert!(note.is_empty());
    assert_eq!((kept(&mut events, &mut note, 2, &[bad.to_vec()]).len(), note.len()), (2, 2));
    let over = events.saw(&"fs".into(), &[measured("a", 0.1)], &at(2_000));
    handed(&mut events, &mut note, &over, false);
    assert_eq!((over.len(), note.len()), (2, 2), "its end is refused, and told again");
    assert_eq!(kept(&mut events, &mut note, 2_001, &values(&[0.1])).len(), 2);
    assert!(note.is_empty());
}

#[test]
fn a_rise_and_an_end_that_were_both_refused_leave_nothing_behind() {
    let mut events = new(vec![rule("full")]);
    for (second, value) in [(0, 1.0), (1, 0.1)] {
        let told = events.saw(&"fs".into(), &[measured("a", value)], &at(second));
        assert_eq!(events.hand_over(&told).len(), 1);
    }
    events.settled(false);
    events.settled(false);
    assert_eq!(told(&mut events, 2, &values(&[1.0])), ["alarm-raised"]);
}

#[test]
fn what_was_told_before_a_restart_and_is_not_met_after_it_is_over() {
    let mut note = bad_before();
    let mut after = again(vec![rule("full")], &note);
    let other = vec![measured("b", 0.1)];
    let over = kept(&mut after, &mut note, 0, &[other.clone(), other.clone(), other]);
    assert_eq!(names(&over), ["collector-recovered", "alarm-cleared"]);
    assert!(note.is_empty());

    let mut note = bad_before();
    let mut after = again(vec![rule("full")], &note);
    let over: Vec<Point> = after.replace(Vec::new(), &[], &at(0)).into_iter().map(|(_, point)| point).collect();
    assert_eq!(names(&over), ["alarm-cleared", "collector-recovered"]);
    handed(&mut after, &mut note, &over, true);
    assert!(note.is_empty());

    let mut late = new(vec![rule("full")]);
    let mut note = bad_before();
    told(&mut late, 0, &values(&[0.1]));
    late.remember(Some(&text(&note)));
    let over = kept(&mut late, &mut note, 1, &values(&[0.1]));
    assert_eq!(names(&over), ["collector-recovered", "alarm-cleared"]);
    assert!(note.is_empty() && late.kept.is_empty());

    let mut note = bad_before();
    let mut gone = Events::new(Vec::new(), Vec::new());
    gone.remember(Some(&text(&note)));
    gone.take_stale().iter().for_each(|(word, there)| assert!(!there && note.remove(word)));
    assert!(note.is_empty());
}

#[test]
fn an_end_is_known_for_the_end_of_what_was_raised() {
    let (mut events, mut note) = (new(vec![rule("full")]), Note::new());
    let raised = kept(&mut events, &mut note, 0, &values(&[1.0]));
    // A script that speaks only of what is wrong: nothing said is nothing wrong.
    let over = kept(&mut events, &mut note, 1, &[Vec::new(), Vec::new(), Vec::new()]);
    assert_eq!(names(&over), ["alarm-cleared"]);
    assert_eq!(over[0].fields["series"], raised[0].fields["series"]);
    assert_eq!((&*over[0].tags["disk"], &over[0].fields["value"]), ("a", &Value::Float(1.0)));
}

#[test]
fn an_event_is_small_whatever_its_tags_are_and_its_series_is_still_its_own() {
    let mut events = new(vec![rule("full")]);
    let long = |last: &str| {
        let mut point = measured(last, 1.0);
        point.tags.extend((0..40).map(|n| (format!("a{n:02}").into(), "\u{e4}".repeat(500).into())));
        point
    };
    let told = events.saw(&"fs".into(), &[long("x"), long("y")], &at(0));
    assert_ne!(told[0].fields["series"], told[1].fields["series"]);
    for point in &told {
        assert!(point.tags.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() < 2_500);
    }
    assert!(events.series.keys().all(|(_, name)| name.len() <= 256));
}

#[test]
fn a_reload_keeps_what_is_unchanged_and_ends_what_is_gone() {
    let (kept, gone) = (rule("kept"), rule("gone"));
    let mut events = new(vec![kept.clone(), gone.clone()]);
    assert_eq!(told(&mut events, 0, &values(&[1.0])), ["alarm-raised", "alarm-raised"]);
    let over = events.replace(vec![kept, Rule { runs: 2, ..gone }], &["fs".into()], &at(1));
    assert_eq!(over.len(), 1);
    assert_eq!((&*over[0].1.tags["event"], &*over[0].1.tags["alarm"]), ("alarm-cleared", "gone"));
    assert_eq!(told(&mut events, 2, &values(&[1.0, 1.0])), ["alarm-raised"], "the changed one, after its two runs");
    told(&mut events, 4, &[vec![failed(ErrorKind::Exit)]]);
    let over = events.replace(Vec::new(), &[], &at(5));
    let names: Vec<&str> = over.iter().map(|(_, point)| &*point.tags["event"]).collect();
    assert_eq!(names, ["alarm-cleared", "alarm-cleared", "collector-recovered"]);
}

#[test]
fn garbage_in_a_note_is_nothing() {
    let mut events = new(Vec::new());
    events.remember(Some("no hash, \u{fffd} 123456789abc - 0123456789abcdefg 0123456\u{e4}9abcdef"));
    assert!(events.kept.is_empty() && events.take_stale().is_empty());
}

fn step(stage: u8, up: bool) -> Step {
    let fields = [("stage".into(), Value::uint(stage.into()))].into();
    Step { collector: "agent".into(), stage, up, fields, message: "why".to_owned() }
}

#[test]
fn what_the_agent_itself_leaves_out_is_told_and_owed_until_it_is_over() {
    let mut events = new(Vec::new());
    let point = events.stepped(step(1, true), &at(0));
    assert_eq!((&*point.tags["event"], &*point.tags["collector"]), ("agent-degraded", "agent"));
    assert_eq!((&point.fields["stage"], &point.fields["message"]), (&Value::Int(1), &Value::Str("why".to_owned())));
    let mut note = Note::new();
    handed(&mut events, &mut note, &[point], true);
    let mut again = again(Vec::new(), &note);
    assert!(again.owes_a_step(0) && !again.owes_a_step(1));
    let over = again.stepped(step(0, false), &at(1));
    assert_eq!((&*over.tags["event"], again.owes_a_step(0)), ("agent-recovered", false));
    handed(&mut again, &mut note, &[over], false);
    assert!(again.owes_a_step(0), "it was refused");
}
