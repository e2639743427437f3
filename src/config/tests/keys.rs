use super::super::keys::{self, Kind, SECTIONS};
use super::super::{Config, Drop, LogFormat, Origin, Rate, nearest, reference};
use super::*;
use crate::collect::COLLECTORS;

#[test]
fn five_lines_suffice() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["ca.pem", "host.pem", "host.key"] {
        std::fs::write(dir.path().join(name), "x").unwrap();
    }
    let text = "[broker]\nurl = \"mqtts://broker.example.com:8883\"\nca = \"ca.pem\"\ncert = \"host.pem\"\nkey = \"host.key\"\n";
    let checked = Config::parse(&dir.path().join("holdover.toml"), text, &around(&[])).unwrap();
    let config = &checked.config;
    assert_eq!(config.broker.cert.as_deref(), Some(&*dir.path().join("host.pem")));
    assert_eq!(config.outbox.dir, Path::new("/var/lib/holdover"));
    assert_eq!((config.outbox.max_bytes, config.outbox.drop), (256 << 20, Drop::Oldest));
    assert_eq!((config.uplink.history_rate, config.uplink.history_batches), (Rate::Bytes(480_000), 8));
    assert_eq!(config.log.format, LogFormat::Auto);
    let names: Vec<&str> = config.collectors.iter().map(|collector| &*collector.name).collect();
    let defaults: Vec<&str> = COLLECTORS.iter().filter(|spec| spec.default_on).map(|spec| spec.name).collect();
    assert_eq!(names, defaults);
    let origin = checked.origin_of("broker.cert");
    assert!(matches!(origin, Origin::File { line: 4, column: 8, .. }), "{origin}");
    assert_eq!(checked.origin_of("broker.keep_alive"), Origin::Default);
}

