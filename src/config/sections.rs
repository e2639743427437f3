//! `[host]`, `[outbox]`, `[uplink]`, `[log]`, `[agent]`: from keys to checked values, and what must fit across sections.

use std::path::Path;
use std::sync::Arc;

use super::problem::Origin;
use super::reader::{Reader, Section, quote};
use crate::collect::exec::cgroup::Place;
use crate::uplink::Level;

use super::{Agent, Collector, Drop, Host, Log, LogFormat, MAX_NAME, Outbox, Rate, Uplink, keys, limits, units};

/// Topics stay below this, see the wire contract.
const MAX_TOPIC: usize = 200;
const MIB: u64 = 1 << 20;

pub(super) fn host(mut section: Section, reader: &mut Reader<'_>) -> Option<Host> {
    let id = reader.text(&mut section, "id");
    let site = reader.text(&mut section, "site");
    let prefix = reader.text(&mut section, "prefix").unwrap_or_default();
    let root = reader.path(&mut section, "root");
    reader.finish(section);
    let site = site?;
    if site.starts_with('_') {
        reader.error("host.site", format!("{site:?} starts with '_', which is reserved"), "drop the underscore");
    }
    check_prefix(&prefix, reader);
    let root = root?;
    check_root(&root, reader);
    Some(Host { id, site, prefix: prefix.trim_matches('/').to_owned(), root })
}

/// A mount that is missing would show an empty host instead of the one that was meant.
fn check_root(root: &Path, reader: &mut Reader<'_>) {
    if root != Path::new("/") && !root.join("proc/stat").exists() {
        let message = format!("{} is not the root directory of a host: it has no proc/stat", root.display());
        reader.error("host.root", message, "mount the host's / there: docker run -v /:/host:ro,rslave");
    }
}

fn check_prefix(prefix: &str, reader: &mut Reader<'_>) {
    let levels: Vec<&str> = prefix.trim_matches('/').split('/').collect();
    if prefix.is_empty() {
        return;
    }
    let allowed =
        |level: &&str| !level.is_empty() && level.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if levels.len() > 3 {
        reader.error(
            "host.prefix",
            format!("{prefix:?} has {} levels, at most 3 are allowed", levels.len()),
            "shorten it",
        );
    } else if !levels.iter().all(allowed) {
        let message = format!("{prefix:?} may hold only letters, digits, '_' and '-' between its slashes");
        reader.error("host.prefix", message, "dots and wildcards break other brokers and subscribers");
    } else if levels[0].starts_with('_') {
        reader.error("host.prefix", format!("{prefix:?} starts with '_', which is reserved"), "drop the underscore");
    }
}

/// The longest topic that this configuration makes.
pub(super) fn topics(host: Option<&Host>, collectors: &[Collector], reader: &mut Reader<'_>) {
    let Some(host) = host else { return };
    let id = host.id.as_ref().map_or(MAX_NAME, String::len);
    let longest = collectors.iter().map(|collector| collector.name.len()).max().unwrap_or(0);
    let length = host.prefix.len() + "/v1/".len() + host.site.len() + 1 + id + "/m/".len() + longest;
    if length > MAX_TOPIC {
        let message = format!("topics would have up to {length} characters, at most {MAX_TOPIC} are allowed");
        reader.error("host.prefix", message, "shorten prefix, site or collector names");
    }
}

pub(super) fn outbox(mut section: Section, reader: &mut Reader<'_>) -> Option<Outbox> {
    let state = reader.around.directory("STATE_DIRECTORY").filter(|_| !reader.given(&section, "dir"));
    let configured = reader.path(&mut section, "dir");
    let max_bytes = reader.size(&mut section, "max_bytes");
    let max_age = reader.duration(&mut section, "max_age");
    let drop = reader.text(&mut section, "drop");
    let commit_window = reader.duration(&mut section, "commit_window");
    reader.finish(section);
    let dir = match state {
        Some(state) => {
            if let Some(setting) = reader.settings.iter_mut().find(|setting| setting.path == "outbox.dir") {
                setting.shown = quote(&state.to_string_lossy());
                setting.origin = Origin::Env(Arc::from("STATE_DIRECTORY"));
            }
            state
        }
        None => configured?,
    };
    let max_bytes = max_bytes.unwrap_or_else(|| {
        let bytes = default_max_bytes((reader.around.file_system_bytes)(&dir));
        reader.derive("outbox.max_bytes", quote(&units::size(bytes)));
        bytes
    });
    let drop = if drop? == "oldest" { Drop::Oldest } else { Drop::Newest };
    Some(Outbox { dir, max_bytes, max_age, drop, commit_window: commit_window? })
}

