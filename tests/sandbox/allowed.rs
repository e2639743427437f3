//! What is run at all, as whom, with which surroundings.

use std::os::unix::fs::chown;

use super::{Bench, Means, error, mode, of};

const SCRIPT: &str = "#!/bin/sh\necho \"a,who=$(id -u) x=1\"\n";

#[test]
fn a_program_that_others_could_change_is_refused_and_check_owner_false_runs_it() {
    let mut bench = Bench::new(Means::Watch);
    std::fs::create_dir(bench.path("open")).expect("own directory");
    for (name, permissions) in [("good", 0o755), ("writable", 0o757), ("open/script", 0o755), ("foreign", 0o755)] {
        let path = bench.write(name, SCRIPT, permissions).display().to_string();
        let name = name.replace('/', "-");
        bench.add(&name, &[&path], "");
        bench.add(&format!("{name}-unchecked"), &[&path], "check_owner = false");
    }
    mode(&bench.path("open"), 0o777);
    chown(bench.path("foreign"), Some(12_345), None).expect("root may give files away");
    bench.add("own", &[&bench.path("foreign").display().to_string()], "user = \"nobody\"");
    let records = bench.once();
    for name in ["good", "good-unchecked", "writable-unchecked", "open-script-unchecked", "foreign-unchecked"] {
        assert_eq!(of(&records, name)[0]["status"], "ok", "{name}: {records:#?}");
    }
    for (name, words) in [
        ("writable", "every user of this host may write to"),
        ("open-script", "/open and change what is run; `chmod go-w"),
        ("foreign", "belongs to user 12345"),
        ("own", "belongs to user 12345"),
    ] {
        let (kind, message) = error(&records, name);
        assert_eq!(kind, "permission", "{message}");
        assert!(message.contains(words) && message.contains("is not run"), "{message}");
    }
}

#[test]
fn a_pinned_program_runs_only_with_its_hash() {
    let mut bench = Bench::new(Means::Watch);
    let script = bench.write("script", "#!/bin/sh\necho \"a,args=$# x=1\"\n", 0o755).display().to_string();
    let hash = |path: &str| {
        let said = std::process::Command::new("sha256sum").arg(path).output().expect("coreutils");
        String::from_utf8_lossy(&said.stdout)[..64].to_owned()
    };
    let (good, program) = (hash(&script), hash("/usr/bin/env"));
    bench.add("good", &[&script, "one", "two"], &format!("sha256 = {:?}\nuser = \"nobody\"", good.to_uppercase()));
    bench.add("bad", &[&script], &format!("sha256 = {program:?}"));
    bench.add("program", &["/usr/bin/env", "echo", "a x=1"], &format!("sha256 = {program:?}\nio_class = \"low\""));
    bench.add("nothing", &["/no/such/program"], &format!("sha256 = {program:?}"));
    let records = bench.once();
    assert_eq!(of(&records, "good")[0]["tags"]["args"], "2", "{records:#?}");
    assert_eq!(of(&records, "program")[0]["status"], "ok", "{records:#?}");
    let (kind, message) = error(&records, "bad");
    assert_eq!(kind, "permission");
    assert!(message.contains(&format!("its SHA-256 is {good}, not {program}")), "{message}");
    let (kind, message) = error(&records, "nothing");
    assert_eq!(kind, "spawn", "{message}");
}

