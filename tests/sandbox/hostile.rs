//! Scripts at their worst, in the shipped sandbox: each ends as a typed record, none leaves a process behind, none
//! shifts another collector.

use serde_json::Value;

use super::{Bench, Means, error, of};
use crate::support::{PATIENCE, wait_until};

/// `MARK` is an argument by which a test finds what is left. `WHO` is a user whom no other test has meanwhile: the kernel
/// bounds the processes of a user all over the host.
struct Hostile {
    name: &'static str,
    text: &'static str,
    keys: &'static str,
    /// Kind and part of the message of its error; empty where it has none.
    kind: &'static str,
    says: &'static str,
    /// How many good records are kept, at least.
    good: usize,
}

const fn hostile(name: &'static str, text: &'static str, kind: &'static str, says: &'static str) -> Hostile {
    Hostile { name, text, keys: "", kind, says, good: 0 }
}

impl Hostile {
    const fn keys(mut self, keys: &'static str) -> Self {
        self.keys = keys;
        self
    }

    const fn keeps(mut self, good: usize) -> Self {
        self.good = good;
        self
    }
}

const SHORT: &str = "timeout = \"1s\"";

const HOSTILE: &[Hostile] = &[
    hostile("endless", "while :; do echo 'a x=1'; done", "output", "more than 262144 bytes").keeps(1),
    hostile("endless-err", "echo 'a x=1'; while :; do echo no >&2; done", "output", "standard error").keeps(1),
    hostile("gigabyte", "printf 'a x=\"'; head -c 1073741824 /dev/zero | tr '\\0' z", "output", "more than"),
    hostile("nul", "printf 'a\\000b x=1\\n'; echo 'a x=1'", "parse", "control character").keeps(1),
    hostile("latin", "printf '\\377\\376 x=1\\n'; echo 'a x=1'", "parse", "not UTF-8").keeps(1),
    hostile("escapes", "printf '\\033]0;owned\\007\\033[2J x=1\\n'; echo 'a x=1'", "parse", "control character").keeps(1),
    hostile("escapes-err", "printf '\\033]0;owned\\007\\033[2J\\r\\n' >&2; exit 1", "exit", "exit code 1"),
    hostile("deaf", "trap '' TERM; echo 'a x=1'; while :; do sleep MARK; done", "timeout", "after 1s").keys(SHORT).keeps(1),
    hostile("stopped", "sleep MARK & kill -STOP $$", "timeout", "after 1s").keys(SHORT),
    hostile("bomb", "f() { sleep MARK & f & f & wait; }; f", "processes", "more than 30 processes")
        .keys("processes = 30\nuser = \"WHO\""),
    hostile("hidden-bomb", "i=0; while [ $i -lt 300 ]; do setsid sleep MARK & i=$((i+1)); done", "processes", "30")
        .keys("processes = 30\nuser = \"WHO\""),
    hostile("daemon", "setsid sleep MARK & echo 'a x=1'", "", "").keeps(1),
    hostile(
        "deep-daemon",
        "setsid sh -c 'setsid sh -c \"trap : TERM HUP; exec sleep MARK\" & exit' </dev/null >/dev/null 2>&1 & \
         echo 'a x=1'; exit 0",
        "",
        "",
    )
    .keeps(1),
    hostile("pipe-holder", "(setsid sleep MARK &) ; echo 'a x=1'", "", "").keeps(1),
    hostile("eater", "exec python3 -c 'import time; b = b\"x\" * (100 << 20); time.sleep(600)' MARK", "memory", "67108864 bytes")
        .keys("memory = \"64MiB\""),
    hostile("eaters", "for i in 1 2 3 4; do python3 -c 'b = bytearray(b\"x\") * (20 << 20); import time; time.sleep(600)' MARK & done; sleep MARK", "memory", "67108864 bytes")
        .keys("memory = \"64MiB\""),
    // Its first thread ends, as by pthread_exit; what is left of the process shows as a zombie.
    hostile(
        "headless",
        "exec python3 -c 'import ctypes, os, threading, time; \
         first = lambda: open(\"/proc/self/stat\").read().rsplit(\")\", 1)[1].split()[0]; \
         threading.Thread(target=lambda: [list(iter(first, \"Z\")), b\"x\" * (100 << 20), time.sleep(600)]).start(); \
         ctypes.CDLL(None).syscall({\"x86_64\": 60, \"aarch64\": 93}[os.uname().machine], 0)' MARK",
        "memory",
        "67108864 bytes",
    )
    .keys("memory = \"64MiB\"\ntimeout = \"30s\""),
    hostile("spinner", "while :; do :; done", "cpu", "300ms of CPU time").keys("cpu = \"300ms\""),
    hostile("spinners", "for i in 1 2; do sh -c 'while :; do :; done' MARK & done; sleep MARK", "cpu", "300ms")
        .keys("cpu = \"300ms\""),
    hostile("closed", "echo 'a x=1'; exec >&- 2>&-; sleep 0.1", "", "").keeps(1),
    hostile("closed-hang", "echo 'a x=1'; exec >&- 2>&-; sleep MARK", "timeout", "after 1s").keys(SHORT).keeps(1),
    hostile("exit-255", "echo 'a x=1'; exit 255", "exit", "exit code 255").keeps(1),
    hostile("suicide", "sleep MARK & kill -KILL $$", "signal", "signal 9"),
    hostile(
        "imitator",
        "echo '{\"v\":1,\"host\":\"other\",\"records\":[{\"seq\":1,\"name\":\"a\",\"fields\":{\"x\":1}}],\"losses\":[]}'; \
         echo '{\"seq\":7,\"name\":\"a\",\"status\":\"ok\",\"tags\":{},\"fields\":{\"x\":1}}'; \
         echo '{\"fields\":{\"x\":\"\\\"},{\\\"seq\\\":9\"}}'",
        "parse",
        "unknown field",
    )
    .keeps(1),
    hostile("parricide", "setsid sleep MARK & kill -KILL $PPID; sleep MARK", "signal", "watches over it was killed"),
    // Its minder is ready for it once it has taken precedence; before that, any signal is as good as SIGKILL.
    hostile(
        "rebel",
        "until [ \"$(cut -d' ' -f19 /proc/$PPID/stat)\" = -10 ]; do :; done; \
         for s in HUP INT QUIT TERM USR1 PIPE ALRM CHLD; do kill -$s $PPID; done; sleep 0.2; echo 'a x=1'",
        "",
        "",
    )
    .keeps(1),
    hostile("jailer", "setsid sleep MARK & kill -STOP $PPID; sleep MARK", "timeout", "after 1s").keys(SHORT),
];

