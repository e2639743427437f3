//! The only file that reads a clock. Everything else is handed a [`Now`].

mod chrony;

pub use chrony::Tracking;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::platform::clocks;

/// One reading of all clocks, taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic since an arbitrary start, never stepped; what every timer and duration uses.
    pub mono: Duration,
    /// Since the host booted, suspend included (`CLOCK_BOOTTIME`); what records carry as `mono`.
    pub boot: Duration,
    /// Wall clock, milliseconds since 1970; may step either way, decides nothing but what is displayed and stored as `ts`.
    pub wall_ms: i64,
}

impl Now {
    /// The pair (boot ms, wall ms) that lets a reader correct times made under a wrong clock.
    pub fn anchor(&self) -> [i64; 2] {
        [self.boot_ms() as i64, self.wall_ms]
    }

    pub fn boot_ms(&self) -> u64 {
        self.boot.as_millis() as u64
    }

    /// When that was in this boot, by the wall clock as it stands now; what is said to be yet to come, now.
    pub fn wall_at(&self, boot_ms: u64) -> i64 {
        let ago = self.boot_ms().saturating_sub(boot_ms);
        self.wall_ms.saturating_sub(i64::try_from(ago).unwrap_or(i64::MAX))
    }

    /// Whether the wall clock has gone on, and was not set, since a point of this boot was made.
    pub fn continues(&self, ts: i64, mono: u64) -> bool {
        let boot_at = |wall_ms: i64, boot_ms: u64| i128::from(wall_ms) - i128::from(boot_ms);
        boot_at(self.wall_ms, self.boot_ms()).abs_diff(boot_at(ts, mono)) < SET.as_millis()
    }
}

/// Slewing moves a clock by less in half an hour; by more it was set.
const SET: Duration = Duration::from_secs(1);

/// Reads the clocks of this machine.
pub fn now() -> Now {
    let (mono, boot) = clocks::steady();
    Now { mono, boot, wall_ms: wall_ms() }
}

/// CPU time that this process has used since it started, without that of its children; where the system tells.
pub fn cpu_time() -> Option<Duration> {
    clocks::cpu_time()
}

/// By the C library, so that libfaketime can put another clock in its place; the others are the kernel's own answer.
#[expect(clippy::disallowed_methods, reason = "the one reader")]
fn wall_ms() -> i64 {
    let since = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    SystemTime::now().duration_since(UNIX_EPOCH).map_or_else(|before| -since(before.duration()), since)
}

/// What systemd-timesyncd leaves at its first synchronisation, below the root directory.
pub const TIMESYNCD_FILE: &str = "run/systemd/timesync/synchronized";

/// What chronyd on this machine believes of the clock; `None` when it does not answer. Costs as [`synced`] does.
pub fn tracking() -> Option<Tracking> {
    chrony::tracking(chrony::LOCAL)
}

/// Whether a time service says that it has set the wall clock since boot.
///
/// The kernel's own answer (`adjtimex` without `STA_UNSYNC`) is out of reach without `unsafe`, so the services are
/// asked: systemd-timesyncd leaves a file in /run at its first synchronisation; chronyd is asked on its local port.
/// With another service (ntpd, PTP) the answer is false: a synchronised clock taken for unsure costs nothing but the
/// flag, the reverse would vouch for wrong times. In a container the answer is about what it can see: false, unless
/// the host's /run/systemd/timesync is mounted there or it shares the host's network and chronyd runs there.
///
/// Costs 2 us, some 100 us with chronyd; 20 ms at worst, should chronyd hang. Ask every 10 s or so.
pub fn synced() -> bool {
    synced_by(Path::new("/"), chrony::LOCAL)
}

fn synced_by(root: &Path, chronyd: SocketAddr) -> bool {
    root.join(TIMESYNCD_FILE).exists() || chrony::is_synchronised(chronyd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_timesyncd_is_proof() {
        let dir = tempfile::tempdir().unwrap();
        let nobody = chrony::tests::nobody();
        assert!(!synced_by(dir.path(), nobody));
        std::fs::create_dir_all(dir.path().join("run/systemd/timesync")).unwrap();
        std::fs::write(dir.path().join("run/systemd/timesync/synchronized"), "").unwrap();
        assert!(synced_by(dir.path(), nobody));
    }

    #[test]
    fn the_clocks_of_this_machine_run_forward() {
        let (a, b) = (now(), now());
        assert!(b.mono >= a.mono && b.boot >= a.boot && a.boot >= a.mono && a.wall_ms > 0);
    }

    #[test]
    fn cpu_time_is_what_was_worked() {
        let used = || cpu_time().unwrap();
        let before = used();
        while used() < before + Duration::from_millis(5) {}
        assert!(before > Duration::ZERO);
    }
}