#[test]
fn a_program_runs_as_it_is_told() {
    let mut bench = Bench::new(Means::Watch);
    std::fs::create_dir(bench.path("place")).expect("own directory");
    let text = "echo \"a,uid=$(id -u),groups=$(id -G | tr ' ' +),nice=$(nice),io=$(ionice | cut -d: -f1),dir=$(pwd),\
                home=$HOME,more=$MORE,fds=$(ls /proc/self/fd | wc -l) x=1\"; env | cut -d= -f1 | sort | tr '\\n' ' ' >&2; exit 1";
    let keys = format!(
        "user = \"nobody\"\nnice = 7\nio_class = \"idle\"\ndir = {:?}\nenv = [\"MORE=a-b\"]",
        bench.path("place")
    );
    bench.shell("told", text, &keys);
    bench.add("untold", &["sh", "-c", "echo \"a,uid=$(id -u),nice=$(nice),dir=$(pwd),home=$HOME. x=1\""], "");
    bench.shell("unknown", ":", "user = \"no-such-user\"");
    let records = bench.once();
    let tags = &of(&records, "told")[0]["tags"];
    for (tag, value) in [("uid", "65534"), ("groups", "65534"), ("nice", "7"), ("io", "idle"), ("more", "a-b")] {
        assert_eq!(tags[tag], value, "{tag}: {records:#?}");
    }
    // Whoever started us may have left some open; the agent adds none.
    let ours = std::process::Command::new("/bin/sh").args(["-c", "echo $(ls /proc/self/fd | wc -l)"]).output();
    assert_eq!(tags["fds"], String::from_utf8_lossy(&ours.expect("a shell").stdout).trim());
    assert_eq!(tags["dir"], bench.path("place").to_str().expect("plain"));
    let (_, message) = error(&records, "told");
    let variables = "HOLDOVER_COLLECTOR HOLDOVER_HOST HOME LANG LOGNAME MORE PATH PWD USER";
    assert!(message.ends_with(variables), "{message}");
    let tags = &of(&records, "untold")[0]["tags"];
    assert_eq!(
        (&tags["uid"], &tags["nice"], &tags["dir"], &tags["home"]),
        (&"0".into(), &"0".into(), &"/".into(), &".".into())
    );
    let (kind, message) = error(&records, "unknown");
    assert_eq!(kind, "spawn");
    assert!(message.contains("no user \"no-such-user\""), "{message}");
}

#[test]
fn what_cannot_be_started_says_why_through_the_minder_too() {
    let mut bench = Bench::new(Means::Watch);
    bench.add("missing", &["/no/such/program"], "");
    bench.add("nowhere", &["no-such-program-anywhere"], "");
    for (name, text, permissions) in
        [("plain", SCRIPT, 0o644), ("foreign", "#!/no/such/interpreter\n", 0o755), ("naked", "echo 'a x=1'\n", 0o755)]
    {
        let path = bench.write(name, text, permissions).display().to_string();
        bench.add(name, &[&path], "");
    }
    bench.add("astray", &["true"], "dir = \"/no/such/directory\"");
    let records = bench.once();
    for (name, words) in [
        ("missing", "no such file"),
        ("nowhere", "not found in PATH"),
        ("plain", "chmod +x"),
        ("foreign", "interpreter"),
        ("naked", "first line"),
        ("astray", "/no/such/directory does not exist"),
    ] {
        let (kind, message) = error(&records, name);
        assert_eq!(kind, "spawn", "{name}: {message}");
        assert!(message.contains(words), "{name}: {message}");
    }
}

/// A library whose mark is a line for each program that its loader put it into.
const WITNESS: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
__attribute__((constructor)) static void seen(void) {
    char program[4096] = {0};
    FILE *file = fopen(getenv("WITNESS"), "a");
    if (file == NULL || readlink("/proc/self/exe", program, sizeof program - 1) < 0) abort();
    fprintf(file, "%s as %d\n", program, (int)geteuid());
    fclose(file);
}
"#;

/// The minder is root where the script is not: a variable that takes code from elsewhere would make others root.
#[test]
fn variables_of_a_script_reach_the_script_and_not_its_minder() {
    for means in [Means::Watch, Means::Groups] {
        let mut bench = Bench::new(means);
        let (source, library) = (bench.write("witness.c", WITNESS, 0o644), bench.path("witness.so"));
        let compiled =
            std::process::Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
        assert!(compiled.expect("a C compiler, which linked this test").success());
        let witness = bench.write("witness", "", 0o666);
        let env = format!("\"LD_PRELOAD={}\", \"WITNESS={}\"", library.display(), witness.display());
        bench.shell(
            "mine",
            "echo \"a,home=$HOME x=1\"",
            &format!("env = [{env}, \"HOME=/elsewhere\"]\nuser = \"nobody\""),
        );
        let records = bench.once();
        assert_eq!(of(&records, "mine")[0]["tags"]["home"], "/elsewhere", "{records:#?}");
        let seen = std::fs::read_to_string(&witness).expect("own file");
        let (shell, agent) = (std::fs::canonicalize("/bin/sh"), std::fs::canonicalize(env!("CARGO_BIN_EXE_holdover")));
        let name = |path: std::io::Result<std::path::PathBuf>| path.expect("it is there").display().to_string();
        assert!(seen.contains(&format!("{} as 65534", name(shell))), "the script has it: {seen:?}");
        assert!(!seen.contains(&name(agent)), "the minder has it too: {seen:?}");
    }
}

