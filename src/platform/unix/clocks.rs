//! The kernel's clocks that are never set.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Since an arbitrary start, and since the host booted (suspend included).
pub fn steady() -> (Duration, Duration) {
    (read(ClockId::Monotonic), read(ClockId::Boottime))
}

/// CPU time of this process, without that of its children; where the system tells.
pub fn cpu_time() -> Option<Duration> {
    Some(read(ClockId::ProcessCPUTime))
}

fn read(id: ClockId) -> Duration {
    let t = clock_gettime(id);
    Duration::new(t.tv_sec.max(0) as u64, t.tv_nsec as u32)
}
