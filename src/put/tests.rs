use super::*;
use crate::record::Value;

fn read_all(header: &str, body: &str) -> Result<Batch, Trouble> {
    read(format!("{header}\n{body}").as_bytes(), &crate::clock::now())
}

const APP: &str = r#"{"put":1,"collector":"app","tags":{"unit":"a","env":"x"}}"#;

#[test]
fn each_line_is_stored_or_refused_for_itself_and_by_its_number() {
    let body = "{\"fields\":{\"n\":1}}\n\n# note\njobs,env=y left=3i 1700000000000000000\n{\"fields\":\n\
                {\"name\":\"holdover.event\",\"fields\":{\"n\":1}}\nno fields\ncut v=12";
    let batch = read_all(APP, body).unwrap();
    let names: Vec<&str> = batch.points.iter().map(|point| &*point.name).collect();
    assert_eq!((&*batch.collector, names), ("app", vec!["app", "jobs"]));
    assert_eq!((batch.points[1].ts, &batch.points[1].fields["left"]), (1_700_000_000_000, &Value::Int(3)));
    assert_eq!((&*batch.points[1].tags["env"], &*batch.points[0].tags["env"]), ("y", "x"), "its own tag counts");
    let refused: Vec<usize> = batch.refused.iter().map(|refused| refused.line).collect();
    assert_eq!(refused, [5, 6, 7, 8], "{:?}", batch.refused);
    assert!(batch.refused[1].reason.contains("`holdover.`") && batch.refused[3].reason.contains("cut short"));
}

#[test]
fn what_is_quoted_of_a_batch_steers_no_terminal() {
    for header in ["{\"\\u001b]0;x\\u0007\":1}", "{\"put\":1,\"\\u001b[2J\":1}"] {
        let trouble = read_all(header, "").unwrap_err();
        assert!(!trouble.message.chars().any(char::is_control), "{:?}", trouble.message);
    }
}

/// The answer counts what is stored; a line of which nothing would be is told.
#[test]
fn a_line_that_grows_too_large_when_it_is_made_harmless_is_refused() {
    let tags: String = (0..10).map(|n| format!(",t{n}={}", "\u{1}".repeat(1000))).collect();
    let batch = read_all(APP, &format!("a n=1\nb{tags} n=1\nc n=1\n")).unwrap();
    let refused: Vec<_> = batch.refused.iter().map(|refused| (refused.line, &*refused.reason)).collect();
    assert_eq!(batch.points.len(), 2);
    assert!(matches!(refused[..], [(2, why)] if why.contains("split it")), "{refused:?}");
}

#[test]
fn a_record_without_a_time_is_of_now() {
    let now = crate::clock::now();
    let batch = read(format!("{APP}\n{{\"fields\":{{\"n\":1}}}}\n").as_bytes(), &now).unwrap();
    assert_eq!((batch.points[0].ts, batch.points[0].mono), (now.wall_ms, now.boot_ms()));
}

#[test]
fn the_named_format_is_the_only_one() {
    let influx = r#"{"put":1,"collector":"app","format":"influx"}"#;
    assert_eq!(read_all(influx, "{\"fields\":{\"n\":1}}\n").unwrap().points.len(), 0);
    let ndjson = r#"{"put":1,"collector":"app","format":"ndjson"}"#;
    assert_eq!(read_all(ndjson, "a n=1\n").unwrap().refused.len(), 1);
}

#[test]
fn what_is_no_batch_is_refused_whole_and_says_why() {
    let long = format!(r#"{{"put":1,"collector":"app","tags":{{"t":"{}"}}}}"#, "x".repeat(MAX_HEADER));
    for (header, why) in [
        ("GET / HTTP/1.1", "no header"),
        (r#"{"put":2,"collector":"app"}"#, "this agent knows 1"),
        (r#"{"put":1,"collector":"a.b"}"#, "collector: "),
        (r#"{"put":1,"collector":""}"#, "collector: "),
        (r#"{"put":1,"collector":"holdover"}"#, "own name"),
        (r#"{"put":1,"collector":"app","colector":1}"#, "colector"),
        (&long, "no first line"),
    ] {
        let trouble = read_all(header, "a n=1\n").unwrap_err();
        assert_eq!(trouble.kind, Kind::Invalid, "{header:.60}");
        assert!(trouble.message.contains(why), "{}", trouble.message);
    }
    assert!(read(b"", &crate::clock::now()).is_err() && read(&[0xff; 40_000], &crate::clock::now()).is_err());
}

#[test]
fn tags_for_all_records_leave_room_for_fewer_lines() {
    let body = "a n=1\n".repeat(MAX_LINES);
    let tagged = APP.replace("\"a\"", &format!("{:?}", "a".repeat(1000)));
    assert_eq!(read_all(&tagged, &body).unwrap_err().kind, Kind::Oversize);
    assert!(read_all(&tagged, "a n=1\n").is_ok());
    let bare = r#"{"put":1,"collector":"app"}"#;
    assert_eq!(read_all(bare, &body).unwrap().points.len(), MAX_LINES);
    for body in [format!("{body}a n=1\n"), "x".repeat(MAX_BATCH + 1)] {
        let trouble = read_all(bare, &body).unwrap_err();
        assert!(trouble.kind == Kind::Oversize && trouble.message.contains("32768 bytes"), "{trouble:?}");
    }
}

/// What the schemas are checked with is what is spoken.
#[test]
fn the_examples_beside_the_schemas_are_of_the_protocol() {
    let (header, line) =
        (include_str!("../../schemas/examples/put.json"), include_str!("../../schemas/examples/put-line.json"));
    let batch = read(format!("{header}{line}").as_bytes(), &crate::clock::now()).unwrap();
    assert_eq!((&*batch.points[0].tags["job"], batch.points[0].fields.len()), ("nightly", 2), "{:?}", batch.refused);
    let text = include_str!("../../schemas/examples/put-answer.json");
    let answer: Answer = serde_json::from_str(text).unwrap();
    let again: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_value(&answer).unwrap(), again);
}
