//! What a reload takes away is told to be over, whatever the outbox refuses.

use super::*;

fn ends(over: Vec<(Arc<str>, Point)>) -> Vec<Point> {
    over.into_iter().map(|(_, point)| point).collect()
}

/// The outbox is full when the reload tells it: nothing measures it any more, so another collector's run tells it.
#[test]
fn an_end_of_what_a_reload_has_taken_away_is_told_until_it_is_stored() {
    let mut note = bad_before();
    let mut events = Events::new(vec![rule("full")], vec!["fs".into(), "cpu".into()]);
    events.remember(Some(&text(&note)));
    let over = ends(events.replace(Vec::new(), &["cpu".into()], &at(0)));
    assert_eq!(names(&over), ["alarm-cleared", "collector-recovered"]);
    handed(&mut events, &mut note, &over, false);
    for stored in [false, true] {
        assert_eq!(note.len(), 2);
        let again = events.saw(&"cpu".into(), &[], &at(1));
        let mut told = names(&again);
        told.sort_unstable();
        assert_eq!(told, ["alarm-cleared", "collector-recovered"]);
        assert!(again.iter().all(|point| point.ts == at(1).wall_ms && &*point.tags["collector"] == "fs"));
        handed(&mut events, &mut note, &again, stored);
    }
    assert!(note.is_empty() && events.kept.is_empty() && events.ended.keys().is_empty());
    assert!(events.saw(&"cpu".into(), &[], &at(2)).is_empty());
}

#[test]
fn an_end_that_is_owed_and_comes_back_with_the_next_reload_is_judged_by_its_runs() {
    let mut note = bad_before();
    let mut events = again(vec![rule("full")], &note);
    let over = ends(events.replace(Vec::new(), &["fs".into()], &at(0)));
    assert_eq!(names(&over), ["alarm-cleared"]);
    handed(&mut events, &mut note, &over, false);
    assert!(events.replace(vec![rule("full")], &["fs".into()], &at(1)).is_empty());
    let bad = [measured("a", 1.0), failed(ErrorKind::Exit)];
    assert!(kept(&mut events, &mut note, 2, &[bad.to_vec()]).is_empty(), "it stands as it did");
    assert_eq!(names(&kept(&mut events, &mut note, 3, &values(&[0.1]))), ["collector-recovered", "alarm-cleared"]);
    assert!(note.is_empty());
}

/// The raise is not answered yet when its alarm goes.
#[test]
fn an_end_behind_a_raise_that_is_stored_later_is_owed_when_it_is_refused() {
    let (mut events, mut note) = (new(vec![rule("full")]), Note::new());
    let raised = events.saw(&"fs".into(), &[measured("a", 1.0)], &at(0));
    note.extend(events.hand_over(&raised).into_iter().map(|(word, _)| word));
    let over = ends(events.replace(Vec::new(), &["fs".into()], &at(1)));
    assert_eq!((over.len(), events.hand_over(&over).len()), (1, 1));
    events.settled(true);
    events.settled(false);
    let again = events.saw(&"fs".into(), &[], &at(2));
    assert_eq!(names(&again), ["alarm-cleared"]);
    handed(&mut events, &mut note, &again, true);
    assert!(note.is_empty());
}

/// They are over already when a reload takes them away, and the outbox refuses to store that.
#[test]
fn an_end_on_its_way_at_a_reload_is_owed_when_it_is_refused() {
    let (mut events, mut note) = (Events::new(vec![rule("full")], vec!["fs".into(), "cpu".into()]), bad_before());
    events.remember(Some(&text(&note)));
    let over = events.saw(&"fs".into(), &[measured("a", 0.1)], &at(0));
    assert_eq!((names(&over), events.hand_over(&over).len()), (vec!["collector-recovered", "alarm-cleared"], 2));
    assert!(events.replace(Vec::new(), &["cpu".into()], &at(1)).is_empty());
    events.settled(false);
    let again = events.saw(&"cpu".into(), &[], &at(2));
    assert_eq!(again.len(), 2);
    handed(&mut events, &mut note, &again, true);
    assert!(note.is_empty() && events.ended.keys().is_empty() && events.kept.is_empty());
}

#[test]
fn an_alarm_whose_collector_goes_is_over() {
    let (mut events, mut note) = (Events::new(vec![rule("full")], vec!["fs".into(), "cpu".into()]), Note::new());
    kept(&mut events, &mut note, 0, &values(&[1.0]));
    let over = ends(events.replace(vec![rule("full")], &["cpu".into()], &at(1)));
    assert_eq!(names(&over), ["alarm-cleared"]);
    handed(&mut events, &mut note, &over, true);
    assert!(note.is_empty());
    let mut later = Events::new(vec![rule("full")], vec!["cpu".into()]);
    later.remember(Some(&text(&bad_before())));
    assert_eq!(later.take_stale().len(), 2, "nor is it kept by a process that does not run it");
}