#[test]
fn reference_parses_and_means_the_defaults() {
    let text = reference();
    let checked = parse(&text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(checked.config, parse("[broker]\nurl = \"mqtts://broker.example.com:8883\"").unwrap().config);
    assert!(text.lines().all(|line| line.len() <= 100), "lines fit a terminal");
    for key in SECTIONS.iter().flat_map(|section| section.keys) {
        assert!(
            text.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{} =", key.name))),
            "{}",
            key.name
        );
    }
    for spec in COLLECTORS {
        assert!(text.contains(&format!("# {} (every ", spec.name)), "{}", spec.name);
    }
}

/// Each example, uncommented on its own, is accepted (files that it names may be missing).
#[test]
fn examples_of_the_reference_are_good() {
    for section in SECTIONS.iter().filter(|section| !keys::REPEATED.contains(&section.name)) {
        for key in section.keys.iter().filter(|key| !key.example.is_empty()) {
            let mut text = format!("[{}]\n{} = {}\n", section.name, key.name, key.example);
            if section.name != "broker" {
                text.push_str(BROKER);
            } else if !key.name.starts_with("url") {
                text.push_str("url = \"mqtts://b.example\"\n");
            }
            let bad =
                errors(parse(&text)).into_iter().filter(|e| !e.contains("cannot read") && !e.contains("without its"));
            let bad: Vec<String> = bad.filter(|e| !e.contains("$CREDENTIALS_DIRECTORY is not set")).collect();
            assert!(bad.is_empty(), "{text}: {bad:?}");
        }
    }
}

fn fits(kind: Kind, literal: &str) -> bool {
    match kind {
        Kind::Bool => literal == "true",
        Kind::Int(..) => literal == "7" || literal == "0xff",
        Kind::Text | Kind::Name | Kind::Path => literal == "\"x\"",
        Kind::Texts => literal == "[\"x\"]" || literal == "[]",
        Kind::Duration(..) | Kind::Size(..) | Kind::Rate(..) | Kind::Choice(_) => false,
        Kind::Number => literal == "0xff" || literal.parse::<f64>().is_ok_and(f64::is_finite),
        Kind::Table => literal == "{}",
    }
}

#[test]
fn every_key_refuses_values_of_every_other_kind() {
    let literals = [
        "true",
        "7",
        "-1",
        "1.5",
        "nan",
        "1979-05-27",
        "07:32:00",
        "\"x\"",
        "\"\"",
        "\"a\\u0007b\"",
        "[\"x\"]",
        "[]",
        "[1]",
        "[[\"x\"]]",
        "{}",
        "{ a = 1 }",
        "9223372036854775807",
        "9223372036854775808",
        "0xff",
    ];
    for section in SECTIONS {
        for (key, literal) in section.keys.iter().flat_map(|key| literals.iter().map(move |literal| (key, *literal))) {
            if fits(key.kind, literal) {
                continue;
            }
            let text = if section.name == keys::BLACKOUT {
                let name = if key.name == "name" { "" } else { "name = \"night\"\n" };
                // The other half of a window.
                let pair = match key.name {
                    "from" => "to = \"06:00\"\n",
                    "to" | "days" => "from = \"22:00\"\n",
                    "cron" => "lasts = \"2h\"\n",
                    "lasts" => "cron = \"0 0 2 * * ?\"\n",
                    _ => "from = \"22:00\"\nto = \"06:00\"\n",
                };
                let rest = if key.name == "days" { "to = \"06:00\"\n" } else { "" };
                format!("[[blackout]]\n{} = {literal}\n{name}{pair}{rest}{BROKER}", key.name)
            } else if section.name == keys::ALARM {
                let whole = [("name", "\"x\""), ("collector", "\"cpu\""), ("field", "\"x\""), ("above", "1")];
                let given = |name: &str| name == key.name || name == "above" && key.name == "below";
                let rest: Vec<String> = whole
                    .iter()
                    .filter(|(name, _)| !given(name))
                    .map(|(name, value)| format!("{name} = {value}\n"))
                    .collect();
                format!("[[alarm]]\n{} = {literal}\n{}{BROKER}", key.name, rest.concat())
            } else if section.name == keys::COLLECTOR {
                let name = if key.name == "name" { "" } else { "name = \"cpu\"\n" };
                format!("[[collector]]\n{} = {literal}\n{name}{BROKER}", key.name)
            } else if section.name == "broker" {
                format!("[broker]\n{} = {literal}\n", key.name)
            } else {
                format!("[{}]\n{} = {literal}\n{BROKER}", section.name, key.name)
            };
            let found = errors(parse(&text));
            let placed = found.iter().any(|error| error.contains(":2:") && error.contains(key.name));
            let number = literal.len() == 19 && found.iter().any(|error| error.contains(":2:"));
            assert!(placed || number, "{text}: {found:#?}");
        }
    }
}

#[test]
fn every_error_has_a_hint() {
    let text = "x = 1\n[host]\nid = \"a.b\"\nsite = 5\n[outbox]\nmax_bytes = \"1B\"\n[lgo]\n[[collector]]\nname = \"q\"\n[broker]\nurl = 5\n";
    let Err(rejected) = parse(text) else { panic!("refused") };
    assert!(rejected.problems.len() >= 7, "{rejected}");
    for problem in &rejected.problems {
        assert!(problem.hint.as_ref().is_some_and(|hint| !hint.is_empty()), "{problem}");
    }
}

#[test]
fn misspelled_keys_are_refused_with_the_right_one() {
    for section in SECTIONS {
        for key in section.keys.iter().filter(|key| key.name.len() > 3) {
            let wrong = format!("{}{}", &key.name[..1], &key.name[2..]);
            let text = match section.name {
                keys::COLLECTOR => format!("[[collector]]\n{wrong} = 1\nname = \"cpu\"\n{BROKER}"),
                keys::BLACKOUT => {
                    format!("[[blackout]]\n{wrong} = 1\nname = \"x\"\nfrom = \"22:00\"\nto = \"06:00\"\n{BROKER}")
                }
                keys::ALARM => {
                    let whole = "name = \"x\"\ncollector = \"cpu\"\nfield = \"x\"\nabove = 1\n";
                    format!("[[alarm]]\n{wrong} = 1\n{whole}{BROKER}")
                }
                "broker" => format!("[broker]\n{wrong} = 1\nurl = \"mqtts://b\"\n"),
                name => format!("[{name}]\n{wrong} = 1\n{BROKER}"),
            };
            let message = error(parse(&text));
            assert!(message.starts_with("/etc/holdover/holdover.toml:2:1: error: unknown key "), "{message}");
            assert!(message.ends_with(&format!("did you mean {}?", key.name)), "{message}");
        }
    }
}

#[test]
fn unknown_sections_and_stray_keys_say_where_they_belong() {
    assert!(error(with_broker("[brokr]\nx = 1")).ends_with("hint: did you mean broker?"));
    assert!(error(with_broker("[collectors]\n")).contains("did you mean collector?"));
    assert!(error(with_broker("[zzz]\n")).contains("the sections are host, broker"));
    let stray = error(parse(&format!("keep_alive = \"5s\"\n{BROKER}")));
    assert!(
        stray.contains(":1:1: error: unknown key keep_alive") && stray.contains("belongs into [broker]"),
        "{stray}"
    );
    assert!(error(parse("broker = 5")).contains("expected a section, found an integer"));
    assert!(error(with_broker("[collector]\nname = \"x\"")).contains("double brackets"));
    assert!(error(with_broker("collector = [5]")).contains("unknown key broker.collector"));
    assert!(error(parse(&format!("collector = [5]\n{BROKER}"))).contains("double brackets"));
}

#[test]
fn all_errors_are_reported_in_reading_order() {
    let text = "[broker]\nurl = \"http://x\"\nkeep_alive = \"10 parsecs\"\n\n[[collector]]\nname = \"cpu\"\ncron = \"0 0 0 30 2 ?\"\n\
                [outbox]\nmax_bytes = \"256\"\nmaxage = \"3d\"\n";
    let Err(rejected) = parse(text) else { panic!("refused") };
    let text = rejected.to_string();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("error: ")).collect();
    let place = |line: &&str| line.split(": error: ").next().unwrap().rsplit("toml:").next().unwrap().to_owned();
    assert_eq!(lines.iter().map(place).collect::<Vec<_>>(), ["2:7", "3:14", "7:8", "9:13", "10:1"], "{text}");
    assert!(text.ends_with("the configuration has 5 errors"), "{text}");
}

