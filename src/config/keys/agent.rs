//! The keys of the agent itself: who it is, where its records wait, how they travel, who may put more.

use super::{DAY, HOUR, KIB, Key, Kind, MIB, MINUTE, SECOND, TIB, key, open};

pub(super) const HOST: &[Key] = &[
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

pub(super) const BROKER: &[Key] = &[
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

pub(super) const OUTBOX: &[Key] = &[
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

pub(super) const UPLINK: &[Key] = &[
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

pub(super) const LOG: &[Key] = &[
    key("level", Kind::Choice(&["error", "warn", "info", "debug", "trace"]), "\"info\"", "How much to say."),
    key(
        "format",
        Kind::Choice(&["auto", "text", "json"]),
        "\"auto\"",
        "\"auto\" is text on a terminal and JSON otherwise.",
    ),
];

pub(super) const AGENT: &[Key] = &[
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

pub(super) const PUT: &[Key] = &[
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