/// A name is looked for from where the program is started, and what is found there is looked at.
#[test]
fn a_relative_path_is_no_way_around_the_owners() {
    let mut bench = Bench::new(Means::Watch);
    for folder in ["place", "place/open"] {
        std::fs::create_dir(bench.path(folder)).expect("own directory");
    }
    mode(&bench.path("place/open"), 0o777);
    for name in ["place/good", "place/open/bad"] {
        bench.write(name, SCRIPT, 0o755);
    }
    let dir = format!("dir = {:?}\n", bench.path("place"));
    bench.add("good", &["good"], &format!("{dir}env = [\"PATH=.:/usr/bin:/bin\"]"));
    bench.add("empty", &["good"], &format!("{dir}env = [\"PATH=:/usr/bin:/bin\"]"));
    bench.add("bad", &["bad"], &format!("{dir}env = [\"PATH=open:/usr/bin:/bin\"]"));
    bench.add("bad-unchecked", &["bad"], &format!("{dir}env = [\"PATH=open:/usr/bin:/bin\"]\ncheck_owner = false"));
    let records = bench.once();
    for name in ["good", "empty", "bad-unchecked"] {
        assert_eq!(of(&records, name)[0]["status"], "ok", "{name}: {records:#?}");
    }
    let (kind, message) = error(&records, "bad");
    assert_eq!(kind, "permission", "{message}");
    assert!(message.contains("/place/open and change what is run"), "{message}");
}

/// Nobody writes to it: opened as a file it would be waited for, also when the agent is gone.
#[test]
fn a_program_that_is_a_pipe_is_refused_at_once() {
    let mut bench = Bench::new(Means::Watch);
    let pipe = bench.path("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o755.into(), 0).expect("own directory");
    let pipe = pipe.display().to_string();
    bench.add("pipe", &[&pipe], "");
    bench.add("pinned", &[&pipe], &format!("sha256 = {:?}\ncheck_owner = false", "0".repeat(64)));
    let records = bench.once();
    for name in ["pipe", "pinned"] {
        let (kind, message) = error(&records, name);
        assert_eq!(kind, "spawn", "{name}: {message}");
        assert!(message.contains("it is no regular file"), "{name}: {message}");
    }
}

/// Its agent ends while it looks at the program: by hand, for nothing makes that last.
#[test]
fn a_minder_whose_agent_has_gone_starts_nothing() {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    let order = serde_json::json!({
        "argv": ["/bin/true"], "env": [["PATH", "/usr/bin:/bin"]], "dir": "/", "account": null, "groups": null,
        "limits": { "cpu": null, "memory": null, "processes": null },
        "confinement": { "check_owner": true, "sha256": null, "user": null, "nice": 0, "ionice": null },
    });
    let order = order.to_string();
    for is_gone in [false, true] {
        let (mut agent, minder) = UnixStream::pair().expect("two sockets");
        agent.write_all(&u32::try_from(order.len()).expect("it is short").to_be_bytes()).expect("room for it");
        agent.write_all(order.as_bytes()).expect("room for it");
        if is_gone {
            agent.shutdown(std::net::Shutdown::Write).expect("it is open");
        }
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_holdover"));
        let mut child =
            command.arg("__minder").env_clear().stdin(std::os::fd::OwnedFd::from(minder)).spawn().expect("a minder");
        drop(command);
        let mut answer = String::new();
        agent.read_to_string(&mut answer).expect("an answer");
        assert!(child.wait().expect("it ends").success(), "{answer}");
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["Ended"]["processes"].is_null(), is_gone, "{answer}");
    }
}
