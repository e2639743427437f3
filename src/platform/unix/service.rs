//! What the agent tells its service manager, and the signals it takes from it.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// systemd's side: silent when there is none.
#[derive(Debug)]
pub struct ServiceManager {
    watchdog: Option<Duration>,
    next_ping: Duration,
}

impl ServiceManager {
    /// `mono` is the monotonic clock. Pings go out at half the interval that the unit's `WatchdogSec=` asks for.
    pub fn new(mono: Duration) -> Self {
        let watchdog = sd_notify::watchdog_enabled().map(|period| period / 2);
        Self { watchdog, next_ping: watchdog.map_or(Duration::MAX, |period| mono + period) }
    }

    pub fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    pub fn stopping(&self) {
        self.tell(&[NotifyState::Stopping]);
    }

    /// When [`ServiceManager::tick`] wants to be called again.
    pub fn next_wake(&self) -> Option<Duration> {
        self.watchdog.map(|_| self.next_ping)
    }

    /// The loop is alive: called on each turn, pings when it is time.
    pub fn tick(&mut self, mono: Duration) {
        let Some(period) = self.watchdog else { return };
        if mono >= self.next_ping {
            self.tell(&[NotifyState::Watchdog]);
            self.next_ping = mono + period;
        }
    }

    fn tell(&self, state: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(state) {
            tracing::debug!(%error, "the service manager did not take a notification");
        }
    }
}

/// SIGTERM and SIGINT: the first asks for an orderly stop, the second for a fast one. SIGHUP: read the configuration.
#[derive(Debug)]
pub struct Signals {
    term: Signal,
    int: Signal,
    hangup: Signal,
}

impl Signals {
    pub fn install() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Cancel-safe; `None` is SIGHUP.
    pub async fn any(&mut self) -> Option<&'static str> {
        tokio::select! {
            _ = self.term.recv() => Some("SIGTERM"),
            _ = self.int.recv() => Some("SIGINT"),
            _ = self.hangup.recv() => None,
        }
    }

    /// The next that asks for a stop. Cancel-safe.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}
