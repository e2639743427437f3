//! Who this host is: its id, the fingerprint of its hardware, the boot, and what `meta` tells about it.
//!
//! The id names the host in topics and stores; it is decided once and stored by the outbox. The fingerprint is only
//! ever compared with the one stored before: when it differs, the outbox lives on another machine (a cloned card) and
//! starts a new epoch. Everything is read through the [`HostRoot`]; nothing here writes.
//!
//! The machine id is a secret of the machine by systemd's rules, so it is only used as the key of a hash.

use std::collections::BTreeMap;
use std::fmt;

use ring::{digest, hmac, rand};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use crate::collect::HostRoot;

/// Longest host id.
pub const MAX_ID: usize = 64;

/// DMI UUIDs that many machines share because their maker never set them.
const SHARED_UUIDS: &[&str] = &[
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "03000200-0400-0500-0006-000700080009",
    "00020003-0004-0005-0006-000700080009",
    "12345678-1234-5678-90ab-cddeefaabbcc",
    "fefefefe-fefe-fefe-fefe-fefefefefefe",
];

/// Serial numbers that are none.
const SHARED_SERIALS: &[&str] = &[
    "none",
    "n/a",
    "default string",
    "to be filled by o.e.m.",
    "not specified",
    "not applicable",
    "system serial number",
    "base board serial number",
    "chassis serial number",
    "0123456789",
    "123456789",
    "unknown",
    "oem",
    "invalid",
];

/// Where a host id came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Configured,
    /// Decided at an earlier start.
    Stored,
    Certificate,
    Dmi,
    MachineId,
    Minted,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configured => "configuration",
            Self::Stored => "an earlier start",
            Self::Certificate => "the certificate's common name",
            Self::Dmi => "the DMI UUID",
            Self::MachineId => "the machine id, hashed",
            Self::Minted => "chance",
        })
    }
}

/// A decided host id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostId {
    /// `[A-Za-z0-9_-]{1,64}`.
    pub id: String,
    pub source: Source,
    /// What a person should know about this decision, one line.
    pub note: Option<String>,
}

/// The first of: configured, stored, certificate's CN, DMI UUID, machine id (hashed), minted. Store what it returns.
pub fn decide(configured: Option<&str>, stored: Option<&str>, cn: Option<&str>, root: &HostRoot) -> HostId {
    let stored_id = stored.map(str::trim).filter(|id| !id.is_empty());
    if let Some(id) = configured.and_then(sanitize) {
        let renamed = stored_id.filter(|stored| *stored != id);
        let note = renamed.map(|stored| format!("this host was `{stored}` and is `{id}` from now on, as configured"));
        return HostId { id, source: Source::Configured, note };
    }
    if let Some(stored) = stored_id
        && sanitize(stored).as_deref() == Some(stored)
    {
        let other = cn.and_then(sanitize).filter(|cn| cn != stored);
        let note = other.map(|cn| {
            format!("the certificate is for `{cn}`, this host has been `{stored}` since its first start; \
                     a broker that compares the two will refuse it: set host.id, or give it a certificate for `{stored}`")
        });
        return HostId { id: stored.to_owned(), source: Source::Stored, note };
    }
    let note = stored_id.map(|stored| format!("the stored host id {stored:?} is damaged and was replaced"));
    let found = [
        (Source::Certificate, cn.and_then(sanitize)),
        (Source::Dmi, dmi_uuid(root)),
        (Source::MachineId, machine_id(root).map(|id| keyed(&id, b"holdover host id 1"))),
    ];
    let mut found = found.into_iter().filter_map(|(source, id)| Some((source, id?)));
    let (source, id) = found.next().unwrap_or_else(|| (Source::Minted, mint(root)));
    HostId { id, source, note }
}

/// The text as a host id: every character outside `[A-Za-z0-9_-]` becomes `_`; when that changed anything, or more
/// than 64 bytes are left, `-` and 8 digits of the text's SHA-256 end it, so that no two texts become one id. `None`
/// when the text is blank.
pub fn sanitize(text: &str) -> Option<String> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let kept = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let mut id: String = text.chars().map(|c| if kept(c) { c } else { '_' }).collect();
    if id != text || id.len() > MAX_ID {
        id.truncate(MAX_ID - 9);
        id.push('-');
        id.push_str(&hash(text.as_bytes())[..8]);
    }
    Some(id)
}

