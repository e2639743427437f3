//! What is read from which text: the choice of format and the limits here, each format in a file of its own.

mod documented;
mod influx;
mod json;
mod nagios;
mod prometheus;
mod value;

use super::*;
use crate::record::{ErrorKind, RunError, Value};

const DEFAULTS: Defaults<'_> = Defaults { name: "demo", ts: 1, mono: 2 };

fn output(text: &[u8]) -> Output<'_> {
    Output { stdout: text, whole: true, exit: Some(0), program: "/opt/script" }
}

/// As a script of that format that ended well.
fn read(text: &str, format: &str) -> Vec<Point> {
    read_output(&output(text.as_bytes()), format)
}

fn read_output(output: &Output<'_>, format: &str) -> Vec<Point> {
    let spec = Format::from_name(format).unwrap().of(output);
    super::read(spec, output, &DEFAULTS)
}

fn told(text: &str) -> &'static str {
    told_of(&output(text.as_bytes()))
}

fn told_of(output: &Output<'_>) -> &'static str {
    Format::AUTO.of(output).map_or("nothing", |spec| spec.name)
}

fn only_error(points: &[Point]) -> &RunError {
    let errors: Vec<_> = points.iter().filter_map(|p| p.error.as_ref()).collect();
    assert_eq!(errors.len(), 1, "{points:?}");
    errors[0]
}

fn good(points: &[Point]) -> Vec<&str> {
    points.iter().filter(|p| p.error.is_none()).map(|p| p.name.as_ref()).collect()
}

/// `name{tag=value,..} field=value,.. @ts` of each good point.
fn shown(points: &[Point]) -> Vec<String> {
    let value = |value: &Value| match value {
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Float(x) => format!("{x:?}"),
        Value::Str(s) => format!("{s:?}"),
    };
    let point = |p: &Point| {
        let tags: Vec<_> = p.tags.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let fields: Vec<_> = p.fields.iter().map(|(k, v)| format!("{k}={}", value(v))).collect();
        let ts = if p.ts == DEFAULTS.ts { String::new() } else { format!(" @{}", p.ts) };
        format!("{}{{{}}} {}{ts}", p.name, tags.join(","), fields.join(","))
    };
    points.iter().filter(|p| p.error.is_none()).map(point).collect()
}

#[test]
fn every_format_has_a_name_and_only_those() {
    for name in Format::NAMES {
        assert_eq!(Format::from_name(name).unwrap().name(), name);
    }
    assert_eq!(Format::NAMES, ["auto", "ndjson", "json", "influx", "nagios", "openmetrics", "prometheus", "value"]);
    assert_eq!(Format::from_name("xml"), None);
    assert_ne!(Format::from_name("json"), Format::from_name("ndjson"));
    assert!(FORMATS.iter().all(|spec| !spec.about.is_empty()));
}

#[test]
fn the_format_is_told_by_what_is_printed() {
    let cases = [
        ("{\"fields\":{\"a\":1}}", "ndjson"),
        ("# note\n\n  {\"name\":\"n\",\"fields\":{\"a\":1}}\n", "ndjson"),
        ("{\"status\":\"err\"}", "ndjson"),
        ("{\"error\":{\"kind\":\"exit\",\"message\":\"no\"}}", "ndjson"),
        ("{\"a\":1}", "json"),
        ("{\"status\":\"ok\",\"uptime\":5}", "json"),
        ("{\"name\":\"x\",\"fields\":5}", "json"),
        ("{\n  \"fields\": {\"a\": 1}\n}", "json"),
        ("{ \"items\": [\n{\"fields\":{\"x\":1}}\n] }", "json"),
        ("[{\"a\":1},{\"a\":2}]", "json"),
        ("[ ]", "json"),
        ("a x=1", "influx"),
        ("# TYPE of disk\na,t=b x=\"s\" 17", "influx"),
        ("starting up\na x=1", "influx"),
        ("DISK OK - free | /=2643MB;5948;5958;0;5968", "nagios"),
        ("OK: all is well", "nagios"),
        ("SSL CERT OK - expires in 9 days", "nagios"),
        ("up 1", "prometheus"),
        ("# TYPE up gauge\n", "prometheus"),
        ("# HELP up\n# TYPE up gauge\nnoise\nup 1 1700000000000", "prometheus"),
        ("a{b=\"c|d=1 \"} 5\nnoise", "prometheus"),
        ("{\"my.metric\",a=\"b\"} 1", "prometheus"),
        ("up 1\n# EOF\n", "openmetrics"),
        ("42", "value"),
        ("  -0.5\n\n", "value"),
        ("true", "value"),
        ("", "nothing"),
        ("# only a comment\n", "nothing"),
        ("hello world", "nothing"),
        ("Uptime 5\nEverything fine", "nothing"),
        ("inf", "nothing"),
        ("42\n43", "nothing"),
        ("[2026-01-01] INFO started", "nothing"),
        ("CRITICAL - the exit code says OK", "nothing"),
        ("a | b", "nothing"),
    ];
    for (text, format) in cases {
        assert_eq!(told(text), format, "{text}");
    }
}

#[test]
fn typing_mistakes_do_not_turn_our_own_lines_into_other_json() {
    let text = "{\"field\":{\"a\":1}}\n{\"fields\":{\"a\":1},\"tag\":{}}\n{bad\n{\"fields\":{\"a\":1}}\n";
    assert_eq!(told(text), "ndjson");
    let points = read(text, "auto");
    assert_eq!(good(&points).len(), 1);
    let message = &only_error(&points).message;
    assert!(
        message.starts_with("line 1: unknown field `field`") && message.ends_with("2 more bad lines)"),
        "{message}"
    );
    assert_eq!(told("{\"fields\":{\"a\":1},\n{\"fields\":{\"a\":1}}"), "ndjson", "the first line is broken");
}

#[test]
fn what_looks_like_nothing_known_is_one_error_that_says_what_was_expected() {
    for (text, line, more) in [
        ("\n\nhello world\nagain\n", 3, "nor Influx line protocol, nor"),
        ("a,t x=1", 1, "(as that: tag `t` has no value)"),
        ("# note\nno\u{1b}[31m", 2, "nor one number"),
    ] {
        let points = read(text, "auto");
        let error = only_error(&points);
        assert_eq!((points.len(), error.kind), (1, ErrorKind::Parse));
        assert!(error.message.starts_with(&format!("line {line}: in no known format")), "{}", error.message);
        assert!(error.message.contains(more) && error.message.contains("`format`"), "{}", error.message);
        assert!(!error.message.chars().any(char::is_control), "{:?}", error.message);
    }
    let points = read_output(&output(b"\xff\xfe"), "auto");
    assert!(only_error(&points).message.starts_with("line 1: not UTF-8 at byte 1"), "{points:?}");
    assert_eq!(read("# only\n\n", "auto"), vec![]);
}

#[test]
fn a_format_that_is_given_is_not_guessed_at() {
    assert_eq!(good(&read("# note\na x=1\n{\"fields\":{\"a\":1}}", "auto")), ["a"]);
    assert_eq!(only_error(&read("a x=1", "ndjson")).kind, ErrorKind::Parse);
    assert_eq!(only_error(&read("{\"fields\":{\"a\":1}}", "influx")).kind, ErrorKind::Parse);
    assert_eq!(shown(&read("{\"fields\":{\"a\":1}}", "json")), ["demo{} fields_a=1"]);
    assert_eq!(only_error(&read("42", "json")).kind, ErrorKind::Parse);
    assert_eq!(only_error(&read("a x=1", "prometheus")).kind, ErrorKind::Parse);
}

#[test]
fn records_of_the_agent_itself_cannot_be_printed() {
    for (text, format) in [
        ("{\"name\":\"holdover.event\",\"fields\":{\"a\":1}}", "ndjson"),
        ("holdover.collector.missed count=1i", "influx"),
        ("{\"holdover.event\"} 1", "prometheus"),
    ] {
        let points = read(text, format);
        assert!(only_error(&points).message.contains("`holdover.` are the agent's own"), "{points:?}");
        assert_eq!(points.len(), 1);
    }
    assert_eq!(good(&read("holdover_x a=1", "auto")), ["holdover_x"]);
}

#[test]
fn limits_per_record_hold() {
    let many = |n: usize, sep: &str| (0..n).map(|i| format!("k{i}=1")).collect::<Vec<_>>().join(sep);
    let error = |text: &str, format: &str| only_error(&read(text, format)).message.clone();
    assert_eq!(good(&read(&format!("a {}", many(256, ",")), "auto")), ["a"]);
    assert!(error(&format!("a {}", many(257, ",")), "auto").starts_with("line 1: more than 256 fields"));
    assert!(error(&format!("a {}", many(9999, ",")), "auto").starts_with("line 1: more than 256 fields"));
    assert!(error(&format!("a,{} x=1", many(65, ",")), "auto").starts_with("line 1: more than 64 tags"));
    assert!(error(&format!("{} x=1", "n".repeat(201)), "auto").contains("name is longer"));
    assert!(error(&format!("a {}=1", "n".repeat(129)), "auto").contains("field is longer"));
    assert!(error(&format!("a,t={} x=1", "n".repeat(1025)), "auto").contains("tag `t` is longer"));
    let deep = format!("{{\"fields\":{{\"a\":{}1{}}}}}", "[".repeat(5000), "]".repeat(5000));
    assert!(error(&deep, "ndjson").contains("`a`: invalid type: sequence"));
    assert!(error(&deep, "auto").contains("`a`: invalid type: sequence"));
    assert!(error(&deep, "json").contains("nested deeper than 16"));
}

#[test]
fn every_format_stops_at_the_limit_of_records() {
    let n = crate::collect::MAX_POINTS + 5;
    let many = |line: &dyn Fn(usize) -> String| (0..n).map(line).collect::<Vec<_>>().join("\n");
    let cases = [
        (many(&|i| format!("{{\"fields\":{{\"a\":{i}}}}}")), "ndjson", 0),
        (many(&|i| format!("a x={i}")), "influx", 0),
        (many(&|i| format!("{{\"a\":{i}}}")), "json", 0),
        (format!("[{}]", many(&|i| format!("{{\"a\":{i}}},")).trim_end_matches(',')), "json", 0),
        (many(&|i| format!("m{i} 1")), "prometheus", 0),
        (format!("OK\n|{}", many(&|i| format!("m{i}=1"))), "nagios", 1),
    ];
    for (text, format, more) in cases {
        let points = read(&text, format);
        assert_eq!(good(&points).len(), n - 5, "{format}");
        let error = only_error(&points);
        assert_eq!(error.kind, ErrorKind::Output, "{format}");
        assert!(error.message.starts_with(&format!("{} more records", 5 + more)), "{format}: {}", error.message);
    }
}

/// Pieces of which formats are made, so that more than noise is tried.
fn pieces() -> impl proptest::strategy::Strategy<Value = String> {
    let piece = proptest::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        "\"",
        "\"fields\":",
        "\"a\":",
        ":",
        ",",
        "=",
        "|",
        ";",
        "'",
        "''",
        "#",
        "# TYPE m histogram",
        "# UNIT m s",
        "# EOF",
        "m",
        "m_bucket",
        "m_sum",
        "{le=\"1\"}",
        "{le=\"+Inf\"}",
        " ",
        "\t",
        "\n",
        "\r\n",
        "\\",
        "\\\"",
        "\\n",
        "1",
        "-0",
        "1e999",
        "NaN",
        "+Inf",
        "9223372036854775808",
        "1.5e",
        "U",
        "%",
        "@",
        "~:",
        ":",
        "OK",
        "CRITICAL - ",
        "null",
        "true",
        "é",
        "\u{0}",
        "\u{1b}[2J",
        "\u{202e}",
        "holdover.",
        "i",
        "t",
        " # {} 1",
    ]);
    proptest::strategy::Strategy::prop_map(proptest::collection::vec(piece, 0..40), |pieces| pieces.concat())
}

