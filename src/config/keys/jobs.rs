//! The keys of what is run, when, when not, and what of it is an alarm.

use super::{DAY, KIB, Key, Kind, MIB, SECOND, TIB, key, open};
use crate::collect::exec::{Format, Ionice};

pub(super) const SCRIPTS: &[Key] = &[
    key(
        "default_lines",
        Kind::Path,
        "\"/usr/share/holdover/default.cron\"",
        "The vendor's file of lines; it need not exist unless it is named.",
    ),
    key("default_dir", Kind::Path, "\"/usr/share/holdover/default\"", "The vendor's scripts: default/NAME in a line."),
    open(
        "user_lines",
        Kind::Path,
        "\"/etc/holdover/user.cron\"",
        "The operator's file of lines; user.cron beside the main file unless given. Its lines of a script stand in for \
         the vendor's lines of it.",
    ),
    open(
        "user_dir",
        Kind::Path,
        "\"/etc/holdover/user\"",
        "The operator's scripts: user/NAME in a line, and default/NAME where a script of that name is here; user beside \
         the main file unless given.",
    ),
    key("zone", Kind::Text, "\"local\"", "The time zone of all lines: an IANA name, \"UTC\" or \"local\"."),
];

pub(super) const ALARM_KEYS: &[Key] = &[
    open("name", Kind::Name, "\"disk-full\"", "Names the alarm. Required."),
    open("collector", Kind::Name, "\"filesystems\"", "Whose records are watched. Required."),
    open("record", Kind::Text, "\"system.filesystem\"", "Only records of this name."),
    open(
        "tags",
        Kind::Texts,
        "[\"mountpoint=/\"]",
        "Only records with these tags. Each series has an alarm of its own.",
    ),
    open("field", Kind::Text, "\"utilization\"", "The field whose value counts; true is 1, false 0. Required."),
    open("above", Kind::Number, "0.9", "Raised when the value is above this .."),
    open("below", Kind::Number, "0.1", ".. or, instead, below this."),
    open("clear", Kind::Number, "0.85", "Over when the value is back at this; the limit itself unless given."),
    key("runs", Kind::Int(1, 10_000), "1", "Raised only after so many runs beyond the limit in a row .."),
    key("for", Kind::Duration(0, 366 * DAY), "\"0s\"", ".. and only when they have lasted so long."),
    key("severity", Kind::Choice(&["info", "warning", "critical"]), "\"warning\"", "Handed on with the event."),
    open("message", Kind::Text, "\"the disk is nearly full\"", "A text for whoever reads the event."),
];

pub(super) const BLACKOUT_KEYS: &[Key] = &[
    open("name", Kind::Name, "\"backup-night\"", "Names the window. Required."),
    open("from", Kind::Text, "\"22:00\"", "Begins at this time of day .."),
    open("to", Kind::Text, "\"06:00\"", ".. and ends before this one, of the next day unless it is later."),
    open("days", Kind::Texts, "[\"SAT\", \"SUN\"]", "Days on which it begins; every day unless given."),
    open(
        "cron",
        Kind::Text,
        "\"0 0 2 ? * SUN\"",
        "Instead of from and to: begins at the times of a Quartz expression ..",
    ),
    open("lasts", Kind::Duration(SECOND, 366 * DAY), "\"2h\"", ".. and lasts so long."),
    key("zone", Kind::Text, "\"local\"", "The time zone of the window: an IANA name, \"UTC\" or \"local\"."),
    open("collectors", Kind::Texts, "[\"filesystems\"]", "Whom it concerns; all collectors unless given."),
];

pub(super) const COLLECTOR_KEYS: &[Key] = &[
    open("name", Kind::Name, "\"backup\"", "Names the collector and its topic. Required."),
    open(
        "use",
        Kind::Text,
        "\"cpu\"",
        "A built-in collector; the one called like the name, unless use or exec is given.",
    ),
    open(
        "exec",
        Kind::Texts,
        "[\"/usr/local/lib/holdover/backup-age\", \"--json\"]",
        "A program to run and its arguments.",
    ),
    open("every", Kind::Duration(SECOND, 7 * DAY), "\"10s\"", "Runs at a fixed interval."),
    open(
        "cron",
        Kind::Text,
        "\"0 0/5 * * * ?\"",
        "Runs at the times of a Quartz expression: second minute hour day-of-month month day-of-week [year].",
    ),
    key("zone", Kind::Text, "\"local\"", "The time zone of cron: an IANA name, \"UTC\" or \"local\"."),
    key(
        "jitter",
        Kind::Duration(0, DAY),
        "\"0s\"",
        "Spreads a fleet: each host runs later by a fixed time of its own, up to this.",
    ),
    key(
        "misfire",
        Kind::Choice(&["skip", "once"]),
        "\"skip\"",
        "What to do about a cron run that is more than a minute late, after suspend or a clock step: skip it, or run once now.",
    ),
    key("timeout", Kind::Duration(100, DAY), "\"5s\"", "A run that takes longer is ended and recorded as an error."),
    key(
        "format",
        Kind::Choice(&Format::NAMES),
        "\"auto\"",
        "What the program prints: records a line (ndjson), any JSON (json), Influx line protocol (influx), what \
         monitoring plugins print (nagios), what Prometheus scrapes (openmetrics, prometheus), or one value (value); \
         \"auto\" looks at it.",
    ),
    key(
        "max_output",
        Kind::Size(KIB, 16 * MIB),
        "\"256KiB\"",
        "A program that prints more is ended and its run recorded as an error.",
    ),
    open(
        "cpu",
        Kind::Duration(100, DAY),
        "\"2s\"",
        "A program whose processes take more CPU time together is ended and its run recorded as an error.",
    ),
    key(
        "memory",
        Kind::Size(4 * MIB, TIB),
        "\"256MiB\"",
        "A program whose processes take more memory together is ended and its run recorded as an error.",
    ),
    key(
        "processes",
        Kind::Int(1, 10_000),
        "64",
        "A program with more processes at a time is ended and its run recorded as an error.",
    ),
    open("user", Kind::Text, "\"nobody\"", "The user that the program runs as; the agent must run as root for it."),
    key("nice", Kind::Int(0, 19), "0", "How far the program stands back for others that want the CPU."),
    key(
        "io_class",
        Kind::Choice(&Ionice::NAMES),
        "\"normal\"",
        "How far the program stands back for others that want the disk; needs the program ionice.",
    ),
    open(
        "env",
        Kind::Texts,
        "[\"LC_ALL=C\", \"LIMIT=80\"]",
        "Variables for the program, beside PATH, LANG, HOLDOVER_HOST and HOLDOVER_COLLECTOR. No place for secrets.",
    ),
    open("dir", Kind::Path, "\"/srv\"", "The directory that the program is started in; / unless given."),
    open(
        "sha256",
        Kind::Text,
        "\"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"",
        "The program is run only if its file has this hash, and from a copy that nobody can change.",
    ),
    key(
        "check_owner",
        Kind::Bool,
        "true",
        "Whether a program is refused that others than root, the agent's user and the program's user could change.",
    ),
    key("usage", Kind::Bool, "false", "Whether each run also records what it used: time, CPU time, memory, processes."),
    key("enabled", Kind::Bool, "true", "false switches the collector off."),
    open("params", Kind::Table, "{}", "Settings of a built-in collector."),
];
