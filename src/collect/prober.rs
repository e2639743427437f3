//! Asks file systems that may never answer: each mount by a short-lived thread of its own, few at a time.
//!
//! A run waits for at most [`PATIENCE`] altogether, the first one for [`FIRST_PATIENCE`]. A late answer is recorded by
//! the next run, with the time that it was measured at. A mount that owes an answer is not asked again; once it is
//! overdue, every run says so. So the loop never hangs, and the threads that do are at most [`MAX_WAITING`], one per
//! mount.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::time::Duration;

use super::filesystems::{Mount, NAME};
use super::{Context, FsStat, Points, text};
use crate::clock::{self, Now};
use crate::record::{ErrorKind, RunError};

/// Much less than any keep-alive, much more than a healthy server needs.
pub(super) const PATIENCE: Duration = Duration::from_millis(20);
/// Before anything is known of the mounts; a busy machine must not make the first records late. Once is harmless.
pub(super) const FIRST_PATIENCE: Duration = Duration::from_millis(500);
const MAX_WAITING: usize = 4;
const THREAD_STACK: usize = 64 << 10;

type Answer = (io::Result<FsStat>, Now);

struct Waiting {
    mount: Mount,
    /// When it was asked, on `Now::mono`.
    since: Duration,
    answer: Receiver<Answer>,
}

pub(super) struct Prober {
    timeout: Duration,
    /// By mount point.
    waiting: BTreeMap<Vec<u8>, Waiting>,
    /// Where the next run begins.
    start: usize,
}

impl Prober {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, waiting: BTreeMap::new(), start: 0 }
    }

    /// Records what answers in time, what answered since the last run, and who is overdue. Returns the devices that
    /// answered in time.
    pub(super) fn probe(
        &mut self,
        ctx: &Context<'_>,
        mounts: &[Mount],
        patience: Duration,
        out: &mut Points,
    ) -> Vec<Vec<u8>> {
        self.take_late_answers(out);
        let end = clock::now().mono + patience;
        let (mut asked, mut prompt) = (Vec::new(), Vec::new());
        // The one that found no room in the last run is the first of this one.
        let start = std::mem::take(&mut self.start).min(mounts.len());
        let (before, after) = mounts.split_at(start);
        for (position, mount) in (start..).zip(after).chain((0..).zip(before)) {
            if let Some(waiting) = self.waiting.get(&mount.path) {
                let waited = ctx.now.mono.saturating_sub(waiting.since);
                if waited >= self.timeout {
                    mount.report(overdue(mount, waited), out);
                }
                continue;
            }
            if self.waiting.len() >= MAX_WAITING {
                self.take_answers(&mut asked, end, &mut prompt, out);
            }
            if self.waiting.len() >= MAX_WAITING {
                if self.start == 0 {
                    self.start = position;
                }
                mount.report(not_asked(mount), out);
                continue;
            }
            match ask(ctx, mount) {
                Ok(answer) => {
                    asked.push(mount.path.clone());
                    let waiting = Waiting { since: ctx.now.mono, answer, mount: mount.clone() };
                    self.waiting.insert(waiting.mount.path.clone(), waiting);
                }
                Err(error) => mount.fail(&error, out),
            }
        }
        self.take_answers(&mut asked, end, &mut prompt, out);
        prompt
    }

    /// Those of this run's questions that are answered before its time is up.
    fn take_answers(&mut self, asked: &mut Vec<Vec<u8>>, end: Duration, prompt: &mut Vec<Vec<u8>>, out: &mut Points) {
        for path in asked.drain(..) {
            let Some(waiting) = self.waiting.get(&path) else { continue };
            match waiting.answer.recv_timeout(end.saturating_sub(clock::now().mono)) {
                Ok((Ok(stat), _)) => waiting.mount.emit(&stat, out.add(NAME)),
                Ok((Err(error), _)) => waiting.mount.fail(&error, out),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => {}
            }
            prompt.push(waiting.mount.device.clone());
            self.waiting.remove(&path);
        }
    }

    fn take_late_answers(&mut self, out: &mut Points) {
        self.waiting.retain(|_, waiting| match waiting.answer.try_recv() {
            Ok((Ok(stat), then)) => {
                waiting.mount.emit(&stat, out.add(NAME).at(&then));
                false
            }
            Ok((Err(error), _)) => {
                waiting.mount.fail(&error, out);
                false
            }
            Err(TryRecvError::Empty) => true,
            Err(TryRecvError::Disconnected) => false,
        });
    }
}

