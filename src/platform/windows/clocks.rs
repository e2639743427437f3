//! Clocks that are never set.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The first reading, and how long the host had been up then, in whole seconds.
static START: OnceLock<(Instant, Duration)> = OnceLock::new();

/// Since the first call, and since the host booted. Each process has a boot id of its own here, so that the second need
/// not agree with that of another process to the millisecond.
#[expect(clippy::disallowed_methods, reason = "a part of the one reader, clock.rs")]
pub fn steady() -> (Duration, Duration) {
    let up = || Duration::from_secs(sysinfo::System::uptime().unwrap_or(0));
    let (start, boot) = START.get_or_init(|| (Instant::now(), up()));
    let mono = start.elapsed();
    (mono, *boot + mono)
}

/// Not read here: a limit of CPU time is not held (docs/windows.md).
pub fn cpu_time() -> Option<Duration> {
    None
}