#[test]
fn limits_and_units_are_checked() {
    for (text, expected) in [
        ("[outbox]\nmax_bytes = \"1MiB\"", "1MiB is outside 16MiB to 64TiB"),
        ("[outbox]\nmax_bytes = \"256M\"", "\"256M\" is not a size\n  hint: write a number and a unit"),
        ("[outbox]\nmax_bytes = 268435456", "expected a size, found an integer"),
        ("[outbox]\ncommit_window = \"0s\"", "0s is outside 10ms to 5s"),
        ("[outbox]\nmax_age = \"5\"", "\"5\" is not a duration"),
        ("[outbox]\ndrop = \"oldst\"", "did you mean \"oldest\"?"),
        ("[uplink]\nhistory_rate = \"1B\"", "1B is outside 1KiB to 3GiB"),
        ("[uplink]\nhistory_rate = \"fast\"", "\"fast\" is not a size\n  hint: write a number and a unit"),
        ("[uplink]\nhistory_rate = 0", "expected a size, found an integer"),
        ("[uplink]\nhistory_batches = 0", "0 is outside 1 to 1000"),
        ("[uplink]\nin_flight = 1", "1 is outside 2 to 1000"),
        ("[uplink]\nreconnect_min = \"2m\"", "longer than reconnect_max"),
        ("[log]\nlevel = \"loud\"", "choose one of error, warn, info, debug, trace"),
        ("[host]\nsite = \"plant a\"", "for example \"plant-a\""),
        ("[host]\nid = \"edge.01\"", "may hold only letters, digits"),
        ("[host]\nsite = \"_x\"", "reserved"),
        ("[host]\nprefix = \"a/b/c/d\"", "4 levels, at most 3"),
        ("[host]\nprefix = \"a//b\"", "may hold only"),
        ("[host]\nprefix = \"a/+\"", "may hold only"),
        ("[host]\nprefix = \"_hubs\"", "reserved"),
        ("[host]\nroot = \"/no/such/host\"", "/no/such/host is not the root directory of a host"),
        ("[agent]\nstop_timeout = \"1ms\"", "1ms is outside 1s to 10m"),
    ] {
        let message = error(with_broker(text));
        assert!(message.contains(expected) && message.contains("toml:5:"), "{text}: {message}");
    }
    let long = "x".repeat(65);
    assert!(error(with_broker(&format!("[host]\nid = \"{long}\""))).contains("65 characters, at most 64"));
}

