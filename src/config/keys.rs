//! Every key of the configuration, once: its type and limits, its default, and what it is for.
//!
//! The reader takes types, limits and defaults from here, hints take the names, and [`super::reference`] prints it all.

mod agent;
mod jobs;

use agent::{AGENT, BROKER, HOST, LOG, OUTBOX, PUT, UPLINK};
use jobs::{ALARM_KEYS, BLACKOUT_KEYS, COLLECTOR_KEYS, SCRIPTS};

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// A TOML literal; empty: nothing unless given.
    pub default: &'static str,
    /// A TOML literal shown when there is no default.
    pub example: &'static str,
    /// What it does, in sentences; the reference file wraps them.
    pub about: &'static str,
}

/// What a value must be. Bounds are inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Int(i64, i64),
    /// Whole or not.
    Number,
    /// Any text without control characters, not empty.
    Text,
    /// Letters, digits, `_` and `-`: a level of an MQTT topic.
    Name,
    Texts,
    /// Milliseconds.
    Duration(u64, u64),
    /// Bytes.
    Size(u64, u64),
    /// Bytes per second, or [`UNLIMITED`].
    Rate(u64, u64),
    Choice(&'static [&'static str]),
    /// Relative ones count from the folder of the file they stand in.
    Path,
    /// A table with keys of its own.
    Table,
}

/// One `[section]`, or the repeated `[[collector]]`.
#[derive(Clone, Copy, Debug)]
pub struct SectionSpec {
    pub name: &'static str,
    pub about: &'static str,
    pub keys: &'static [Key],
}

/// The word for a rate that nothing holds back.
pub const UNLIMITED: &str = "unlimited";

pub const COLLECTOR: &str = "collector";
pub const BLACKOUT: &str = "blackout";
pub const ALARM: &str = "alarm";
/// Sections in double brackets: there may be several, and those of all files add up.
pub const REPEATED: [&str; 3] = [COLLECTOR, BLACKOUT, ALARM];

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

const fn key(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key { name, kind, default, example: "", about }
}

/// A key without a default.
const fn open(name: &'static str, kind: Kind, example: &'static str, about: &'static str) -> Key {
    Key { name, kind, default: "", example, about }
}

/// In the order in which they are documented.
pub const SECTIONS: &[SectionSpec] = &[
    SectionSpec { name: "host", about: "Who this host is.", keys: HOST },
    SectionSpec { name: "broker", about: "The MQTT broker and how to be let in.", keys: BROKER },
    SectionSpec { name: "outbox", about: "Where records wait until they are delivered.", keys: OUTBOX },
    SectionSpec {
        name: "uplink",
        about: "When a record counts as delivered, and how fast the backlog is sent.",
        keys: UPLINK,
    },
    SectionSpec { name: "log", about: "What the agent says about itself on standard error.", keys: LOG },
    SectionSpec { name: "agent", about: "The agent as a process.", keys: AGENT },
    SectionSpec {
        name: "put",
        about: "A Unix socket on which applications hand over records of their own ('holdover put'). See docs/put.md.",
        keys: PUT,
    },
    SectionSpec {
        name: "scripts",
        about: "Lines such as [0 0/5 * * * ?] default/sampler.py arg, of the vendor's side and of the operator's, which \
                wins by name. See docs/migration.md.",
        keys: SCRIPTS,
    },
    SectionSpec {
        name: COLLECTOR,
        about: "What is measured, and when. Repeat the section for each collector. One with the name of a default \
                collector changes that; enabled = false switches it off.",
        keys: COLLECTOR_KEYS,
    },
    SectionSpec {
        name: BLACKOUT,
        about: "When collectors are not to run. Repeat the section for each window. A run that is due in one is counted as \
                missed, with the reason blackout; one record tells their number, with the next run that is made and each hour.",
        keys: BLACKOUT_KEYS,
    },
    SectionSpec {
        name: ALARM,
        about: "A value of a collector that is an event when it goes beyond a limit, and when it is back. Repeat the section \
                for each. It is evaluated on this host: see docs/events.md.",
        keys: ALARM_KEYS,
    },
];

pub fn section(name: &str) -> Option<&'static SectionSpec> {
    SECTIONS.iter().find(|section| section.name == name)
}
