//! The loop's one timer, straight from the kernel. tokio's wheel wakes who sleeps for about a second twice (at its slot
//! of 64 ms, then at the time), and itself for each earlier deadline; both are felt at one run a second.

use std::time::Duration;

use crate::clock;

/// Rings once, at a time on the monotonic clock.
pub struct Alarm {
    #[cfg(target_os = "linux")]
    timer: Option<linux::Timer>,
}

impl Alarm {
    /// Inside a runtime. Without a kernel timer tokio's is used.
    pub fn new() -> Self {
        Self {
            #[cfg(target_os = "linux")]
            timer: linux::Timer::new().ok(),
        }
    }

    /// Returns at `time` or, if that is past, at once. Cancel-safe.
    pub async fn at(&mut self, time: Duration) {
        #[cfg(target_os = "linux")]
        if let Some(timer) = &mut self.timer {
            match timer.at(time).await {
                Ok(()) => return,
                Err(error) => tracing::debug!(%error, "the kernel's timer failed"),
            }
            self.timer = None;
        }
        tokio::time::sleep(time.saturating_sub(clock::now().mono)).await;
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    pub struct Timer {
        fd: AsyncFd<OwnedFd>,
        /// What it is set to; `None` when it rang.
        set: Option<Duration>,
    }

    impl Timer {
        #[expect(deprecated, reason = "its successor is unsafe; the fd is owned here and never replaced or lent")]
        pub fn new() -> io::Result<Self> {
            let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
            Ok(Self { fd: AsyncFd::with_interest(fd, Interest::READABLE)?, set: None })
        }

        pub async fn at(&mut self, time: Duration) -> io::Result<()> {
            // Zero would disarm it.
            let time = time.max(Duration::from_nanos(1));
            if self.set != Some(time) {
                let once = Itimerspec { it_interval: Timespec::default(), it_value: timespec(time) };
                timerfd_settime(self.fd.get_ref(), TimerfdTimerFlags::ABSTIME, &once)?;
                self.set = Some(time);
            }
            loop {
                let mut ready = self.fd.readable().await?;
                // Set anew after it rang, there is nothing to read.
                match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut [0; 8])?)) {
                    Ok(read) => {
                        // It rings once: what is read is read.
                        ready.clear_ready();
                        self.set = None;
                        return read.map(drop);
                    }
                    Err(_would_block) => {}
                }
            }
        }
    }

    fn timespec(time: Duration) -> Timespec {
        let tv_sec = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        Timespec { tv_sec, tv_nsec: time.subsec_nanos().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Duration {
        clock::now().mono
    }

    fn block_on(work: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
    }

    #[test]
    fn it_rings_at_its_time_and_not_before_however_often_it_is_set_anew() {
        block_on(async {
            let mut alarm = Alarm::new();
            for wait in [0, 30, 5, 20] {
                let at = now() + Duration::from_millis(wait);
                alarm.at(at).await;
                assert!(now() >= at, "{wait} ms");
            }
        });
    }

    #[test]
    fn a_time_that_is_past_rings_at_once() {
        block_on(async {
            let mut alarm = Alarm::new();
            alarm.at(Duration::ZERO).await;
            alarm.at(now().saturating_sub(Duration::from_millis(1))).await;
        });
    }

    #[test]
    fn one_that_was_given_up_does_not_ring_for_the_next() {
        block_on(async {
            let mut alarm = Alarm::new();
            let (early, late) = (now() + Duration::from_millis(20), now() + Duration::from_millis(60));
            // Polled once and dropped, as the loop does when something else happens first.
            tokio::select! {
                biased;
                () = alarm.at(early) => {}
                () = std::future::ready(()) => {}
            }
            // It rings while nobody waits.
            tokio::time::sleep(Duration::from_millis(30)).await;
            alarm.at(late).await;
            assert!(now() >= late);
        });
    }
}
