use std::os::unix::fs::PermissionsExt;

use super::super::{Collector, Config, What};
use super::*;
use crate::collect::COLLECTORS;
use crate::collect::exec::Format;
use crate::schedule::{Misfire, Schedule};

fn names(checked: &Checked) -> Vec<&str> {
    checked.config.collectors.iter().map(|collector| &*collector.name).collect()
}

fn find<'a>(checked: &'a Checked, name: &str) -> &'a Collector {
    checked.config.collectors.iter().find(|collector| &*collector.name == name).unwrap()
}

fn defaults() -> Vec<&'static str> {
    COLLECTORS.iter().filter(|spec| spec.default_on).map(|spec| spec.name).collect()
}

#[test]
fn default_set_runs_at_its_own_intervals() {
    let checked = with_broker("").unwrap();
    assert_eq!(names(&checked), defaults());
    assert!(names(&checked).len() >= 3);
    for spec in COLLECTORS.iter().filter(|spec| spec.default_on) {
        let collector = find(&checked, spec.name);
        let period = super::super::units::parse_duration(spec.default_schedule).unwrap();
        assert_eq!(collector.schedule, Schedule::Every(period), "{}", spec.name);
    }
}

/// A default that the reader refuses would be silently replaced by nothing.
#[test]
fn defaults_of_all_built_in_parameters_are_good() {
    for spec in COLLECTORS {
        let params: String =
            spec.params.iter().map(|param| format!("params.{} = {}\n", param.name, param.default)).collect();
        let text = format!("[[collector]]\nname = \"{}\"\n{params}", spec.name);
        let bad: Vec<String> =
            errors(with_broker(&text)).into_iter().filter(|error| !error.contains("at least one")).collect();
        assert!(bad.is_empty(), "{text}: {bad:?}");
    }
}

#[test]
fn entry_with_the_name_of_a_default_changes_it() {
    let checked = with_broker("[[collector]]\nname = \"cpu\"\nevery = \"1s\"\nparams = { per_core = true }").unwrap();
    assert_eq!(names(&checked), defaults());
    assert_eq!(find(&checked, "cpu").schedule, Schedule::Every(Duration::from_secs(1)));
    let What::Builtin { params, .. } = &find(&checked, "cpu").what else { panic!("a built-in") };
    assert_eq!(params.bool("per_core"), Some(true));
}

#[test]
fn defaults_can_be_switched_off_one_by_one_and_all() {
    let one = with_broker("[[collector]]\nname = \"cpu\"\nenabled = false").unwrap();
    assert_eq!((names(&one), &*one.config.disabled[0]), (defaults()[1..].to_vec(), "cpu"));
    let all = with_broker("[agent]\ndefault_collectors = false\n[[collector]]\nname = \"memory\"").unwrap();
    assert_eq!(names(&all), ["memory"]);
}

#[test]
fn second_collector_of_one_builtin_has_its_own_params() {
    let text = "[[collector]]\nname = \"sshd\"\nuse = \"processes\"\nparams.names = [\"sshd\"]";
    let checked = with_broker(text).unwrap();
    assert_eq!(*names(&checked).last().unwrap(), "sshd");
    let What::Builtin { spec, params } = &find(&checked, "sshd").what else { panic!("a built-in") };
    assert_eq!((spec.name, params.list("names")), ("processes", &["sshd".to_owned()][..]));
}

#[test]
fn parameters_are_tried_on_the_collector_itself() {
    let none = error(with_broker("[[collector]]\nname = \"processes\""));
    assert!(none.contains("toml:4:1: error: collector.processes: parameter `names`"), "{none}");
    let path = error(with_broker("[[collector]]\nname = \"processes\"\nparams.names = [\"/usr/sbin/sshd\"]"));
    assert!(path.contains("toml:6:16: error: ") && path.contains("hint: params.names: "), "{path}");
    let off = with_broker("[[collector]]\nname = \"processes\"\nenabled = false").unwrap();
    assert_eq!(&*off.config.disabled[0], "processes");
}

#[test]
fn cron_zone_and_policies_are_read() {
    let text = "[[collector]]\nname = \"cpu\"\ncron = \"0 0/5 * * * ?\"\nzone = \"Europe/Berlin\"\njitter = \"20s\"\n\
                misfire = \"once\"\ntimeout = \"3s\"";
    let checked = with_broker(text).unwrap();
    let cpu = find(&checked, "cpu");
    assert_eq!(cpu.schedule.to_string(), "0 0/5 * * * ? (Europe/Berlin)");
    assert_eq!(
        (cpu.jitter, cpu.misfire, cpu.timeout),
        (Duration::from_secs(20), Misfire::Once, Duration::from_secs(3))
    );
}

