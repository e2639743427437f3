//! `[[alarm]]`: what is read, and everything that cannot be one.

use super::*;

const WHOLE: &str = "collector = \"cpu\"\nfield = \"utilization\"\nabove = 0.9";

fn alarm(lines: &str) -> Result<Checked, Rejected> {
    with_broker(&format!("[[alarm]]\nname = \"busy\"\n{lines}\n"))
}

#[test]
fn an_alarm_is_read_and_reads_back_as_the_same() {
    let lines = format!("{WHOLE}\nclear = 0.5\nruns = 3\nfor = \"1m\"\ntags = [\"cpu=0\"]\nseverity = \"critical\"");
    let checked = alarm(&lines).unwrap();
    let rule = &checked.config.alarms[0];
    assert_eq!((rule.bound.limit, rule.bound.clear, rule.runs), (0.9, 0.5, 3));
    assert_eq!(rule.tags, [("cpu".to_owned(), "0".to_owned())]);
    let effective = checked.effective();
    assert_eq!(parse(&effective).unwrap().config, checked.config, "{effective}");
    let low = alarm("collector = \"cpu\"\nfield = \"x\"\nbelow = 1").unwrap();
    assert_eq!((low.config.alarms[0].bound.above, low.config.alarms[0].bound.clear), (false, 1.0));
}

#[test]
fn what_cannot_be_an_alarm_is_refused() {
    for (lines, expected) in [
        ("", "alarm.collector is missing"),
        ("collector = \"cpu\"", "alarm.field is missing"),
        ("collector = \"cpu\"\nfield = \"x\"", "it needs above or below"),
        ("collector = \"cpu\"\nfield = \"x\"\nabove = 1\nbelow = 0", "it needs above or below"),
        ("collector = \"cpu\"\nfield = \"x\"\nabove = 1\nclear = 2", "2 is beyond the limit"),
        ("collector = \"cpu\"\nfield = \"x\"\nbelow = 1\nclear = 0.5", "0.5 is beyond the limit"),
        ("collector = \"cpu\"\nfield = \"x\"\nabove = nan", "no finite number"),
        ("collector = \"cpu\"\nfield = \"x\"\nabove = \"1\"", "expected a number"),
        ("collector = \"cpu\"\nfield = \"x\"\nabove = 1\nruns = 0", "0 is outside"),
        ("collector = \"cpu\"\nfield = \"x\"\nabove = 1\nseverity = \"criticl\"", "did you mean \"critical\"?"),
        ("collector = \"cpu\"\nfield = \"x\"\nabove = 1\ntags = [\"cpu\"]", "\"cpu\" is no tag"),
        ("collector = \"cpu\"\nfields = \"x\"\nabove = 1", "alarm.field is missing"),
    ] {
        let message = error(alarm(lines));
        assert!(message.contains(expected) && message.contains("hint: "), "{lines}: {message}");
        assert!(message.contains("holdover.toml:"), "{lines}: {message}");
    }
    let twice = error(alarm(&format!("{WHOLE}\n[[alarm]]\nname = \"busy\"\n{WHOLE}")));
    assert!(twice.contains("configured twice"), "{twice}");
    let many: String = (0..65).map(|n| format!("[[alarm]]\nname = \"a{n}\"\n{WHOLE}\n")).collect();
    assert!(error(with_broker(&many)).contains("65 alarms are configured, at most 64"));
}

#[test]
fn an_alarm_on_nobody_is_a_warning() {
    let checked = alarm("collector = \"cpuu\"\nfield = \"x\"\nabove = 1").unwrap();
    let told = warnings(&checked).concat();
    assert!(told.contains("no collector is called \"cpuu\"") && told.contains("did you mean \"cpu\"?"), "{told}");
}
