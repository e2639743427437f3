//! Scripts at their worst: real processes, each in a directory of its own, none left behind.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, test_kill_process, test_kill_process_group};
use tempfile::TempDir;

use super::*;
use crate::record::{ErrorKind, RunError, Value};

/// Long enough for the slowest machine, short enough to end a hanging test.
const PATIENCE: Duration = Duration::from_secs(60);

struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A script of that text; it may write to `$DIR`, and its process group is in `$DIR/pgid`.
    fn script(&self, text: &str) -> Script {
        let path = self.path("script");
        std::fs::write(&path, format!("#!/bin/sh\necho $$ > \"$DIR/pgid\"\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut script = Script::new([path.to_str().unwrap()]);
        script.env = vec![("DIR".into(), self.dir.path().to_str().unwrap().into())];
        // Scripts that are to end by themselves get all the time they need.
        script.timeout = PATIENCE;
        script
    }

    fn pid(&self, file: &str) -> Option<Pid> {
        std::fs::read_to_string(self.path(file)).ok()?.trim().parse().ok().and_then(Pid::from_raw)
    }

    /// Runs it, and sees to it that nothing of its group is left.
    fn run(&self, script: &Script) -> Vec<Point> {
        let points = block_on(async {
            tokio::time::timeout(2 * PATIENCE, super::run(script, "edge-01", "demo", &NOW))
                .await
                .expect("the run is bounded")
        });
        if let Some(pgid) = self.pid("pgid") {
            eventually("the process group is gone", || test_kill_process_group(pgid).is_err());
        }
        points
    }

    fn output(&self, text: &str) -> Vec<Point> {
        self.run(&self.script(text))
    }
}

const NOW: Now = Now { mono: Duration::from_secs(1), boot: Duration::from_secs(100), wall_ms: 1_700_000_000_000 };

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A killed process is gone when it has been reaped, which init does in its own time.
fn eventually(what: &str, condition: impl Fn() -> bool) {
    block_on(async {
        for _ in 0..600 {
            if condition() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not within 30 s: {what}");
    });
}

fn only_error(points: &[Point]) -> &RunError {
    let errors: Vec<_> = points.iter().filter_map(|p| p.error.as_ref()).collect();
    assert_eq!(errors.len(), 1, "{points:?}");
    errors[0]
}

fn good(points: &[Point]) -> Vec<&str> {
    points.iter().filter(|p| p.error.is_none()).map(|p| p.name.as_ref()).collect()
}

#[test]
fn json_lines_become_points_with_the_defaults_of_the_run() {
    let points = Bench::new().output(
        r#"echo '{"fields":{"a":1,"b":2.5,"c":"x","d":true,"e":null,"f":18446744073709551615}}'
           echo
           printf '{"name":"n","ts":5,"tags":{"k":"v"},"fields":{"a":-1}}'"#,
    );
    assert_eq!(points.len(), 2);
    assert_eq!((points[0].name.as_ref(), points[0].ts, points[0].mono), ("demo", NOW.wall_ms, 100_000));
    assert_eq!(points[0].fields["a"], Value::Int(1));
    assert_eq!(points[0].fields["f"], Value::Float(u64::MAX as f64));
    assert!(!points[0].fields.contains_key("e"));
    assert_eq!((points[1].name.as_ref(), points[1].ts), ("n", 5));
    assert_eq!(points[1].tags["k"], "v");
}

#[test]
fn a_script_may_report_an_error_of_its_own() {
    let points =
        Bench::new().output(r#"echo '{"status":"err","error":{"kind":"timeout","message":"no answer\u001b[0m"}}'"#);
    assert_eq!(only_error(&points), &RunError::new(ErrorKind::Timeout, "no answer\u{fffd}[0m"));
    let points = Bench::new().output(r#"echo '{"status":"err"}'"#);
    assert_eq!(only_error(&points).kind, ErrorKind::Other);
}

#[test]
fn environment_is_clean_and_standard_input_closed() {
    let bench = Bench::new();
    let points = bench.output(
        r#"stdin=$(cat)
           printf '{"fields":{"stdin":"%s","host":"%s","collector":"%s","lang":"%s","vars":%s,"dir":"%s"}}\n' \
             "$stdin" "$HOLDOVER_HOST" "$HOLDOVER_COLLECTOR" "$LANG" "$(env | grep -c -v -e '^_=' -e '^PWD=' -e '^SHLVL=' -e '^OLDPWD=')" "$(pwd)""#,
    );
    let fields = &points[0].fields;
    let text = |k: &str| fields[k].clone();
    assert_eq!(text("stdin"), Value::Str(String::new()));
    assert_eq!(text("host"), Value::Str("edge-01".into()));
    assert_eq!(text("collector"), Value::Str("demo".into()));
    assert_eq!(text("lang"), Value::Str("C.UTF-8".into()));
    assert_eq!(text("dir"), Value::Str("/".into()));
    assert_eq!(text("vars"), Value::Int(5), "PATH, LANG, HOLDOVER_HOST, HOLDOVER_COLLECTOR and the configured DIR");
}

#[test]
fn a_nul_character_is_told_by_the_text_that_holds_it() {
    let bench = Bench::new();
    let mut script = bench.script("echo 'a x=1'");
    script.env.push(("MORE".into(), "a\0b".into()));
    let points = bench.run(&script);
    let error = only_error(&points);
    assert_eq!(error.kind, ErrorKind::Spawn);
    assert!(error.message.contains("\"a\\0b\" holds a NUL character"), "{}", error.message);
}

#[test]
fn empty_output_is_no_point_and_no_error() {
    assert_eq!(Bench::new().output("exit 0"), vec![]);
    assert_eq!(Bench::new().output("printf '\\n\\n  \\n# only a comment\\n'"), vec![]);
}

#[test]
fn a_script_that_hangs_is_killed_and_what_it_printed_is_kept() {
    let bench = Bench::new();
    let mut script = bench.script("echo 'a x=1'; printf 'b x='; exec sleep 600");
    script.timeout = Duration::from_millis(700);
    let points = bench.run(&script);
    let error = only_error(&points);
    assert_eq!(error.kind, ErrorKind::Timeout);
    assert!(error.message.contains("killed after 700ms"), "{}", error.message);
    assert!(good(&points).iter().all(|name| *name == "a"), "the unfinished line is dropped: {points:?}");
}

#[test]
fn a_script_that_ignores_sigterm_is_killed_after_the_grace() {
    let bench = Bench::new();
    let mut script = bench.script("trap '' TERM; echo ready > $DIR/ready; while :; do sleep 1; done");
    script.timeout = Duration::from_millis(700);
    script.grace = Duration::from_millis(200);
    assert_eq!(only_error(&bench.run(&script)).kind, ErrorKind::Timeout);
}

#[test]
fn endless_output_is_cut_off_with_its_good_lines_kept() {
    for redirect in ["", " >&2"] {
        let bench = Bench::new();
        let mut script = bench.script(&format!("echo 'a x=1'; while :; do echo 'b x=2'{redirect}; done"));
        script.max_output = 4096;
        let points = bench.run(&script);
        let errors: Vec<_> = points.iter().filter_map(|p| p.error.as_ref()).collect();
        assert_eq!(errors.last().unwrap().kind, ErrorKind::Output, "{errors:?}");
        assert_eq!(good(&points).first(), Some(&"a"));
    }
}

#[test]
fn output_far_beyond_the_limit_of_records_is_bounded() {
    let bench = Bench::new();
    let script = bench.script("i=0; while [ $i -lt 3000 ]; do echo 'a x=1'; i=$((i+1)); done");
    let points = bench.run(&script);
    assert_eq!(good(&points).len(), crate::collect::MAX_POINTS);
    assert_eq!(only_error(&points).kind, ErrorKind::Output);
}

#[test]
fn one_line_of_ten_megabytes_ends_at_the_limit() {
    let bench = Bench::new();
    let script = bench.script("printf 'a x=\"'; head -c 10000000 /dev/zero | tr '\\0' 'z'; printf '\"\\n'");
    let points = bench.run(&script);
    assert_eq!(only_error(&points).kind, ErrorKind::Output);
    assert_eq!(points.len(), 1);
}

#[test]
fn a_line_that_would_make_too_large_a_record_is_an_error_that_names_it() {
    let bench = Bench::new();
    let script =
        bench.script("printf 'big x=\"'; head -c 20000 /dev/zero | tr '\\0' 'z'; printf '\"\\n'; echo 'small x=1'");
    let points = bench.run(&script);
    assert_eq!(good(&points), ["small"]);
    let error = only_error(&points);
    assert_eq!(error.kind, ErrorKind::Parse);
    assert!(error.message.contains("`big` is larger than"), "{}", error.message);
}

#[test]
fn a_grandchild_in_the_group_that_holds_the_pipe_is_killed() {
    let bench = Bench::new();
    let points = bench.output("sleep 600 & echo $! > $DIR/child; echo 'a x=1'");
    assert_eq!(good(&points), ["a"]);
    let child = bench.pid("child").unwrap();
    eventually("the grandchild is gone", || test_kill_process(child).is_err());
}

#[test]
fn a_grandchild_outside_the_group_that_holds_the_pipe_holds_nothing_up() {
    let bench = Bench::new();
    let points = bench.output(
        "setsid sh -c 'echo $$ > $DIR/child; exec sleep 600' & while [ ! -s $DIR/child ]; do :; done; echo 'a x=1'",
    );
    assert_eq!(good(&points), ["a"]);
    let child = bench.pid("child").unwrap();
    rustix::process::kill_process(child, rustix::process::Signal::KILL).expect("it outlived the run, as documented");
}

#[test]
fn dropping_a_run_half_way_kills_the_group() {
    let bench = Bench::new();
    let script = bench.script("sleep 600 & echo 1 > $DIR/ready; wait");
    block_on(async {
        let run = super::run(&script, "h", "c", &NOW);
        tokio::pin!(run);
        for _ in 0..600 {
            tokio::select! {
                points = &mut run => panic!("it ended: {points:?}"),
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
            if bench.path("ready").exists() {
                return;
            }
        }
        panic!("it never started");
    });
    let pgid = bench.pid("pgid").unwrap();
    eventually("the process group is gone", || test_kill_process_group(pgid).is_err());
}

#[test]
fn an_exit_code_keeps_the_lines_and_tells_the_last_words() {
    let points = Bench::new().output("echo 'a x=1'; echo first >&2; printf 'disk\\033[31m on fire\\n\\n' >&2; exit 3");
    assert_eq!(good(&points), ["a"]);
    let error = only_error(&points);
    assert_eq!(error.kind, ErrorKind::Exit);
    assert!(error.message.ends_with("exit code 3: disk\u{fffd}[31m on fire"), "{}", error.message);
}

#[test]
fn a_signal_is_told_by_number_and_name() {
    let error = Bench::new().output("kill -SEGV $$")[0].error.clone().unwrap();
    assert_eq!(error.kind, ErrorKind::Signal);
    assert!(error.message.contains("signal 11 (SIGSEGV)"), "{}", error.message);
}

#[test]
fn bytes_that_are_no_text_are_a_parse_error_with_a_harmless_excerpt() {
    for (bytes, reason) in [
        ("\\377\\376 x=1", "not UTF-8 at byte 1"),
        ("a\\000b x=1", "control character in a name"),
        ("\\033[2J x=1", "control character in a name"),
    ] {
        let points = Bench::new().output(&format!("echo 'ok x=1'; printf '{bytes}\\n'; echo 'after x=1'; echo bad"));
        assert_eq!(good(&points), ["ok", "after"]);
        let error = only_error(&points);
        assert_eq!(error.kind, ErrorKind::Parse);
        assert!(error.message.starts_with(&format!("line 2: {reason}")), "{}", error.message);
        assert!(error.message.ends_with("(and 1 more bad lines)"), "{}", error.message);
        assert!(!error.message.chars().any(char::is_control), "{:?}", error.message);
    }
}

#[test]
fn a_program_that_cannot_start_says_why() {
    let bench = Bench::new();
    let cases: [(&str, &str, u32, ErrorKind, &str); 5] = [
        ("missing", "", 0, ErrorKind::Spawn, "no such file"),
        ("plain", "#!/bin/sh\n", 0o644, ErrorKind::Spawn, "chmod +x"),
        ("foreign", "#!/no/such/interpreter\n", 0o755, ErrorKind::Spawn, "interpreter"),
        ("naked", "echo 'a x=1'\n", 0o755, ErrorKind::Spawn, "first line"),
        ("", "", 0, ErrorKind::Spawn, "directory"),
    ];
    for (name, text, mode, kind, hint) in cases {
        let path = bench.path(name);
        if mode != 0 {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let points = bench.run(&Script::new([path.to_str().unwrap()]));
        let error = only_error(&points);
        assert_eq!(error.kind, kind, "{name}: {}", error.message);
        assert!(error.message.contains(hint), "{name}: {}", error.message);
    }
    let error = bench.run(&Script::new(["no-such-program-anywhere"]))[0].error.clone().unwrap();
    assert!(error.message.contains("not found in PATH"), "{}", error.message);
    let error = bench.run(&Script::new([] as [&str; 0]))[0].error.clone().unwrap();
    assert_eq!(error.kind, ErrorKind::Spawn);
    // Root may execute everything, so this is what others get.
    let denied = std::io::ErrorKind::PermissionDenied.into();
    let error = explain::not_started(&Script::new(["/bin/sh"]), "/bin/sh", &denied);
    assert_eq!(error.kind, ErrorKind::Permission);
    let mut script = Script::new(["true"]);
    script.dir = Some(bench.path("nowhere"));
    let error = bench.run(&script)[0].error.clone().unwrap();
    assert!(error.message.contains("nowhere does not exist"), "{}", error.message);
}