#[test]
fn bad_schedules_are_refused_with_place_and_hint() {
    for (line, expected) in [
        ("cron = \"* * * * *\"", "has 5 fields"),
        ("cron = \"0 0 0 30 2 ?\"", "never comes"),
        ("cron = \"0 0 0 1 1 ? 2020\"", "names only times that are over"),
        ("cron = \"0 0 0 1 * MON\"", "both restricted"),
        ("cron = \"@hourly\"", "write \"0 0 * * * ?\""),
        ("cron = 5", "expected a string"),
        ("every = \"0s\"", "0s is outside 1s to 1w"),
        ("every = \"100ms\"", "outside 1s"),
        ("every = \"30d\"", "outside 1s"),
        ("every = 10", "expected a duration, found an integer"),
        ("every = \"10s\"\ncron = \"0 * * * * ?\"", "every and cron are both given"),
        ("every = \"10s\"\nzone = \"UTC\"", "no meaning without cron"),
        ("every = \"10s\"\njitter = \"10s\"", "not shorter than the interval"),
        ("cron = \"0 * * * * ?\"\nzone = \"Mars/Base\"", "time zone \"Mars/Base\" is not known"),
        ("timeout = \"0s\"", "0s is outside 100ms to 1d"),
        ("misfire = \"twice\"", "not one of skip, once"),
        ("params = 5", "expected a table, found an integer"),
        ("params.percore = true", "did you mean per_core?"),
        ("params.per_core = \"yes\"", "expected true or false"),
        ("max_output = \"1MiB\"", "only programs (exec) have it"),
        ("use = \"cpuu\"", "did you mean use = \"cpu\"?"),
    ] {
        let message = error(with_broker(&format!("[[collector]]\nname = \"cpu\"\n{line}")));
        let placed = message.contains("toml:6:") || message.contains("toml:7:");
        assert!(message.contains(expected) && placed && message.contains("hint: "), "{line}: {message}");
    }
}

#[test]
fn both_mistakes_of_a_cron_collector_are_reported() {
    let text = "[[collector]]\nname = \"cpu\"\ncron = \"* * * * *\"\nzone = \"Mars/Base\"";
    assert_eq!(errors(with_broker(text)).len(), 2);
}

#[test]
fn names_are_required_good_and_unique() {
    assert!(error(with_broker("[[collector]]\nuse = \"cpu\"")).contains("toml:4:1: error: collector.name is missing"));
    assert!(error(with_broker("[[collector]]\nname = \"a.b\"\nuse = \"cpu\"")).contains("for example \"a-b\""));
    let twice = error(with_broker("[[collector]]\nname = \"cpu\"\n[[collector]]\nname = \"cpu\""));
    assert!(twice.contains("toml:6:1: error: collector \"cpu\" is configured twice"), "{twice}");
    assert!(twice.contains("the first is at /etc/holdover/holdover.toml:4:1"), "{twice}");
    let nothing = error(with_broker("[[collector]]\nname = \"backup\"\nevery = \"1m\""));
    assert!(
        nothing.contains("neither use nor exec is given") && nothing.contains("cpu, memory, vm, load"),
        "{nothing}"
    );
}

#[test]
fn programs_are_resolved_and_their_absence_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("holdover.toml");
    let script = dir.path().join("backup.sh");
    let text = format!(
        "{BROKER}[[collector]]\nname = \"backup\"\nevery = \"1m\"\nexec = [\"./backup.sh\", \"--all\", \"\"]\nformat = \"influx\""
    );
    let load = || Config::parse(&file, &text, &around(&[])).unwrap();
    let absent = load();
    assert!(warnings(&absent)[0].contains("backup.sh: No such file"), "{:?}", absent.warnings);
    let What::Exec(exec) = &find(&absent, "backup").what else { panic!("a program") };
    assert_eq!(exec.argv, [script.to_string_lossy().replace("/./", "/"), "--all".to_owned(), String::new()]);
    assert_eq!((exec.format, exec.max_output), (Format::Influx, 256 << 10));
    std::fs::write(&script, "#!/bin/sh\n").unwrap();
    for (mode, expected) in
        [(0o644, Some("is not executable")), (0o777, Some("every user of this host may change")), (0o755, None)]
    {
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(mode)).unwrap();
        let found = warnings(&load());
        assert_eq!(found.len(), usize::from(expected.is_some()), "{mode:o}: {found:?}");
        assert!(expected.is_none_or(|expected| found[0].contains(expected)), "{mode:o}: {found:?}");
    }
}

#[test]
fn bare_names_are_looked_up_where_the_agent_will() {
    let text = |program: &str| format!("[[collector]]\nname = \"x\"\nevery = \"1m\"\nexec = [\"{program}\", \"-c\"]");
    let checked = with_broker(&text("sh")).unwrap();
    assert!(checked.warnings.is_empty(), "{:?}", checked.warnings);
    let What::Exec(exec) = &find(&checked, "x").what else { panic!("a program") };
    assert_eq!(exec.argv, ["sh", "-c"]);
    assert!(warnings(&with_broker(&text("no-such-program")).unwrap())[0].contains("is in none of /usr/local/sbin"));
}

#[test]
fn bad_programs_are_refused() {
    for (lines, expected) in [
        ("exec = []\nevery = \"1m\"", "no program is named"),
        ("exec = [\"\"]\nevery = \"1m\"", "no program is named"),
        ("exec = \"/bin/true\"\nevery = \"1m\"", "expected a list of strings, found a string"),
        ("exec = [\"/bin/true\", 5]\nevery = \"1m\"", "a list member is an integer"),
        ("exec = [\"/bin/true\"]", "neither every nor cron is given"),
        ("exec = [\"/bin/true\"]\nuse = \"cpu\"\nevery = \"1m\"", "use and exec are both given"),
        ("exec = [\"/bin/true\"]\nparams = {}\nevery = \"1m\"", "programs take arguments"),
        ("exec = [\"/bin/true\"]\nformat = \"xml\"\nevery = \"1m\"", "not one of auto, ndjson, influx"),
    ] {
        let message = error(with_broker(&format!("[[collector]]\nname = \"x\"\n{lines}")));
        assert!(message.contains(expected), "{lines}: {message}");
    }
}

#[test]
fn too_many_collectors_are_refused_as_one_error() {
    let text: String = (0..300).map(|n| format!("[[collector]]\nname = \"c{n}\"\nuse = \"cpu\"\n")).collect();
    assert!(error(with_broker(&text)).contains("300 collectors are configured, at most 256"));
}
