use super::super::{Config, Volume};
use super::*;

const TEXT: &str = "[[collector]]\nname = \"cpu\"\ncron = \"0 30 2 * * ?\"\nzone = \"Europe/Berlin\"\n\
                    [[collector]]\nname = \"load\"\nenabled = false\n[[collector]]\nname = \"processes\"\nparams.names = [\"a\\\"b\"]\n";

#[test]
fn effective_configuration_reads_back_as_the_same() {
    let checked = with_broker(TEXT).unwrap();
    let effective = checked.effective();
    let again = parse(&effective).unwrap_or_else(|error| panic!("{error}\n{effective}"));
    assert_eq!(again.config, checked.config, "{effective}");
    assert!(effective.contains("cron = \"0 30 2 * * ?\"  # /etc/holdover/holdover.toml:6:8\n"), "{effective}");
    assert!(effective.contains("keep_alive = \"30s\"  # default\n"), "{effective}");
    assert!(effective.contains("max_bytes = \"256MiB\"  # default\n"), "{effective}");
}

#[test]
fn effective_json_has_value_and_origin() {
    let json = with_broker(TEXT).unwrap().effective_json();
    assert_eq!(json["collector.processes.params.names"]["value"], serde_json::json!(["a\"b"]));
    assert_eq!(
        json["broker.url"]["origin"],
        serde_json::json!({"file": "/etc/holdover/holdover.toml", "line": 2, "column": 7})
    );
    assert_eq!(json["uplink.in_flight"], serde_json::json!({"value": 10, "origin": "default"}));
}

#[test]
fn next_runs_are_local_times_with_offset() {
    let config = with_broker(TEXT).unwrap().config;
    let runs = config.next_runs("edge-01", NOW, 5);
    assert_eq!(runs[0].at.len(), 5);
    assert_eq!(runs[0].at[0], "2026-09-22 02:30:00 +02:00");
    let last = runs.last().unwrap();
    assert_eq!((&*last.collector, last.schedule.as_str()), ("processes", "every 30s"));
    assert_eq!(last.at_ms[1] - last.at_ms[0], 30_000);
}

#[test]
fn volume_says_how_long_an_outage_is_held() {
    let two = "[agent]\ndefault_collectors = false\n[[collector]]\nname = \"cpu\"\n[[collector]]\nname = \"memory\"\nevery = \"30s\"";
    let config = with_broker(two).unwrap().config;
    // 8,640 runs of cpu and 2,880 of memory a day.
    let volume = config.volume(NOW, &|_| 1_000.0);
    assert!((volume.runs_per_day - 11_520.0).abs() < 1e-6);
    assert!((volume.days_held.unwrap() - (240 << 20) as f64 / 11_520_000.0).abs() < 1e-6);
    assert_eq!(volume.held().as_deref(), Some("21 days"));
    let held = |days| Volume { runs_per_day: 1.0, bytes_per_day: 1.0, days_held: Some(days) }.held().unwrap();
    assert_eq!((held(0.5), held(0.01), held(1e300)), ("12 hours".into(), "14 minutes".into(), "11574074 days".into()));
    let none = parse(&format!("{BROKER}[agent]\ndefault_collectors = false\n")).unwrap().config;
    assert_eq!(none.volume(NOW, &|_| 1.0).held(), None);
}

#[test]
fn configurations_compare_by_meaning() {
    let one = with_broker("[[collector]]\nname = \"cpu\"\nevery = \"60s\"").unwrap();
    let same = Config::parse(
        Path::new("/other.toml"),
        &format!("# moved\n{BROKER}[[collector]]\nevery = \"1m\"\nname = \"cpu\""),
        &around(&[]),
    );
    assert_eq!(one.config, same.unwrap().config);
    assert_ne!(one.config, with_broker("[[collector]]\nname = \"cpu\"\nevery = \"61s\"").unwrap().config);
}