fn ask(ctx: &Context<'_>, mount: &Mount) -> io::Result<Receiver<Answer>> {
    let (sender, answer) = sync_channel(1);
    let statfs = ctx.host.statfs_later(&mount.path());
    std::thread::Builder::new().name("statvfs".into()).stack_size(THREAD_STACK).spawn(move || {
        let result = statfs();
        // Room for one, and only one is sent; nobody listens when the collector is gone, and then nothing is lost.
        drop(sender.try_send((result, clock::now())));
    })?;
    Ok(answer)
}

fn overdue(mount: &Mount, waited: Duration) -> RunError {
    let message = format!(
        "{} ({}) has not answered for {} s; is its server, or its disk, away?",
        text::excerpt(&mount.path),
        mount.kind(),
        waited.as_secs()
    );
    RunError::new(ErrorKind::Timeout, message)
}

fn not_asked(mount: &Mount) -> RunError {
    let path = text::excerpt(&mount.path);
    RunError::new(ErrorKind::Timeout, format!("{path} was not asked: {MAX_WAITING} other mounts owe an answer"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::{Arc, Condvar, Mutex};

    use super::super::{HostRoot, ParamValue, Params, filesystems, run};
    use super::*;
    use crate::record::Point;

    /// Servers that answer when told to.
    #[derive(Default)]
    struct Servers {
        /// Mount points that do not answer, and how many threads hang there.
        state: Mutex<(Vec<String>, usize)>,
        changed: Condvar,
    }

    impl Servers {
        fn statfs(&self, path: &Path) -> io::Result<FsStat> {
            let mut state = self.state.lock().unwrap();
            state.1 += 1;
            while state.0.iter().any(|hung| path.ends_with(hung)) {
                state = self.changed.wait(state).unwrap();
            }
            state.1 -= 1;
            self.changed.notify_all();
            Ok(FsStat { block_size: 1024, blocks: 10, blocks_free: 5, blocks_available: 5, inodes: 0, inodes_free: 0 })
        }

        fn hang(&self, names: &[&str]) {
            self.state.lock().unwrap().0 = names.iter().map(|n| (*n).to_owned()).collect();
            self.changed.notify_all();
        }

        fn hanging(&self) -> usize {
            self.state.lock().unwrap().1
        }

        fn wait_until_hanging(&self, n: usize) {
            let state = self.state.lock().unwrap();
            let (state, result) =
                self.changed.wait_timeout_while(state, Duration::from_secs(30), |state| state.1 != n).unwrap();
            assert!(!result.timed_out(), "{} threads hang, not {n}", state.1);
        }
    }

    struct Bench {
        dir: tempfile::TempDir,
        servers: Arc<Servers>,
        collector: Box<dyn super::super::Collector>,
    }

    fn bench(mounts: &[&str]) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc/1")).unwrap();
        let mut text = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n".to_owned();
        for (i, name) in mounts.iter().enumerate() {
            text.push_str(&format!("3{i} 22 0:{i} / /{name} rw - nfs4 srv:/{name} rw\n"));
        }
        std::fs::write(dir.path().join("proc/1/mountinfo"), text).unwrap();
        let mut params = Params::new();
        params.set(filesystems::SPEC.params, "network", ParamValue::Bool(true)).unwrap();
        let collector = (filesystems::SPEC.build)(&params).unwrap();
        Bench { dir, servers: Arc::default(), collector }
    }

    impl Bench {
        fn run_at(&mut self, seconds: u64) -> Vec<Point> {
            let servers = Arc::clone(&self.servers);
            let host = HostRoot::recorded(self.dir.path(), Arc::new(move |path: &Path| servers.statfs(path)));
            let now = Now { mono: Duration::from_secs(seconds), boot: Duration::from_secs(seconds), wall_ms: 1 };
            let ctx = Context { host: &host, now: &now, agent: &Default::default() };
            run(&filesystems::SPEC, self.collector.as_mut(), &ctx)
        }
    }

    fn outcome(points: &[Point]) -> Vec<(String, Option<ErrorKind>)> {
        points.iter().map(|p| (p.tags["mountpoint"].to_string(), p.error.as_ref().map(|e| e.kind))).collect()
    }

    fn ok(name: &str) -> (String, Option<ErrorKind>) {
        (name.to_owned(), None)
    }

    fn late(name: &str) -> (String, Option<ErrorKind>) {
        (name.to_owned(), Some(ErrorKind::Timeout))
    }

    #[test]
    fn a_mount_that_hangs_delays_neither_the_run_nor_its_neighbours() {
        let mut bench = bench(&["a", "b"]);
        bench.servers.hang(&["a"]);
        let first = outcome(&bench.run_at(0));
        assert!(first.contains(&ok("/")) && !first.iter().any(|(m, _)| m == "/a"), "{first:?}");
        bench.servers.wait_until_hanging(1);
        let second = outcome(&bench.run_at(5));
        assert!(second.contains(&late("/a")) && second.contains(&ok("/")), "{second:?}");
        let neighbour = (0..600).any(|_| outcome(&bench.run_at(6)).contains(&ok("/b")));
        assert!(neighbour, "its neighbour answers meanwhile, at once or by the next run");
        assert_eq!(bench.servers.hanging(), 1, "it was not asked twice");
        bench.servers.hang(&[]);
        bench.servers.wait_until_hanging(0);
        let recovered = (0..600).any(|_| outcome(&bench.run_at(6)).contains(&ok("/a")));
        assert!(recovered, "the late answer is recorded by a later run");
    }

    #[test]
    fn any_number_of_mounts_that_answer_is_asked() {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
        let mut bench = bench(&names);
        // On a busy machine some answer by the next run.
        let mut seen = std::collections::BTreeSet::new();
        let all = (0..600).any(|_| {
            seen.extend(outcome(&bench.run_at(0)).into_iter().filter_map(|(m, error)| error.is_none().then_some(m)));
            seen.len() == 1 + names.len()
        });
        assert!(all, "{seen:?}");
        bench.servers.hang(&["a", "b"]);
        let told = (0..600).any(|_| {
            let points = outcome(&bench.run_at(9));
            names[2..].iter().all(|name| points.contains(&ok(&format!("/{name}"))))
        });
        assert!(told, "two that hang leave room for the others");
        bench.servers.hang(&[]);
    }

    #[test]
    fn a_local_mount_below_one_that_hangs_is_not_asked_in_place() {
        let mut bench = bench(&["a"]);
        let file = bench.dir.path().join("proc/1/mountinfo");
        let table = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, table + "40 30 8:2 / /a/disk rw - ext4 /dev/sdb rw\n41 22 8:3 / /ab rw - ext4 /d rw\n")
            .unwrap();
        bench.servers.hang(&["a", "a/disk"]);
        let first = outcome(&bench.run_at(0));
        assert!(first.contains(&ok("/")) && first.contains(&ok("/ab")) && first.len() == 2, "{first:?}");
        let second = outcome(&bench.run_at(5));
        assert!(second.contains(&late("/a/disk")) && second.contains(&ok("/ab")), "{second:?}");
        bench.servers.hang(&[]);
    }

    #[test]
    fn a_local_mount_that_was_slow_once_is_asked_by_a_thread() {
        let mut bench = bench(&[]);
        assert_eq!(outcome(&bench.run_at(0)), [ok("/")], "a thread finds it quick");
        bench.servers.hang(&[""]);
        let servers = Arc::clone(&bench.servers);
        let slow = std::thread::spawn(move || {
            servers.wait_until_hanging(1);
            std::thread::park_timeout(PATIENCE * 2);
            servers.hang(&[]);
        });
        assert_eq!(outcome(&bench.run_at(0)), [ok("/")], "asked in place, and waited for");
        slow.join().unwrap();
        bench.servers.hang(&[""]);
        assert_eq!(outcome(&bench.run_at(1)), [], "the loop does not hang");
        bench.servers.wait_until_hanging(1);
        assert_eq!(outcome(&bench.run_at(6)), [late("/")]);
        bench.servers.hang(&[]);
        bench.servers.wait_until_hanging(0);
    }

    #[test]
    fn a_local_mount_that_hangs_from_the_start_does_not_hang_the_loop() {
        let mut bench = bench(&[]);
        bench.servers.hang(&[""]);
        assert_eq!(outcome(&bench.run_at(0)), [], "the loop does not hang");
        bench.servers.wait_until_hanging(1);
        assert_eq!(outcome(&bench.run_at(6)), [late("/")]);
        bench.servers.hang(&[]);
        let recovered = (0..600).any(|_| {
            std::thread::park_timeout(PATIENCE);
            outcome(&bench.run_at(7)).contains(&ok("/"))
        });
        assert!(recovered, "its late answer is recorded");
    }

    #[test]
    fn threads_that_hang_are_few() {
        let names = ["a", "b", "c", "d", "e", "f"];
        let mut bench = bench(&names);
        bench.servers.hang(&names);
        let points = bench.run_at(0);
        assert_eq!(points.iter().filter(|p| p.error.is_some()).count(), 2, "{points:?}");
        let points = bench.run_at(100);
        assert_eq!(points.iter().filter(|p| p.error.is_some()).count(), 6, "{points:?}");
        bench.servers.wait_until_hanging(MAX_WAITING);
        bench.servers.hang(&[]);
    }
}
