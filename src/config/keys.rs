//! Every key of the configuration, once: its type and limits, its default, and what it is for.
//!
//! The reader takes types, limits and defaults from here, hints take the names, and [`super::reference`] prints it all.

use crate::collect::exec::{Format, Ionice};

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
                missed, with the reason blackout; one record tells their number, with the next run that is made.",
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

const HOST: &[Key] = &[
    open(
        "id",
        Kind::Name,
        "\"edge-01\"",
        "Names the host for ever, whatever its address; unique across sites. Without it: the common name of the client \
         certificate, else the hardware's id, else the machine id, else a new one; decided once and stored in the outbox.",
    ),
    key("site", Kind::Name, "\"default\"", "A group of hosts; a level of every topic."),
    open("prefix", Kind::Text, "\"company/metrics\"", "Up to three topic levels put before all topics."),
    key(
        "root",
        Kind::Path,
        "\"/\"",
        "Where the root directory of the host to measure is mounted, for an agent in a container: \"/host\" after \
         docker run -v /:/host:ro,rslave. Scripts run in the container all the same.",
    ),
];

const BROKER: &[Key] = &[
    open(
        "url",
        Kind::Text,
        "\"mqtts://broker.example.com:8883\"",
        "Required, unless urls is given. mqtts:// is MQTT over TLS, port 8883 unless another is named.",
    ),
    open(
        "urls",
        Kind::Texts,
        "[\"mqtts://a.example.com\", \"mqtts://b.example.com\"]",
        "Several brokers instead of one, tried in turn.",
    ),
    key(
        "ca",
        Kind::Text,
        "\"system\"",
        "Who may vouch for the broker: a PEM file, or \"system\" for the certificates that the host trusts.",
    ),
    open(
        "cert",
        Kind::Path,
        "\"/etc/holdover/host.pem\"",
        "Client certificate, PEM, with its chain. Read anew for each connection.",
    ),
    open("key", Kind::Path, "\"/etc/holdover/host.key\"", "Private key of the client certificate, PEM."),
    open("username", Kind::Text, "\"edge-01\"", "For brokers that ask for a name and password."),
    open(
        "password_file",
        Kind::Path,
        "\"$CREDENTIALS_DIRECTORY/broker-password\"",
        "A file with the password in its one line. Passwords are never taken from this file or the environment.",
    ),
    open("client_id", Kind::Text, "\"edge-01\"", "The MQTT client id; the host id unless given."),
    key("keep_alive", Kind::Duration(5 * SECOND, 18 * HOUR), "\"30s\"", "How soon a dead connection is noticed."),
    key("allow_clear_text", Kind::Bool, "false", "Allows mqtt:// without TLS, to a loopback address and nowhere else."),
    key("encoding", Kind::Choice(&["msgpack", "json"]), "\"msgpack\"", "The form of messages on the wire."),
    key(
        "compression",
        Kind::Choice(&["none", "zstd"]),
        "\"none\"",
        "\"zstd\" sends the backlog in a fraction of the bytes; live messages stay as they are. Every subscriber of the \
         backlog must read zstd, as holdover-hub does.",
    ),
    key(
        "unheard",
        Kind::Choice(&["hold", "settle"]),
        "\"hold\"",
        "What to do when the broker says that nobody subscribes (MQTT 5 reason 0x10): keep the records until somebody \
         does, or count them as delivered. \"settle\" suits brokers whose rule engines consume without a subscription.",
    ),
];

const OUTBOX: &[Key] = &[
    key(
        "dir",
        Kind::Path,
        "\"/var/lib/holdover\"",
        "The folder of the outbox; under systemd its StateDirectory unless given.",
    ),
    open(
        "max_bytes",
        Kind::Size(16 * MIB, 64 * TIB),
        "\"256MiB\"",
        "The most disk space to use. Without it: 256 MiB or a tenth of the file system, whichever is less, at least 16 MiB.",
    ),
    open("max_age", Kind::Duration(MINUTE, 3_650 * DAY), "\"30d\"", "Records older than this are declared lost."),
    key(
        "drop",
        Kind::Choice(&["oldest", "newest"]),
        "\"oldest\"",
        "Which records are declared lost when the outbox is full.",
    ),
    key(
        "commit_window",
        Kind::Duration(10, 5 * SECOND),
        "\"250ms\"",
        "Runs that end within this time share one commit. A power cut costs at most this much.",
    ),
];

