//! What counts as delivered: the broker's word, or a hub's.
//!
//! `auto` is `hub` from the first acknowledgement that any hub ever gave this host, across restarts, until the user
//! says to forget it. A retained acknowledgement may be older than that word: only a fresh one overrules it.

/// As configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    #[default]
    Auto,
    Broker,
    Hub,
}

/// Whether a hub has ever acknowledged this host, as it is remembered in the outbox's notes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HubMemory {
    #[default]
    Never,
    Acknowledged,
    /// It had, and the user said to forget it.
    Forgotten,
}

impl HubMemory {
    /// Key of the note.
    pub const NOTE: &str = "hub";
    const ACKNOWLEDGED: &str = "acknowledged";
    /// Value of the note after the user said to forget the hub.
    pub const FORGOTTEN: &str = "forgotten";

    pub fn from_note(note: Option<&str>) -> Self {
        match note {
            Some(Self::ACKNOWLEDGED) => Self::Acknowledged,
            Some(Self::FORGOTTEN) => Self::Forgotten,
            _ => Self::Never,
        }
    }
}

/// The level in force.
#[derive(Clone, Copy, Debug)]
pub struct Standard {
    level: Level,
    memory: HubMemory,
}

impl Standard {
    pub fn new(level: Level, memory: HubMemory) -> Self {
        Self { level, memory }
    }

    /// What the outbox, opened late, remembers.
    pub fn remember(&mut self, memory: HubMemory) {
        if self.memory == HubMemory::Never {
            self.memory = memory;
        }
    }

    /// Whether only a hub's acknowledgement settles.
    pub fn is_hub(&self) -> bool {
        match self.level {
            Level::Auto => self.memory == HubMemory::Acknowledged,
            Level::Broker => false,
            Level::Hub => true,
        }
    }

    /// As in the status.
    pub fn word(&self) -> &'static str {
        if self.is_hub() { "hub" } else { "broker" }
    }

    /// A hub acknowledged records of ours. Returns the note to keep, if that is news.
    pub fn acknowledged(&mut self, retained: bool) -> Option<&'static str> {
        let news = match self.memory {
            HubMemory::Never => true,
            HubMemory::Acknowledged => false,
            HubMemory::Forgotten => !retained,
        };
        news.then(|| {
            self.memory = HubMemory::Acknowledged;
            HubMemory::ACKNOWLEDGED
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_hub_from_the_first_acknowledgement_on() {
        let mut standard = Standard::new(Level::Auto, HubMemory::Never);
        assert_eq!(standard.word(), "broker");
        let note = standard.acknowledged(true);
        assert!(standard.is_hub() && standard.acknowledged(false).is_none());
        assert!(Standard::new(Level::Auto, HubMemory::from_note(note)).is_hub(), "after a restart too");
    }

    #[test]
    fn a_forgotten_hub_counts_again_only_when_it_speaks_again() {
        let mut standard = Standard::new(Level::Auto, HubMemory::from_note(Some(HubMemory::FORGOTTEN)));
        assert!(standard.acknowledged(true).is_none() && !standard.is_hub());
        assert!(standard.acknowledged(false).is_some() && standard.is_hub());
    }

    #[test]
    fn what_an_outbox_opened_late_remembers_does_not_undo_what_a_hub_has_said_since() {
        let memories = [HubMemory::Never, HubMemory::Acknowledged, HubMemory::Forgotten];
        for memory in memories {
            let mut standard = Standard::new(Level::Auto, HubMemory::Never);
            standard.remember(memory);
            assert_eq!(standard.memory, memory);
            standard.acknowledged(false);
            memories.into_iter().for_each(|memory| standard.remember(memory));
            assert!(standard.is_hub());
        }
    }

    #[test]
    fn a_configured_level_stays_whatever_hubs_say() {
        let mut broker = Standard::new(Level::Broker, HubMemory::Never);
        broker.acknowledged(false);
        assert!(!broker.is_hub() && Standard::new(Level::Hub, HubMemory::Never).is_hub());
    }
}