fn all_end_as_they_should(means: Means) {
    let mut bench = Bench::new(means);
    let who = if means == Means::Groups { "daemon" } else { "nobody" };
    for script in HOSTILE {
        bench.shell(script.name, script.text, &script.keys.replace("WHO", who));
    }
    let records = bench.once();
    for script in HOSTILE {
        let own = of(&records, script.name);
        let good = own.iter().filter(|record| record["status"] == "ok").count();
        assert!(good >= script.good, "{}: {good} good records in {own:#?}", script.name);
        let clean = |value: &Value| !value.as_str().unwrap_or("").chars().any(char::is_control);
        if script.kind.is_empty() {
            assert!(own.iter().all(|record| record["status"] == "ok"), "{}: {own:#?}", script.name);
            continue;
        }
        let (kind, message) = error(&records, script.name);
        assert_eq!(kind, script.kind, "{}: {message}", script.name);
        assert!(message.contains(script.says), "{}: {message}", script.name);
        assert!(own.iter().all(|record| clean(&record["error"]["message"])), "{}: {own:#?}", script.name);
    }
    let seqs = records.iter().filter(|record| record.get("seq").is_some() || record.get("losses").is_some()).count();
    assert_eq!(seqs, 0, "no script has a say in what identifies a record");
    bench.assert_nothing_left();
}

#[test]
fn hostile_scripts_end_as_typed_records_and_leave_nothing_without_control_groups() {
    all_end_as_they_should(Means::Watch);
}

#[test]
fn hostile_scripts_end_as_typed_records_and_leave_nothing_with_control_groups() {
    all_end_as_they_should(Means::Groups);
}

