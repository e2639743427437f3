//! When suspects may be tried: alone in flight, on a connection that has proved itself, and after other data.

use std::time::Duration;

use super::Uplink;

/// How long live data may keep suspects from being alone in flight.
const SUSPECT_PATIENCE: Duration = Duration::from_secs(2);

impl Uplink {
    /// Resting suspects that are due go on trial, but on each connection other data goes first: a trial may end it.
    pub(super) fn try_suspects(&mut self, now: Duration) {
        self.suspects_wake = None;
        let nothing_else = self.delivery.next_free().is_none() && self.live.is_empty() && self.window.is_empty();
        let may_end = self.data_accepted || (nothing_else && self.is_proven());
        if !may_end {
            return;
        }
        if !self.suspects.next_on_trial(now) && self.suspects.is_empty() {
            self.suspects_wake = self.suspects.next_due();
        }
        self.hide_resting();
    }

    /// Something was answered on this connection.
    fn is_proven(&self) -> bool {
        self.link.up().is_some_and(|up| up.acks > 0) || self.heartbeat.is_held_back()
    }

    /// Suspects go alone, status included, on a connection that has already acknowledged something: only then does its end
    /// say anything about them.
    pub(super) fn suspects_may_go(&mut self, now: Duration) -> bool {
        self.suspects.retain(|epoch, chunk| self.delivery.is_wanted(epoch, chunk.clone()));
        self.hide_resting();
        if self.suspects.is_empty() {
            self.suspects_wait = None;
            self.live_paused = false;
            return true;
        }
        let proven = self.is_proven();
        if self.window.is_empty() {
            return proven;
        }
        if self.window.has_suspect() || !proven {
            return false;
        }
        let since = *self.suspects_wait.get_or_insert(now);
        if now < since + SUSPECT_PATIENCE {
            self.history_wake = Some(since + SUSPECT_PATIENCE);
        } else if self.live.is_empty() {
            self.live_paused = true;
        }
        false
    }
}
