//! Which of the runs that are due are made while the agent sheds load.

use std::time::Duration;

/// No run is put off for longer by being thinned out; what is due less often than that is not thinned out at all.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// How many of the due runs of a job are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Share {
    #[default]
    All,
    /// One of so many.
    OneOf(u32),
    None,
}

/// The share of one job, and where in its round it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Thinning {
    pub share: Share,
    /// Due runs since the last that was made.
    skipped: u32,
    /// When that was due (monotonic).
    last: Option<Duration>,
}

impl Thinning {
    /// Whether the run that was due then (monotonic) is to be made.
    pub fn admits(&mut self, due: Duration) -> bool {
        let paused = || self.last.is_none_or(|last| due.saturating_sub(last) >= LONGEST_PAUSE);
        let admits = match self.share {
            Share::All => true,
            Share::OneOf(number) => self.skipped.saturating_add(1) >= number || paused(),
            Share::None => false,
        };
        if admits {
            (self.skipped, self.last) = (0, Some(due));
        } else {
            self.skipped = self.skipped.saturating_add(1);
        }
        admits
    }
}
