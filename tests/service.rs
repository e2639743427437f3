//! What the agent tells its service manager: the protocol of sd_notify(3), with the test in systemd's place.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use crate::support::agent::Agent;
use crate::support::lab::Lab;
use crate::support::{PATIENCE, free_port, pass_time, read_lossy, wait_until};

/// The manager's end of `NOTIFY_SOCKET`.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    /// From now on `agent` starts as systemd starts it with `WatchdogSec=2`. `pid` is the shell's word for
    /// `WATCHDOG_PID`; `$$` is the agent, since the shell becomes it.
    fn of(agent: &mut Agent, pid: &str) -> Manager {
        let path = agent.dir().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let script =
            format!("export NOTIFY_SOCKET='{}' WATCHDOG_USEC=2000000 WATCHDOG_PID={pid}; exec \"$@\"", path.display());
        agent.wrap(&["/bin/sh", "-c", &script, "sh"]);
        Manager { socket }
    }

    /// The lines of the next datagram within `limit`.
    fn next(&self, limit: Duration) -> Option<Vec<String>> {
        self.socket.set_read_timeout(Some(limit)).unwrap();
        let mut buffer = [0; 4096];
        let received = loop {
            match self.socket.recv(&mut buffer) {
                // A signal to this process, which other tests may cause.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => break received,
            }
        };
        match received {
            Ok(length) => {
                Some(String::from_utf8(buffer[..length].to_vec()).unwrap().lines().map(str::to_owned).collect())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("the manager's socket: {error}"),
        }
    }

    fn expect(&self, what: &str) -> Vec<String> {
        self.next(PATIENCE).unwrap_or_else(|| panic!("nothing within {PATIENCE:?}, expected {what}"))
    }
}

/// Nobody listens at its broker's address, ever.
fn agent_without_a_broker(lab: &Lab) -> Agent {
    Agent::new(lab, "edge-01", free_port())
}

#[test]
fn ready_when_it_answers_alive_without_a_broker_and_stopping_when_asked() {
    let lab = Lab::new();
    let mut agent = agent_without_a_broker(&lab);
    let manager = Manager::of(&mut agent, "$$");
    agent.up();

    let ready = manager.expect("READY=1");
    assert_eq!(ready[0], "READY=1");
    assert!(ready[1].starts_with("STATUS=collecting"), "{ready:?}");
    let status = agent.output(&["status"]);
    assert!(status.status.success(), "ready, and yet: {}", String::from_utf8_lossy(&status.stdout));

    agent.wait_for_log("refused");
    for ping in 0..4 {
        assert_eq!(manager.expect("a ping"), ["WATCHDOG=1"], "number {ping}");
    }
    agent.wait_for_more(1);

    agent.down();
    let mut last = Vec::new();
    while let Some(lines) = manager.next(Duration::from_millis(1)) {
        last.push(lines);
    }
    assert_eq!(last.pop().unwrap(), ["STOPPING=1"], "the last word");
    assert!(last.iter().all(|lines| lines == &["WATCHDOG=1"]), "{last:?}");
}

/// A hung agent falls silent, so that the manager restarts it; a merely suspended one goes on as if nothing were.
#[test]
fn no_loop_no_pings() {
    let lab = Lab::new();
    let mut agent = agent_without_a_broker(&lab);
    let manager = Manager::of(&mut agent, "$$");
    agent.up();
    manager.expect("READY=1");
    assert_eq!(manager.expect("a ping"), ["WATCHDOG=1"]);

    agent.signal(rustix::process::Signal::STOP);
    // What it had said before.
    pass_time(Duration::from_millis(100));
    while manager.next(Duration::from_millis(1)).is_some() {}
    assert_eq!(manager.next(Duration::from_secs(3)), None, "a stopped process");
    agent.signal(rustix::process::Signal::CONT);
    assert_eq!(manager.expect("a ping"), ["WATCHDOG=1"]);
    agent.down();
}

/// The watchdog of a parent (a wrapper script, say) is not the agent's; and scripts that the agent runs are not told
/// of its manager, so that none of them can speak for it.
#[test]
fn pings_for_itself_only() {
    let lab = Lab::new();
    let mut agent = agent_without_a_broker(&lab);
    let seen = agent.dir().join("environment");
    agent.setup.collectors = format!(
        "[[collector]]\nname = \"env\"\nexec = [\"/bin/sh\", \"-c\", \"env >{0}.new; mv {0}.new {0}\"]\nevery = \"1s\"\n",
        seen.display()
    );
    let manager = Manager::of(&mut agent, "1");
    agent.up();
    assert_eq!(manager.expect("READY=1")[0], "READY=1");
    wait_until("the script to run", PATIENCE, || seen.exists());
    let end = Instant::now() + Duration::from_secs(3);
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        assert_eq!(manager.next(left), None, "the watchdog of process 1");
    }
    agent.down();

    let environment = read_lossy(&seen);
    assert!(environment.contains("PATH="), "{environment}");
    assert!(!environment.contains("NOTIFY_SOCKET") && !environment.contains("WATCHDOG"), "{environment}");
}

#[test]
fn a_refused_configuration_is_never_ready() {
    let lab = Lab::new();
    let mut agent = agent_without_a_broker(&lab);
    agent.setup.url = "mqtts://localhost:80".to_owned();
    let manager = Manager::of(&mut agent, "$$");
    agent.up();
    assert_eq!(agent.wait_for_exit(), Some(78), "RestartPreventExitStatus= of the shipped unit");
    assert_eq!(manager.next(Duration::from_millis(1)), None);
}
