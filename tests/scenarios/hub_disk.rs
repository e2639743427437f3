//! The hub on a disk that is full to the last page: it acknowledges nothing that it has not stored, whether it runs, starts or
//! is killed there, and goes on by itself as soon as there is room. On a path that cannot be one it does not wait.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::scenarios::ingest::assert_acks_stored;
use crate::support::agent::Agent;
use crate::support::child::Running;
use crate::support::hub::Hub;
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::sub::Sub;
use crate::support::{PATIENCE, free_port, pass_time, read_lossy, wait_until};

const PAGE: usize = 4096;

/// A tmpfs in a mount namespace of its own, which goes with the process that keeps it.
struct SmallDisk {
    /// As whoever is outside of the namespace sees it.
    path: PathBuf,
    _keeper: Running,
}

impl SmallDisk {
    fn new(lab: &Lab, size: &str) -> SmallDisk {
        let (dir, log) = (lab.path("disk"), lab.path("disk.log"));
        std::fs::create_dir(&dir).expect("fresh directory");
        let script =
            format!("mount -t tmpfs -o size={size} none '{}' && echo mounted && exec sleep 3600", dir.display());
        let mut command = Command::new("unshare");
        command.arg("--mount");
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command.args(["sh", "-c", &script]);
        let mut keeper = Running::start("sleep", &mut command, &log);
        wait_until("the disk to be mounted", PATIENCE, || {
            keeper.assert_running();
            read_lossy(&log).contains("mounted")
        });
        let root = Path::new("/proc").join(keeper.id().to_string()).join("root");
        let path = root.join(dir.strip_prefix("/").expect("an absolute path"));
        SmallDisk { path, _keeper: keeper }
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    /// Takes every page but so many.
    fn fill(&self, left: usize) {
        let mut file =
            std::fs::File::options().create(true).append(true).open(self.ballast()).expect("an inode is left");
        while file.write_all(&[b'x'; PAGE]).map_err(|e| assert_eq!(e.kind(), ErrorKind::StorageFull)).is_ok() {}
        let length = file.metadata().expect("it is open").len();
        file.set_len(length.saturating_sub((left * PAGE) as u64)).expect("shorter is always possible");
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).expect("it was there");
    }
}

/// So often the hub met the end of its disk.
fn refusals(hub: &Hub) -> usize {
    read_lossy(&hub.log).matches("No space left").count()
}

#[test]
fn a_hub_on_a_full_disk_acknowledges_nothing_unstored_and_goes_on_when_there_is_room() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let disk = SmallDisk::new(&lab, "16m");
    let mut hub = Hub::new(&lab, broker.port);
    hub.dir = disk.path.join("hub");
    hub.up();
    hub.listening(1);
    let acks = Sub::start(&lab, &broker, "%p", &["v1/+/+/ack/hub"]);
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    agent.up();
    agent.wait_for_more(50);
    hub.wait_until_stored(&mut agent, PATIENCE);
    // The pages that are left are the files', or the ledger's, or both want one.
    for (round, left) in [0, 1, 2, 3, 5, 8].into_iter().enumerate() {
        let before = refusals(&hub);
        disk.fill(left);
        wait_until("the hub to meet the end of its disk", PATIENCE, || {
            hub.check();
            refusals(&hub) > before
        });
        let stored = hub.stored().records.len();
        agent.wait_for_more(100);
        if round % 2 == 0 {
            hub.kill();
        } else {
            hub.down();
        }
        assert_acks_stored(&acks.lines(), &hub.stored());
        hub.up();
        agent.wait_for_more(100);
        pass_time(Duration::from_secs(1));
        hub.check();
        assert_acks_stored(&acks.lines(), &hub.stored());
        let more = hub.stored().records.len() - stored;
        assert!(more <= left * PAGE / 100, "{more} records stored on {left} pages");
        disk.make_room();
        hub.wait_until_stored(&mut agent, PATIENCE);
        assert!(hub.stored().twice().is_empty());
        eprintln!("{left} pages left: {stored} records, {more} more; {} acknowledgements", acks.lines().len());
    }
    agent.down();
    wait_until("a hub that knows of no gap", PATIENCE, || {
        hub.json(&["gaps", "--json"])["gaps"].as_array().is_some_and(Vec::is_empty)
    });
    assert_acks_stored(&acks.lines(), &hub.stored());
    hub.down();
    assert!(hub.stored().torn.is_empty());
    let gaps = hub.json(&["gaps", "--json"]);
    assert!(gaps["gaps"].as_array().is_some_and(Vec::is_empty) && gaps["losses"].as_array().is_some_and(Vec::is_empty));
    let log = read_lossy(&hub.log);
    let of_ledger = log.lines().filter(|line| line.contains("No space left") && line.contains("the ledger")).count();
    eprintln!("{} refusals, {of_ledger} of the ledger", refusals(&hub));
    // All came from the broker, which kept what was not acknowledged.
    assert!(!log.contains("asked for records again"));
}

#[test]
fn a_directory_that_cannot_be_one_ends_the_start_and_says_so() {
    let lab = Lab::new();
    let mut hub = Hub::new(&lab, free_port());
    let file = lab.path("file");
    std::fs::write(&file, "").expect("own directory");
    for (dir, why) in [(file.clone(), "File exists"), (file.join("below"), "Not a directory")] {
        hub.dir = dir.clone();
        hub.up();
        assert_eq!(hub.wait_for_exit(), Some(78));
        let log = read_lossy(&hub.log);
        assert!(log.contains(&format!("cannot use the directory {}: {why}", dir.display())), "{log}");
        assert!(log.contains("check that --dir is the right path"), "{log}");
    }
}
