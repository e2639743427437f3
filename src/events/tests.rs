//! What is told, once and in the end, whatever goes up and down.

use super::*;
use crate::record::Value;

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

fn values(values: &[f64]) -> Vec<Vec<Point>> {
    values.iter().map(|value| vec![measured("a", *value)]).collect()
}

#[test]
fn a_collector_is_told_when_it_turns_and_not_when_it_goes_on() {
    let mut events = Events::new(Vec::new());
    let (well, bad) = (vec![measured("a", 0.0)], vec![failed(ErrorKind::Exit)]);
    let runs = [well.clone(), bad.clone(), bad.clone(), Vec::new(), well];
    assert_eq!(told(&mut events, 0, &runs), ["collector-failed", "collector-recovered"]);
    let point = &events.saw(&"fs".into(), &bad, &at(9))[0];
    assert_eq!((&*point.name, &point.fields["kind"]), ("holdover.event", &Value::Str("exit".to_owned())));
}

#[test]
fn what_the_host_never_had_is_no_failure_and_what_it_loses_is() {
    let mut events = Events::new(Vec::new());
    let (well, lacks) = (vec![measured("a", 0.0)], vec![failed(ErrorKind::Unsupported)]);
    assert!(told(&mut events, 0, &[lacks.clone(), lacks.clone(), well]).is_empty());
    assert_eq!(told(&mut events, 3, &[lacks]), ["collector-failed"]);
}

#[test]
fn an_alarm_is_raised_once_and_over_only_at_its_clear_level() {
    let mut events = Events::new(vec![rule("full")]);
    assert!(told(&mut events, 0, &values(&[0.5, 0.85, 0.9])).is_empty());
    assert_eq!(told(&mut events, 3, &values(&[0.91, 0.95, 0.85, 0.92, 0.81])), ["alarm-raised"]);
    assert_eq!(told(&mut events, 8, &values(&[0.8, 0.85, 0.9])), ["alarm-cleared"]);
}

#[test]
fn below_is_the_other_way_round() {
    let mut events = Events::new(vec![Rule { bound: Bound { above: false, limit: 0.1, clear: 0.2 }, ..rule("low") }]);
    let runs = values(&[0.5, 0.1, 0.09, 0.15, 0.05, 0.2]);
    assert_eq!(told(&mut events, 0, &runs), ["alarm-raised", "alarm-cleared"]);
}

#[test]
fn it_waits_for_its_runs_and_its_time_and_begins_anew_when_the_value_comes_back() {
    let mut events = Events::new(vec![Rule { runs: 3, ..rule("full") }]);
    assert!(told(&mut events, 0, &values(&[1.0, 1.0, 0.9, 1.0, 1.0])).is_empty());
    assert_eq!(told(&mut events, 5, &values(&[1.0])), ["alarm-raised"]);
    let mut events = Events::new(vec![Rule { lasting: Duration::from_secs(4), ..rule("full") }]);
    assert!(told(&mut events, 0, &values(&[1.0, 1.0, 1.0, 1.0])).is_empty());
    assert_eq!(told(&mut events, 4, &values(&[1.0])), ["alarm-raised"]);
}

#[test]
fn flapping_is_bounded_and_how_it_ends_is_told() {
    let mut events = Events::new(vec![rule("full")]);
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
    let mut events = Events::new(vec![rule("full")]);
    let disks: Vec<Point> = (0..100).map(|n| measured(&format!("d{n}"), 1.0)).collect();
    assert_eq!(events.saw(&"fs".into(), &disks, &at(0)).len(), 32);
    let later: usize = (1..=700).map(|n| events.saw(&"fs".into(), &disks, &at(n)).len()).sum();
    assert_eq!(later, 68);
}

#[test]
fn more_series_than_can_be_followed_are_said_to_be() {
    let mut events = Events::new(vec![rule("full")]);
    let disks: Vec<Point> = (0..600).map(|n| measured(&format!("d{n}"), 1.0)).collect();
    events.saw(&"fs".into(), &disks, &at(0));
    assert!(events.is_crowded());
    assert_eq!(events.series.len(), MAX_SERIES);
}

#[test]
fn what_is_no_longer_measured_is_over_after_three_runs_and_a_failed_run_is_none() {
    let mut events = Events::new(vec![rule("full")]);
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
    let mut before = Events::new(vec![rule("full")]);
    told(&mut before, 0, &values(&[1.0]));
    told(&mut before, 1, &[vec![failed(ErrorKind::Exit)]]);
    let note = before.take_note().unwrap();
    assert!(before.take_note().is_none(), "unchanged");
    let mut again = Events::new(vec![rule("full")]);
    again.remember(Some(&note));
    assert!(told(&mut again, 0, &[vec![failed(ErrorKind::Exit)]]).is_empty());
    assert_eq!(told(&mut again, 1, &values(&[0.95, 0.1])), ["collector-recovered", "alarm-cleared"]);
    assert_eq!(again.take_note().as_deref(), Some(""));
}

#[test]
fn a_reload_keeps_what_is_unchanged_and_ends_what_is_gone() {
    let (kept, gone) = (rule("kept"), rule("gone"));
    let mut events = Events::new(vec![kept.clone(), gone.clone()]);
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
fn a_note_is_within_what_the_outbox_keeps_and_garbage_is_nothing() {
    let mut events = Events::new(Vec::new());
    for n in 0..5_000_u64 {
        events.saw(&format!("c{}", n % 250).into(), &[failed(ErrorKind::Exit)], &at(n));
    }
    let note = events.take_note().unwrap();
    assert!(note.len() < 1_000, "{}", note.len());
    events.remember(Some("no hash, \u{fffd} 123456789abc -"));
    assert!(events.kept.is_empty());
}

fn step(stage: u8, up: bool) -> Step {
    let fields = [("stage".into(), Value::uint(stage.into()))].into();
    Step { collector: "agent".into(), stage, up, fields, message: "why".to_owned() }
}

#[test]
fn what_the_agent_itself_leaves_out_is_told_and_owed_until_it_is_over() {
    let mut events = Events::new(Vec::new());
    let point = events.stepped(step(1, true), &at(0));
    assert_eq!((&*point.tags["event"], &*point.tags["collector"]), ("agent-degraded", "agent"));
    assert_eq!((&point.fields["stage"], &point.fields["message"]), (&Value::Int(1), &Value::Str("why".to_owned())));
    let note = events.take_note().unwrap();
    assert_eq!(&*events.stepped(step(0, false), &at(9)).tags["event"], "agent-recovered");
    assert_eq!(events.take_note().as_deref(), Some(""));

    let mut again = Events::new(Vec::new());
    again.remember(Some(&note));
    assert!(again.owes_a_step() && !events.owes_a_step());
    told(&mut again, 0, &[vec![failed(ErrorKind::Exit)]]);
    assert!(again.take_note().is_some_and(|kept| kept.contains(&note)), "it is owed after another restart");
    again.stepped(step(0, false), &at(1));
    assert!(!again.owes_a_step());
}
