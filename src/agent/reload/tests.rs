//! What is noticed of files that change, when they cannot be read, and while they do not answer.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{SyncSender, sync_channel};

use super::*;
use crate::config::{Sources, Surroundings};

const GOOD: &str = "[broker]\nurl = \"mqtts://b.example\"\n";
const BAD: &str = "[broker]\nurl = \"nonsense\"\n";

fn now(seconds: u64) -> Now {
    let mono = Duration::from_secs(1_000 + seconds);
    Now { mono, boot: mono, wall_ms: 1_800_000_000_000 + seconds as i64 * 1000 }
}

fn load(file: &Path) -> Result<Loaded, Refused> {
    let around = Surroundings { env: &[], now: now(0), file_system_bytes: |_| Some(1 << 30), guarded: false };
    let sources = Sources { file: Some(file.to_owned()), conf_d: None };
    let read = || Config::load(&sources, &around);
    Loaded::read(read, |_| "hash".to_owned())
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let patience = Duration::from_secs(60);
    runtime.block_on(async { tokio::time::timeout(patience, work).await.expect("within patience") })
}

struct Bench {
    dir: tempfile::TempDir,
    reload: Reload,
    seconds: u64,
}

impl Bench {
    /// A good configuration is in force; `after` is what happens at the end of each reading.
    fn new(after: impl Fn(&Path) + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("holdover.toml");
        std::fs::write(&file, GOOD).unwrap();
        let started = load(&file).ok().expect("it is good");
        let again: Load = Arc::new(move || {
            let read = load(&file);
            after(&file);
            read
        });
        let reload = Reload::new(started.checked, started.fingerprint, again, now(0));
        Self { dir, reload, seconds: 0 }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("holdover.toml")
    }

    fn now(&self) -> Now {
        now(self.seconds)
    }

    /// The next look, to its end; what was read if that made a reading.
    async fn look(&mut self) -> Option<Result<Loaded, Refused>> {
        self.seconds += LOOK.as_secs();
        self.reload.look(self.now());
        while self.reload.task.is_some() {
            let short = tokio::time::timeout(Duration::from_millis(20), self.reload.done());
            if let Ok(reading) = short.await {
                let reading = reading.expect("there are threads");
                self.reload.watch(&reading, self.now());
                return Some(reading);
            }
        }
        None
    }
}

#[test]
fn a_correction_made_while_a_bad_one_was_read_is_noticed() {
    block_on(async {
        // Corrected after it was read and before anybody knows that it was refused.
        let mut bench = Bench::new(|file| std::fs::write(file, GOOD).unwrap());
        std::fs::write(bench.file(), BAD).unwrap();
        assert!(bench.look().await.is_none(), "seen once only: it may still be being written");
        assert!(matches!(bench.look().await, Some(Err(_))), "seen twice, read and refused");
        assert!(bench.look().await.is_none());
        assert!(matches!(bench.look().await, Some(Ok(_))), "the correction");
        assert!(bench.look().await.is_none() && bench.look().await.is_none(), "and that once");
    });
}

#[test]
fn files_that_hang_hold_nothing_up_and_are_told_of() {
    let (release, wait) = sync_channel::<()>(0);
    let wait = Mutex::new(wait);
    let mut bench = Bench::new(move |_| wait.lock().unwrap().recv().unwrap_or_default());
    block_on(hung(&mut bench, release));
}

async fn hung(bench: &mut Bench, release: SyncSender<()>) {
    bench.reload.read();
    for _ in 0..5 {
        bench.seconds += LOOK.as_secs();
        bench.reload.look(bench.now());
        assert!(bench.reload.next_wake() > bench.now().mono, "the loop sleeps");
        assert_eq!(bench.reload.overdue(bench.now()), None);
    }
    // Asked again by SIGHUP: one reading after this one, and no second thread.
    bench.reload.read();
    bench.seconds += PATIENCE.as_secs();
    bench.reload.look(bench.now());
    let told = bench.reload.overdue(bench.now()).expect("it is told");
    assert!(told.contains("not answered for 30 s"), "{told}");
    release.send(()).unwrap();
    assert!(bench.reload.done().await.is_ok());
    assert_eq!(bench.reload.overdue(bench.now()), None, "they answer");
    drop(release);
    assert!(bench.reload.done().await.is_ok(), "the one that was asked for meanwhile");
    assert!(bench.reload.task.is_none());
}

#[test]
fn a_thread_that_the_system_does_not_give_is_told_and_the_reading_made_up_for() {
    block_on(async {
        let mut bench = Bench::new(|_| ());
        let reading = aside::without_threads(async {
            bench.reload.read();
            bench.reload.done().await
        });
        let lost = reading.await.err().expect("there was no thread");
        assert!(lost.to_string().contains("gives no thread"), "{lost}");
        // A look that gets none is made up for too.
        let looked = aside::without_threads(async {
            (bench.reload.wanted, bench.reload.lost) = (false, None);
            bench.seconds += LOOK.as_secs();
            bench.reload.look(bench.now());
            tokio::time::timeout(Duration::from_millis(20), bench.reload.done()).await
        });
        assert!(looked.await.is_err(), "nothing was read");
        let told = bench.reload.overdue(Now { mono: bench.now().mono + PATIENCE, ..bench.now() }).expect("it is told");
        assert!(told.contains("not been looked at") && told.contains("gives no thread"), "no disk is to blame: {told}");
        bench.reload.wanted = true;
        assert!(matches!(bench.look().await, Some(Ok(_))), "read with the next look, though no file has changed");
    });
}