const UPLINK: &[Key] = &[
    key(
        "level",
        Kind::Choice(&["auto", "broker", "hub"]),
        "\"auto\"",
        "Whose word settles a record: \"broker\" takes the broker's acknowledgement, which proves nothing about who \
         subscribes; \"hub\" waits until a Holdover hub has stored it. \"auto\" is \"hub\" once any hub has ever \
         acknowledged this host, until 'holdover outbox forget-hub'.",
    ),
    key(
        "history_rate",
        Kind::Rate(KIB, 3 * 1024 * MIB),
        "\"480kB\"",
        "Backlog bytes sent per second, at most. Live records are not held back by it. \"unlimited\" is as fast as the \
         broker acknowledges, for a broker of your own: then history_batches does not count either.",
    ),
    key("history_batches", Kind::Int(1, 1_000), "8", "Backlog messages sent per second, at most."),
    key(
        "in_flight",
        Kind::Int(2, 1_000),
        "10",
        "Messages sent and not yet acknowledged, at most; the broker may allow fewer.",
    ),
    key("in_flight_bytes", Kind::Size(16 * KIB, 64 * MIB), "\"64KiB\"", "Their bytes, at most."),
    key("max_packet", Kind::Size(4 * KIB, 16 * MIB), "\"64KiB\"", "The largest message; the broker may allow less."),
    key(
        "reconnect_min",
        Kind::Duration(100, HOUR),
        "\"1s\"",
        "The first wait before connecting again; it grows with each failure.",
    ),
    key("reconnect_max", Kind::Duration(SECOND, DAY), "\"60s\"", "The longest wait before connecting again."),
];

const LOG: &[Key] = &[
    key("level", Kind::Choice(&["error", "warn", "info", "debug", "trace"]), "\"info\"", "How much to say."),
    key(
        "format",
        Kind::Choice(&["auto", "text", "json"]),
        "\"auto\"",
        "\"auto\" is text on a terminal and JSON otherwise.",
    ),
];

const AGENT: &[Key] = &[
    open(
        "conf_d",
        Kind::Path,
        "\"/etc/holdover/conf.d\"",
        "The folder of further *.toml files, read in lexical order after the main file; conf.d beside it unless given.",
    ),
    key(
        "default_collectors",
        Kind::Bool,
        "true",
        "Whether the default set of built-in collectors runs beside those named here.",
    ),
    key(
        "check_owner",
        Kind::Bool,
        "true",
        "Whether, as root, files of the configuration that others than root could change are left out. Counts in the main \
         file for all other files; for the main file too in the environment.",
    ),
    key(
        "stop_timeout",
        Kind::Duration(SECOND, 10 * MINUTE),
        "\"10s\"",
        "How long a stop may take to save and say goodbye.",
    ),
    key(
        "cgroup",
        Kind::Text,
        "\"auto\"",
        "Where control groups for programs may be made: a directory of a cgroup2 file system that the agent may write \
         to. \"auto\" is the agent's own group if systemd delegates it (Delegate=yes); \"off\" makes none. Without \
         groups, programs are bounded by other means.",
    ),
    key(
        "max_memory",
        Kind::Size(0, TIB),
        "\"64MiB\"",
        "Memory that the agent itself may use, files that it maps not counted. Beyond it the agent does less, by stages, \
         and says so; it never exits for that. \"0B\" is no limit. See docs/limits.md.",
    ),
    open(
        "max_cpu",
        Kind::Int(0, 10_000),
        "50",
        "The same for its CPU time without that of programs, in percent of one core. 0 is no limit. 50 unless given; none \
         where uplink.history_rate is faster than its default, which asks for the CPU time that this takes.",
    ),
    key(
        "limits_window",
        Kind::Duration(SECOND, HOUR),
        "\"30s\"",
        "How long its use is measured before it is compared with the two limits. Two windows in a row beyond one are a \
         stage.",
    ),
    open(
        "shed",
        Kind::Texts,
        "[\"processes\", \"tcp\"]",
        "Collectors that the last stage turns off; the agent's own collector cannot be among them.",
    ),
];

const PUT: &[Key] = &[
    key("enabled", Kind::Bool, "false", "Whether there is one."),
    open(
        "socket",
        Kind::Path,
        "\"/run/holdover/put.sock\"",
        "Where; put.sock in the outbox's folder unless given. Others than the agent's own user need a folder that they may \
         enter, such as systemd's RuntimeDirectory.",
    ),
    open("group", Kind::Text, "\"metrics\"", "Whose members may write to it; the agent must be one, or root."),
    open(
        "mode",
        Kind::Choice(&["0600", "0660", "0666"]),
        "\"0660\"",
        "Who may write to it: the agent's own user (and root), the group too, everybody. 0660 when a group is given, else \
         0600.",
    ),
    key(
        "records_per_s",
        Kind::Int(1, 100_000),
        "1000",
        "Records taken per second, at most, over all applications: who sends more has to wait.",
    ),
];

const SCRIPTS: &[Key] = &[
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

const ALARM_KEYS: &[Key] = &[
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

const BLACKOUT_KEYS: &[Key] = &[
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

const COLLECTOR_KEYS: &[Key] = &[
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