/// Each run of a hostile script says what it used, in the record of its error.
#[test]
fn a_budget_that_is_spent_is_named_with_what_was_used() {
    for means in [Means::Watch, Means::Groups] {
        let mut bench = Bench::new(means);
        bench.shell("spinner", "while :; do :; done", "cpu = \"300ms\"");
        bench.add(
            "eater",
            &["/usr/bin/env", "python3", "-c", "import time; b = b'x' * (100 << 20); time.sleep(600)"],
            "memory = \"64MiB\"",
        );
        bench.shell("forker", "for i in 1 2 3 4 5 6 7 8; do sleep MARK & done; wait", "processes = 5");
        bench.shell("good", "echo 'a x=1'", "usage = true");
        let records = bench.once();
        let used = |collector: &str, field: &str| {
            let own = of(&records, collector);
            let last = own.last().unwrap_or_else(|| panic!("{collector} has a record"));
            last["fields"][field].as_f64().unwrap_or_else(|| panic!("{collector} {field}: {last}"))
        };
        assert!(used("spinner", "run_cpu_time") > 0.3, "{means:?}: {records:#?}");
        assert!(used("eater", "run_memory_peak") > 64.0 * 1024.0 * 1024.0 * 0.9, "{means:?}: {records:#?}");
        assert!(used("forker", "run_processes_peak") > 5.0, "{means:?}: {records:#?}");
        let good = of(&records, "good");
        assert_eq!((good.len(), good[1]["name"].as_str()), (2, Some("holdover.collector.run")), "{good:#?}");
        assert_eq!(good[1]["tags"]["collector"], "good");
        assert_eq!(good[1]["fields"]["run_output"], 6);
        bench.assert_nothing_left();
    }
}

/// The agent with all of them, each every two seconds; counts of runs are compared, not times.
#[test]
fn hostile_scripts_shift_no_other_collector_by_more_than_one_period() {
    let mut bench = Bench::new(Means::Watch);
    let often = "every = \"2s\"\n";
    for script in HOSTILE {
        bench.shell(script.name, script.text, &format!("{often}{}", script.keys.replace("WHO", "games")));
    }
    bench.shell("calm", "echo 'a x=1'", often);
    bench.config += "[[collector]]\nname = \"load\"\nevery = \"2s\"\n";
    let mut agent = bench.agent();
    let number = |account: &Value, key: &str| account[key].as_u64().expect("a count");
    wait_until("eight runs of a built-in collector", 2 * PATIENCE, || {
        agent.assert_running();
        number(&bench.account("load"), "runs") >= 8
    });
    let (calm, load) = (bench.account("calm"), bench.account("load"));
    assert_eq!(number(&load, "missed"), 0, "{load}");
    assert_eq!((number(&calm, "failed"), number(&calm, "missed")), (0, 0), "{calm}");
    // The one is asked for after the other, and one run may be under way.
    assert!(number(&calm, "runs").abs_diff(number(&load, "runs")) <= 2, "{calm} {load}");
    for script in HOSTILE {
        let account = bench.account(script.name);
        let ended = number(&account, "runs") + number(&account, "missed");
        assert!(ended >= 1, "{}: {account}", script.name);
    }
    assert!(agent.terminate(PATIENCE).success());
    bench.assert_nothing_left();
}

#[test]
fn an_agent_that_is_killed_takes_its_scripts_with_it() {
    for means in [Means::Watch, Means::Groups] {
        let mut bench = Bench::new(means);
        let keys = "every = \"1s\"\ntimeout = \"10m\"";
        bench.shell("long", "setsid sleep MARK & trap '' TERM HUP; while :; do sleep MARK; done", keys);
        let mut agent = bench.agent();
        wait_until("its processes", PATIENCE, || bench.marked().len() >= 3);
        agent.kill();
        bench.assert_nothing_left();
    }
}

/// A shell that starts something and then becomes the agent leaves it a child that is no script's.
#[test]
fn children_from_before_the_agent_live_on_also_when_a_minder_is_killed() {
    let mut bench = Bench::new(Means::Watch);
    bench.shell("good", "echo 'a x=1'", "");
    bench.shell("parricide", "setsid sleep MARK1 & kill -KILL $PPID; sleep MARK1", "");
    let command = bench.command("once");
    let words = command.get_args().map(|word| word.to_str().expect("plain"));
    let mut shell = std::process::Command::new("/bin/sh");
    // The pipes are the agent's alone: what lives on must not hold them.
    shell
        .args(["-c", "sleep \"$0\" </dev/null >/dev/null 2>&1 & echo $! >&2; shift; exec \"$@\"", &bench.mark])
        .args(words);
    let output = shell.env_remove("HOLDOVER_CONFIG").stdin(std::process::Stdio::null()).output().expect("a shell");
    let said = String::from_utf8_lossy(&output.stderr);
    let other = said.lines().next().and_then(|pid| pid.parse().ok()).and_then(rustix::process::Pid::from_raw);
    let other = other.unwrap_or_else(|| panic!("no process id in {said}"));
    let records: Vec<Value> =
        serde_json::Deserializer::from_slice(&output.stdout).into_iter().map(|r| r.expect("JSON")).collect();
    assert_eq!(of(&records, "good")[0]["status"], "ok", "{said}");
    assert_eq!(error(&records, "parricide").0, "signal");
    let marked = bench.marked();
    rustix::process::kill_process(other, rustix::process::Signal::KILL).expect("it lives");
    assert_eq!(marked.len(), 1, "the stranger alone lives on: {marked:?}");
    bench.assert_nothing_left();
}