/// 256 MiB or a tenth of the file system, whichever is less, at least 16 MiB; in whole MiB.
fn default_max_bytes(file_system: Option<u64>) -> u64 {
    file_system.map_or(256 * MIB, |total| (total / 10 / MIB * MIB).clamp(16 * MIB, 256 * MIB))
}

pub(super) fn uplink(mut section: Section, reader: &mut Reader<'_>) -> Option<Uplink> {
    let level = reader.text(&mut section, "level");
    let history_rate = reader.rate(&mut section, "history_rate");
    let idle_batches = history_rate == Some(Rate::Unlimited) && reader.given(&section, "history_batches");
    let history_batches = reader.int(&mut section, "history_batches");
    let in_flight = reader.int(&mut section, "in_flight");
    let in_flight_bytes = reader.size(&mut section, "in_flight_bytes");
    let max_packet = reader.size(&mut section, "max_packet");
    let reconnect_min = reader.duration(&mut section, "reconnect_min");
    let reconnect_max = reader.duration(&mut section, "reconnect_max");
    reader.finish(section);
    let level = match level?.as_str() {
        "broker" => Level::Broker,
        "hub" => Level::Hub,
        _ => Level::Auto,
    };
    let uplink = Uplink {
        level,
        history_rate: history_rate?,
        history_batches: u32::try_from(history_batches?).ok()?,
        in_flight: u16::try_from(in_flight?).ok()?,
        in_flight_bytes: in_flight_bytes?,
        max_packet: max_packet?,
        reconnect_min: reconnect_min?,
        reconnect_max: reconnect_max?,
    };
    if idle_batches {
        let message = format!("it does not count beside history_rate = {:?}", keys::UNLIMITED);
        reader.warn("uplink.history_batches", message, "leave it out, or give history_rate a number");
    }
    if uplink.reconnect_min > uplink.reconnect_max {
        reader.error("uplink.reconnect_min", "it is longer than reconnect_max", "make it the shorter of the two");
    }
    Some(uplink)
}

pub(super) fn log(mut section: Section, reader: &mut Reader<'_>) -> Option<Log> {
    let level = reader.text(&mut section, "level");
    let format = reader.text(&mut section, "format");
    reader.finish(section);
    let format = match format?.as_str() {
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
        _ => LogFormat::Auto,
    };
    Some(Log { level: level?, format })
}

pub(super) fn agent(mut section: Section, uplink: Option<&Uplink>, reader: &mut Reader<'_>) -> Option<Agent> {
    // Used before: here only their types are checked.
    reader.path(&mut section, "conf_d");
    reader.bool(&mut section, "check_owner");
    let default_collectors = reader.bool(&mut section, "default_collectors");
    let stop_timeout = reader.duration(&mut section, "stop_timeout");
    let cgroup = reader.text(&mut section, "cgroup").and_then(|place| groups(&place, reader));
    let limits = limits::check(&mut section, uplink, reader);
    reader.finish(section);
    Some(Agent {
        default_collectors: default_collectors?,
        stop_timeout: stop_timeout?,
        cgroup: cgroup?,
        limits: limits?,
    })
}

fn groups(place: &str, reader: &mut Reader<'_>) -> Option<Place> {
    match place {
        "auto" => Some(Place::Auto),
        "off" => Some(Place::Off),
        dir if dir.starts_with('/') => Some(Place::At(dir.into())),
        other => {
            let hint = "write \"auto\", \"off\", or a directory such as \"/sys/fs/cgroup/holdover\"";
            reader.error("agent.cgroup", format!("{other:?} is no place for control groups"), hint);
            None
        }
    }
}