/// What of the hardware a [`fingerprint`] was taken from: of the first that there is.
///
/// - `dmi`: DMI UUID, board serial number, the CPU's serial number. Changes with the main board (or the virtual machine's
///   identity), and when the agent no longer runs as root, who alone may read most of them.
/// - `nic`: addresses of network adapters that are soldered or plugged into the board; USB adapters do not count.
///   Changes when such a card is added or taken out.
/// - `machine`: the machine id. Changes when the system is installed anew, and not when a disk is cloned.
/// - `none`: nothing to go by; a clone is not noticed.
///
/// A container sees the hardware of its host: one that is moved to another host with its outbox starts a new epoch there.
pub fn fingerprint(root: &HostRoot) -> String {
    let serials = board_identity(root);
    if !serials.is_empty() {
        return format!("dmi-{}", hash(serials.join("\n").as_bytes()));
    }
    let macs = fixed_macs(root);
    if !macs.is_empty() {
        return format!("nic-{}", hash(macs.join("\n").as_bytes()));
    }
    machine_id(root)
        .map_or_else(|| "none".to_owned(), |id| format!("machine-{}", keyed(&id, b"holdover fingerprint 1")))
}

/// The kernel's id of this boot. Without one, a new id at every call: better a boot too many than two taken for one.
pub fn boot_id(root: &HostRoot) -> String {
    let id = root.line("proc/sys/kernel/random/boot_id").map(|id| id.to_ascii_lowercase());
    id.filter(|id| is_uuid(id)).unwrap_or_else(|| random(root))
}

/// Operating system and hardware for `meta`, in OpenTelemetry's resource attributes; what is not known is left out.
/// The kernel and the hardware are those that we run on; the names of system and host are in files of the host root.
pub fn inventory(root: &HostRoot) -> BTreeMap<String, String> {
    let refresh =
        RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()).with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(refresh).ok();
    let cpus = system.as_ref().map_or(&[][..], System::cpus);
    let live = root.is_live();
    let some = |text: String| Some(text).filter(|text| !text.trim().is_empty());
    let facts = [
        ("os.type", some(std::env::consts::OS.to_owned())),
        ("os.name", if live { System::name().ok().and_then(some) } else { os_release(root, "NAME") }),
        ("os.version", if live { System::os_version().ok().and_then(some) } else { os_release(root, "VERSION_ID") }),
        ("os.kernel", System::kernel_version().ok().and_then(some)),
        ("host.name", if live { System::host_name().ok().and_then(some) } else { root.line("etc/hostname") }),
        ("host.arch", some(System::cpu_arch())),
        ("host.model", model(root)),
        ("host.cpu.model.name", cpus.first().and_then(|cpu| some(cpu.brand().to_owned()))),
        ("host.cpu.logical_count", Some(cpus.len()).filter(|&n| n > 0).map(|n| n.to_string())),
        ("host.cpu.physical_count", System::physical_core_count().ok().map(|n| n.to_string())),
        ("host.memory", system.as_ref().map(System::total_memory).filter(|&n| n > 0).map(|n| n.to_string())),
    ];
    facts.into_iter().filter_map(|(key, fact)| Some((key.to_owned(), one_line(&fact?)))).collect()
}

/// `NAME="Debian GNU/Linux"`.
fn os_release(root: &HostRoot, key: &str) -> Option<String> {
    let text = ["etc/os-release", "usr/lib/os-release"].iter().find_map(|path| root.read(path).ok())?;
    let text = String::from_utf8_lossy(&text);
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?.trim();
    let value = value.trim_matches(|quote| quote == '"' || quote == '\'');
    (!value.is_empty()).then(|| value.to_owned())
}

fn model(root: &HostRoot) -> Option<String> {
    root.line("sys/firmware/devicetree/base/model").or_else(|| root.line("sys/class/dmi/id/product_name"))
}