/// Between the order to stop and the minder's own end there is a moment in which nobody is told of it.
#[test]
fn a_minder_that_is_killed_while_its_agent_stops_is_missed_all_the_same() {
    let mut bench = Bench::new(Means::Watch);
    let text =
        "setsid sleep MARK & agent=$(cut -d' ' -f4 /proc/$PPID/stat); kill -TERM $agent; kill -KILL $PPID; sleep MARK";
    bench.shell("regicide", text, "every = \"1s\"");
    let mut agent = bench.agent();
    assert!(agent.wait(PATIENCE).success());
    bench.assert_nothing_left();
}

/// Files in memory are the host's cache, not the script's use of memory; what it says at its end is its own word.
#[test]
fn a_plugin_that_maps_files_larger_than_its_budget_is_believed() {
    for means in [Means::Watch, Means::Groups] {
        let mut bench = Bench::new(means);
        let file = std::fs::File::create(bench.path("large")).expect("own directory");
        file.set_len(100 << 20).expect("a file system with sparse files");
        let read = format!(
            "import mmap; file = open(\"{}\"); m = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ); \
             [m[i] for i in range(0, len(m), 4096)]; print(\"WARNING - full | used=9;5\"); raise SystemExit(1)",
            bench.path("large").display()
        );
        let argv = ["/usr/bin/env", "python3", "-c", &read];
        bench.add("plugin", &argv, "format = \"nagios\"\nmemory = \"64MiB\"\nusage = true");
        bench.add("script", &argv, "format = \"influx\"\nmemory = \"64MiB\"");
        let records = bench.once();
        let own = of(&records, "plugin");
        assert!(own.iter().all(|record| record["status"] == "ok"), "{means:?}: {own:#?}");
        let peak = own.last().expect("its use")["fields"]["run_memory_peak"].as_u64();
        assert!(peak.is_some_and(|bytes| bytes > 100 << 20), "it had more than its budget mapped: {own:#?}");
        let (kind, message) = error(&records, "script");
        assert_eq!(kind, "exit", "{means:?}: {message}");
        bench.assert_nothing_left();
    }
}

/// Where the groups are the agent's to write they are its scripts' too: one may move itself to another.
#[test]
fn a_script_that_leaves_its_group_is_bounded_all_the_same() {
    let mut bench = Bench::new(Means::Groups);
    let aside = bench.group.as_ref().expect("the test's").join("aside");
    std::fs::create_dir(&aside).expect("root may make control groups");
    // Many processes that take little each: none comes near a limit of its own.
    let text = format!(
        "setsid sleep MARK & echo $$ > {}/cgroup.procs; \
         while :; do sh -c 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done'; done",
        aside.display()
    );
    bench.shell("runaway", &text, "cpu = \"300ms\"\ntimeout = \"30s\"");
    let records = bench.once();
    let (kind, message) = error(&records, "runaway");
    assert_eq!(kind, "cpu", "{message}");
    std::fs::remove_dir(&aside).expect("nobody is in it any more");
    bench.assert_nothing_left();
}

#[test]
fn groups_of_a_killed_agent_are_emptied_and_gone_with_the_next_start() {
    let mut bench = Bench::new(Means::Groups);
    // A keeper that no kernel has: there are at most four million ids.
    let stale = bench.group.as_ref().expect("the test's").join("run-99999999");
    std::fs::create_dir(&stale).expect("root may make control groups");
    let mut command = std::process::Command::new("/bin/sh");
    // Its memory takes a while to be given back when it dies.
    let text = "echo $$ > \"$1/cgroup.procs\" && exec python3 -c 'import time; b = b\"x\" * (300 << 20); print(1, flush=True); \
                time.sleep(600)' $0";
    command.args(["-c", text, &bench.mark]).arg(&stale);
    let mut left = crate::support::child::Running::start("sleep", &mut command, &bench.path("ready"));
    wait_until("it has its memory", PATIENCE, || crate::support::read_lossy(&bench.path("ready")).contains('1'));
    bench.shell("good", "echo 'a x=1'", "");
    assert_eq!(of(&bench.once(), "good")[0]["status"], "ok");
    assert!(!stale.exists(), "it is removed by then, not by the start after this one");
    assert!(!left.wait(PATIENCE).success());
}