#[test]
fn an_unlimited_history_is_a_word_and_needs_no_batches() {
    let checked = with_broker("[uplink]\nhistory_rate = \"unlimited\"").unwrap();
    assert_eq!(checked.config.uplink.history_rate, Rate::Unlimited);
    assert!(checked.warnings.is_empty());
    let shown = checked.settings.iter().find(|setting| setting.path == "uplink.history_rate").unwrap();
    assert_eq!(shown.shown, "\"unlimited\"");
    let both = with_broker("[uplink]\nhistory_rate = \"unlimited\"\nhistory_batches = 50").unwrap();
    let [warning] = &both.warnings[..] else { panic!("{:?}", both.warnings) };
    assert!(warning.to_string().contains("toml:6:") && warning.to_string().contains("does not count"), "{warning}");
}

#[test]
fn topics_stay_below_their_limit() {
    let (x, p) = ("x".repeat(64), "p".repeat(60));
    let text =
        format!("[host]\nid = \"{x}\"\nsite = \"{x}\"\nprefix = \"{p}\"\n[[collector]]\nname = \"{x}\"\nuse = \"cpu\"");
    assert!(error(with_broker(&text)).contains("topics would have up to"), "{text}");
}

#[test]
fn outbox_size_follows_the_file_system() {
    let size = |bytes: fn(&Path) -> Option<u64>| {
        let around = Surroundings { file_system_bytes: bytes, ..around(&[]) };
        let checked = Config::parse(Path::new("/h.toml"), BROKER, &around).unwrap();
        checked.config.outbox.max_bytes
    };
    assert_eq!(size(|_| Some(1 << 40)), 256 << 20);
    assert_eq!(size(|_| Some(1 << 30)), 102 << 20);
    assert_eq!(size(|_| Some(64 << 20)), 16 << 20);
    assert_eq!(size(|_| None), 256 << 20);
}

#[test]
fn nearest_finds_slips_and_nothing_far() {
    let names = ["keep_alive", "url", "urls", "max_bytes"];
    for (word, found) in [
        ("keepalive", Some("keep_alive")),
        ("keep-alive", Some("keep_alive")),
        ("Url", Some("url")),
        ("ulr", Some("url")),
        ("max_byte", Some("max_bytes")),
        ("max", Some("max_bytes")),
        ("quux", None),
        ("", None),
    ] {
        assert_eq!(nearest(word, &names), found, "{word}");
    }
    assert_eq!(nearest(&"x".repeat(100_000), &names), None);
}

#[test]
fn the_host_to_measure_may_be_mounted_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("proc")).unwrap();
    std::fs::write(dir.path().join("proc/stat"), "cpu").unwrap();
    let checked = with_broker(&format!("[host]\nroot = \"{}\"", dir.path().display())).unwrap();
    assert_eq!(checked.config.host.root, dir.path());
    assert_eq!(with_broker("").unwrap().config.host.root, Path::new("/"));
}