/// Whatever is printed, what comes out is what may be stored.
fn stays_within_limits(text: &[u8], exit: Option<i32>, whole: bool) {
    for format in Format::NAMES {
        for program in ["script", "/usr/lib/nagios/plugins/check_x"] {
            let output = Output { stdout: text, whole, exit, program };
            let points = read_output(&output, format);
            assert!(points.len() <= crate::collect::MAX_POINTS + 2);
            for point in points {
                assert!(point.error.is_some() || !point.fields.is_empty(), "{format}: {point:?}");
                let mut keys = point.fields.keys().chain(point.tags.keys()).chain([&point.name]);
                assert!(keys.all(|key| !key.is_empty() && !key.chars().any(char::is_control)), "{point:?}");
                assert!(point.fields.values().all(|v| !matches!(v, Value::Float(x) if !x.is_finite())), "{point:?}");
                let message = point.error.as_ref().map_or("", |e| &e.message);
                assert!(!message.chars().any(char::is_control) && message.len() < 2048, "{message:?}");
                let mut bytes = Vec::new();
                crate::wire::encode_record(&crate::record::Record::new(1, point.clone()), &mut bytes);
                assert!(bytes.len() <= 15 << 10);
            }
        }
    }
}

/// Each that is taken is stored whole: what an application hands over is answered as stored, and a script's is no loss.
#[test]
fn a_record_of_which_the_harmless_form_is_too_large_is_refused_as_such() {
    let filler = |c: char| c.to_string().repeat(1000 / c.len_utf8());
    for (filler, most) in [(filler('\u{1}'), 5), (filler('\u{85}'), 10), (filler('é'), 15), (filler('x'), 15)] {
        for count in 1..20 {
            let tags: Vec<_> = (0..count).map(|n| format!("t{n}={filler}")).collect();
            let points = read(&format!("m,{} v=1", tags.join(",")), "influx");
            assert_eq!(good(&points).len(), usize::from(count <= most), "{count} tags of {:?}", filler.chars().next());
            stays_within_limits(format!("m,{} v=1", tags.join(",")).as_bytes(), Some(0), true);
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_output_makes_a_parser_panic_or_gives_a_record_that_may_not_be(
        text in ".{0,300}", bytes in proptest::collection::vec(0u8.., 0..300), made in pieces(), exit in -1i32..5, whole: bool
    ) {
        for input in [text.as_bytes(), &bytes, made.as_bytes()] {
            stays_within_limits(input, Some(exit).filter(|code| *code >= 0), whole);
        }
    }
}
