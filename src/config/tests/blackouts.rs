//! `[[blackout]]`: both forms, whom it concerns, and everything that cannot be one.

use super::*;

fn night(lines: &str) -> Result<Checked, Rejected> {
    with_broker(&format!("[[blackout]]\nname = \"night\"\n{lines}\n"))
}

/// 2026-09-21 is a Monday; the hour in UTC.
fn at(hour: i64) -> i64 {
    1_789_948_800_000 + hour * 3_600_000
}

#[test]
fn both_forms_are_read() {
    let daily =
        night("from = \"22:00\"\nto = \"06:00\"\ndays = [\"mon\"]\nzone = \"UTC\"\ncollectors = [\"cpu\"]").unwrap();
    let windows = daily.config.windows("cpu");
    let covered: Vec<bool> = [5, 21, 22, 29, 30, 46].map(|hour| windows[0].covers(at(hour))).to_vec();
    assert_eq!(covered, [false, false, true, true, false, false]);
    assert!(daily.config.windows("memory").is_empty());
    let after = night("cron = \"0 0 2 ? * MON\"\nlasts = \"90m\"\nzone = \"UTC\"").unwrap();
    let windows = after.config.windows("memory");
    assert_eq!([1, 2, 3, 4].map(|hour| windows[0].covers(at(hour))), [false, true, true, false]);
}

#[test]
fn what_cannot_be_a_window_is_refused() {
    for (lines, expected) in [
        ("", "it needs from and to, or cron and lasts"),
        ("from = \"22:00\"", "it needs from and to"),
        ("from = \"22:00\"\nto = \"06:00\"\ncron = \"0 0 2 * * ?\"", "it needs from and to"),
        ("cron = \"0 0 2 * * ?\"", "it needs from and to"),
        ("lasts = \"2h\"", "it needs from and to"),
        ("from = \"22\"\nto = \"06:00\"", "\"22\" is no time of day"),
        ("from = \"22:60\"\nto = \"06:00\"", "no time of day"),
        ("from = \"24:01\"\nto = \"06:00\"", "no time of day"),
        ("from = \"9:00\"\nto = \"10:00\"", "no time of day"),
        ("from = \"22:00\"\nto = \"06:00\"\ndays = [\"Monday\"]", "\"Monday\" is no day"),
        ("from = \"22:00\"\nto = \"06:00\"\ndays = []", "the list is empty"),
        ("from = \"22:00\"\nto = \"06:00\"\nzone = \"Mars/Base\"", "\"Mars/Base\" is not known"),
        ("cron = \"0 2 * * *\"\nlasts = \"2h\"", "has 5 fields"),
        ("cron = \"0 0 2 * * ?\"\nlasts = \"0s\"", "0s is outside"),
        ("from = \"06:00\"\nto = \"06:00\"", "the window ends when it begins"),
        ("from = \"24:00\"\nto = \"00:00\"", "the window ends when it begins"),
        ("from = \"24:00\"\nto = \"24:00\"", "the window ends when it begins"),
        ("from = \"22:00\"\nto = \"06:00\"\ncollector = [\"cpu\"]", "did you mean collectors?"),
    ] {
        let message = error(night(lines));
        assert!(message.contains(expected) && message.contains("hint: "), "{lines}: {message}");
        assert!(message.contains("holdover.toml:"), "{lines}: {message}");
    }
    let window = "from = \"22:00\"\nto = \"06:00\"";
    let twice = error(night(&format!("{window}\n[[blackout]]\nname = \"night\"\n{window}")));
    assert!(twice.contains("configured twice"), "{twice}");
    assert!(error(with_broker(&format!("[[blackout]]\n{window}"))).contains("blackout.name is missing"));
    assert!(error(parse(&format!("blackout = 5\n{BROKER}"))).contains("double brackets"));
    let many: String = (0..65).map(|n| format!("[[blackout]]\nname = \"b{n}\"\n{window}\n")).collect();
    assert!(error(with_broker(&many)).contains("65 blackouts are configured, at most 64"));
}

#[test]
fn a_window_for_nobody_is_a_warning() {
    let checked = night("from = \"22:00\"\nto = \"06:00\"\ncollectors = [\"cpuu\"]").unwrap();
    let told = warnings(&checked).concat();
    assert!(told.contains("no collector is called \"cpuu\"") && told.contains("did you mean \"cpu\"?"), "{told}");
}

#[test]
fn windows_that_leave_no_run_are_a_warning() {
    for lines in [
        "from = \"00:00\"\nto = \"24:00\"",
        "cron = \"* * * * * ?\"\nlasts = \"1h\"\ncollectors = [\"cpu\"]",
        "from = \"00:00\"\nto = \"12:00\"\n[[blackout]]\nname = \"b\"\nfrom = \"12:00\"\nto = \"24:00\"",
    ] {
        let told = warnings(&night(lines).unwrap());
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("take every run of the coming 35 days") && told[0].contains("cpu"), "{told:?}");
        assert!(told[0].contains("holdover.toml:") && told[0].contains("hint: "), "{told:?}");
    }
    let one =
        "[[collector]]\nname = \"job\"\nexec = [\"/bin/true\"]\ncron = \"0 30 2 * * ?\"\n[[blackout]]\nname = \"n\"";
    let told = warnings(&with_broker(&format!("{one}\nfrom = \"02:00\"\nto = \"04:00\"")).unwrap());
    assert!(
        told[0].ends_with("from job\n  hint: look at from, to, days and lasts; 'holdover next' shows what runs"),
        "{told:?}"
    );
    assert_eq!(warnings(&night("from = \"22:00\"\nto = \"06:00\"").unwrap()), [""; 0]);
    let whole = "from = \"00:00\"\nto = \"24:00\"\ndays = [\"SAT\", \"SUN\"]";
    assert_eq!(warnings(&night(whole).unwrap()), [""; 0]);
}

#[test]
fn windows_read_back_as_the_same() {
    let checked = night("cron = \"0 0 2 ? * MON\"\nlasts = \"90m\"\ncollectors = [\"cpu\"]").unwrap();
    let effective = checked.effective();
    assert!(effective.contains("[[blackout]]\nname = \"night\"\n"), "{effective}");
    assert_eq!(parse(&effective).unwrap().config, checked.config, "{effective}");
}