/// Device tree strings end with NUL; nothing in `meta` needs control characters.
fn one_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect::<String>().trim().to_owned()
}

fn dmi_uuid(root: &HostRoot) -> Option<String> {
    let uuid = root.line("sys/class/dmi/id/product_uuid")?.to_ascii_lowercase();
    (is_uuid(&uuid) && !SHARED_UUIDS.contains(&uuid.as_str())).then_some(uuid)
}

fn is_uuid(text: &str) -> bool {
    let bytes = text.as_bytes();
    let dash = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, b)| if dash(at) { *b == b'-' } else { b.is_ascii_hexdigit() })
}

/// 32 hex digits; a fresh image has `uninitialized` or nothing.
fn machine_id(root: &HostRoot) -> Option<String> {
    let paths = ["etc/machine-id", "var/lib/dbus/machine-id"];
    let id = paths.iter().find_map(|path| root.line(path))?.to_ascii_lowercase();
    let valid = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) && id.bytes().any(|b| b != b'0');
    valid.then_some(id)
}

fn board_identity(root: &HostRoot) -> Vec<String> {
    let serial = |path: &str| root.line(path).map(|s| one_line(&s)).filter(|s| is_serial(s));
    let found = [
        ("uuid", dmi_uuid(root)),
        ("board", serial("sys/class/dmi/id/board_serial")),
        ("tree", serial("sys/firmware/devicetree/base/serial-number")),
        ("cpu", cpu_serial(root)),
    ];
    found.into_iter().filter_map(|(what, id)| Some(format!("{what}={}", id?))).collect()
}

fn is_serial(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let first = lower.bytes().next();
    text.len() >= 4 && !SHARED_SERIALS.contains(&lower.as_str()) && lower.bytes().any(|b| Some(b) != first)
}

/// `Serial : 10000000abcdef01`, on ARM boards.
fn cpu_serial(root: &HostRoot) -> Option<String> {
    let text = root.read("proc/cpuinfo").ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().find(|line| line.starts_with("Serial"))?;
    let serial = one_line(line.split_once(':')?.1);
    is_serial(&serial).then_some(serial)
}

/// Addresses given by their makers to adapters on the board's own buses, in order.
fn fixed_macs(root: &HostRoot) -> Vec<String> {
    let class = root.path("sys/class/net");
    let Ok(entries) = std::fs::read_dir(&class) else { return Vec::new() };
    let mut macs: Vec<String> = entries
        .flatten()
        .take(256)
        .filter_map(|entry| {
            let name = entry.file_name();
            let rel = format!("sys/class/net/{}", name.to_str()?);
            let bus = std::fs::read_link(class.join(&name).join("device/subsystem")).ok()?;
            let permanent = root.line(&format!("{rel}/addr_assign_type")).is_none_or(|kind| kind == "0");
            let mac = root.line(&format!("{rel}/address"))?.to_ascii_lowercase();
            let real = mac.len() == 17 && mac.bytes().any(|b| b.is_ascii_hexdigit() && b != b'0');
            (real && permanent && !bus.ends_with("usb")).then_some(mac)
        })
        .collect();
    macs.sort();
    macs
}

fn mint(root: &HostRoot) -> String {
    format!("host-{}", random(root).replace('-', "").get(..16).unwrap_or_default())
}

/// A random UUID's worth of hex digits.
fn random(root: &HostRoot) -> String {
    let mut bytes = [0u8; 16];
    if rand::SecureRandom::fill(&rand::SystemRandom::new(), &mut bytes).is_err()
        && let Some(uuid) = root.line("proc/sys/kernel/random/uuid")
    {
        return uuid;
    }
    hex(&bytes)
}

/// 32 hex digits of SHA-256.
fn hash(bytes: &[u8]) -> String {
    hex(&digest::digest(&digest::SHA256, bytes).as_ref()[..16])
}

/// 32 hex digits of HMAC-SHA256 keyed with the machine id, as systemd derives ids for applications.
fn keyed(machine_id: &str, purpose: &[u8]) -> String {
    hex(&hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, machine_id.as_bytes()), purpose).as_ref()[..16])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
