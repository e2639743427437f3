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
