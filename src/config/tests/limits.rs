//! The agent's own limits, keys of `[agent]`.

use super::*;
use crate::config::Limits;

fn limits(text: &str) -> Limits {
    with_broker(text).unwrap().config.agent.limits
}

#[test]
fn the_defaults_are_limits_and_a_faster_history_may_use_all_the_cpu() {
    let default = Limits { max_memory: 64 << 20, max_cpu: 50, window: Duration::from_secs(30), shed: Vec::new() };
    assert_eq!(limits(""), default);
    let unlimited = "[uplink]\nhistory_rate = \"unlimited\"\n";
    assert_eq!(limits(unlimited), Limits { max_cpu: 0, ..default.clone() });
    assert_eq!(limits(&format!("{unlimited}[agent]\nmax_cpu = 80")).max_cpu, 80);
    assert_eq!(limits("[uplink]\nhistory_rate = \"480kB\"").max_cpu, 50);
    assert_eq!(limits("[uplink]\nhistory_rate = \"1MB\"").max_cpu, 0);
    let off = limits("[agent]\nmax_memory = \"0B\"\nmax_cpu = 0");
    assert_eq!(off, Limits { max_memory: 0, max_cpu: 0, ..default });
}

#[test]
fn what_is_given_is_in_force_and_reads_back_as_the_same() {
    let text = "[agent]\nmax_memory = \"24MiB\"\nmax_cpu = 5\nlimits_window = \"1m\"\nshed = [\"cpu\", \"memory\"]";
    let checked = with_broker(text).unwrap();
    assert!(checked.warnings.is_empty());
    let shed = vec!["cpu".to_owned(), "memory".to_owned()];
    let given = Limits { max_memory: 24 << 20, max_cpu: 5, window: Duration::from_secs(60), shed };
    assert_eq!(checked.config.agent.limits, given);
    assert_eq!(parse(&checked.effective()).unwrap().config, checked.config);
}

#[test]
fn what_cannot_be_a_limit_is_refused() {
    for (text, expected) in [
        ("max_memory = 64", "expected a size, found an integer"),
        ("max_memory = \"64M\"", "\"64M\" is not a size"),
        ("max_memory = \"2TiB\"", "2TiB is outside 0B to 1TiB"),
        ("max_cpu = \"50%\"", "expected a whole number"),
        ("max_cpu = -1", "-1 is outside 0 to 10000"),
        ("max_cpu = 0.5", "expected a whole number"),
        ("limits_window = \"10ms\"", "10ms is outside 1s to 1h"),
        ("shed = \"cpu\"", "expected a list of strings"),
        ("shed = [\"agent\"]", "\"agent\" is always kept"),
        ("max_mem = \"64MiB\"", "did you mean max_memory?"),
    ] {
        let message = error(with_broker(&format!("[agent]\n{text}")));
        assert!(message.contains(expected) && message.contains("toml:5:"), "{text}: {message}");
        assert!(message.contains("hint: "), "{text}: {message}");
    }
}

#[test]
fn a_name_that_no_collector_has_is_a_warning() {
    let checked = with_broker("[agent]\nshed = [\"cpuu\", \"memory\"]").unwrap();
    let told = warnings(&checked).concat();
    assert!(told.contains("agent.shed: no collector is called \"cpuu\"") && told.contains("did you mean \"cpu\"?"));
    assert!(told.contains("toml:5:") && !told.contains("\"memory\" "), "{told}");
}
