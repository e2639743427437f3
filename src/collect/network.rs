//! Network interfaces: totals since boot from `/proc/net/dev`, and whether the link is up from `operstate`.
//!
//! `lo` and the host's ends of containers' virtual cables (`veth*`) are left out, unless named.

use std::collections::BTreeMap;

use super::text::{self, words};
use super::{
    Collector, CollectorSpec, Context, HostRoot, MetricSpec, ParamError, ParamKind, ParamSpec, Params, Points, ProcFile,
};
use crate::record::{ErrorKind, RunError};

pub const SPEC: CollectorSpec = CollectorSpec {
    name: "network",
    about: "bytes, packets, errors and drops, one record per network interface",
    default_schedule: "10s",
    default_on: true,
    params: &[INTERFACES],
    metrics: METRICS,
    build,
};

/// Which ones, as [`wants`] reads it.
pub(super) const INTERFACES: ParamSpec = ParamSpec {
    name: "interfaces",
    kind: ParamKind::List,
    about: "only these interfaces; a `*` at the end stands for any rest",
    default: "[]",
};

const NAME: &str = "system.network";
const SKIPPED: &[&str] = &["lo", "veth*"];

const METRICS: &[MetricSpec] = &[
    MetricSpec::counter(NAME, "io_receive", "By")
        .is("system.network.io{network.io.direction=receive}", "bytes received since boot"),
    MetricSpec::counter(NAME, "io_transmit", "By")
        .is("system.network.io{network.io.direction=transmit}", "bytes sent since boot"),
    MetricSpec::counter(NAME, "packets_receive", "{packet}")
        .is("system.network.packet.count{network.io.direction=receive}", "packets received since boot"),
    MetricSpec::counter(NAME, "packets_transmit", "{packet}")
        .is("system.network.packet.count{network.io.direction=transmit}", "packets sent since boot"),
    MetricSpec::counter(NAME, "errors_receive", "{error}")
        .is("system.network.errors{network.io.direction=receive}", "packets received wrong since boot"),
    MetricSpec::counter(NAME, "errors_transmit", "{error}")
        .is("system.network.errors{network.io.direction=transmit}", "packets that could not be sent since boot"),
    MetricSpec::counter(NAME, "dropped_receive", "{packet}").is(
        "system.network.packet.dropped{network.io.direction=receive}",
        "packets received and thrown away since boot",
    ),
    MetricSpec::counter(NAME, "dropped_transmit", "{packet}").is(
        "system.network.packet.dropped{network.io.direction=transmit}",
        "packets thrown away before sending since boot",
    ),
    MetricSpec::gauge(NAME, "up", "1")
        .ours("whether the link is up; absent where the driver does not know (tunnels, PPP)"),
];

/// Columns of `/proc/net/dev`, with their fields.
const COLUMNS: [(usize, &str); 8] = [
    (0, "io_receive"),
    (1, "packets_receive"),
    (2, "errors_receive"),
    (3, "dropped_receive"),
    (8, "io_transmit"),
    (9, "packets_transmit"),
    (10, "errors_transmit"),
    (11, "dropped_transmit"),
];

struct Network {
    file: Option<ProcFile>,
    only: Vec<String>,
    /// Held open per interface; those of interfaces that went away are closed.
    operstate: BTreeMap<Vec<u8>, ProcFile>,
}

fn build(params: &Params) -> Result<Box<dyn Collector>, ParamError> {
    Ok(Box::new(Network { file: None, only: params.list("interfaces").to_vec(), operstate: BTreeMap::new() }))
}

impl Collector for Network {
    fn collect(&mut self, ctx: &Context<'_>, out: &mut Points) -> Result<(), RunError> {
        let rel = ctx.host.namespace("net/dev");
        let file = match &mut self.file {
            Some(file) if file.rel() == rel => file,
            slot => slot.insert(ProcFile::new(rel.clone())),
        };
        let text = file.read(ctx.host)?;
        let mut operstate = std::mem::take(&mut self.operstate);
        let mut any = false;
        for (name, columns) in text::lines(text).skip(2).filter_map(parse) {
            any = true;
            if !wants(&self.only, name) {
                continue;
            }
            let mut draft = out.add(NAME).tag("interface", text::name(name));
            for (column, field) in COLUMNS {
                draft = draft.uint(field, columns[column]);
            }
            let mut state = operstate.remove(name).unwrap_or_else(|| ProcFile::new(operstate_of(name)));
            draft.bool("up", link_up(&mut state, ctx.host));
            self.operstate.insert(name.to_vec(), state);
        }
        if !any {
            return Err(text::malformed(&rel, "at least one interface", text));
        }
        self.missing(out);
        Ok(())
    }
}

impl Network {
    /// An interface that was asked for by its full name and is not there.
    fn missing(&self, out: &mut Points) {
        let named = self.only.iter().map(String::as_bytes).filter(|name| !name.ends_with(b"*"));
        for name in named.filter(|name| !self.operstate.contains_key(*name)) {
            let message = format!("there is no network interface {}", text::excerpt(name));
            out.fail(NAME, RunError::new(ErrorKind::Unsupported, message)).tag("interface", text::name(name));
        }
    }
}

pub(super) fn wants(only: &[String], name: &[u8]) -> bool {
    if only.is_empty() {
        !SKIPPED.iter().any(|pattern| text::matches(pattern.as_bytes(), name))
    } else {
        only.iter().any(|pattern| text::matches(pattern.as_bytes(), name))
    }
}

/// `  eth0: 89413554    4946    0    0    0     0          0         0   341965    3001 ...`
fn parse(line: &[u8]) -> Option<(&[u8], [Option<u64>; 16])> {
    let colon = line.iter().position(|&b| b == b':')?;
    let name = line[..colon].trim_ascii();
    let mut columns = [None; 16];
    let mut found = 0;
    for (column, word) in columns.iter_mut().zip(words(&line[colon + 1..])) {
        *column = text::uint(word);
        found += 1;
    }
    (!name.is_empty() && found == columns.len()).then_some((name, columns))
}

/// The name comes from the kernel, which allows neither `/` nor white space in it.
fn operstate_of(name: &[u8]) -> String {
    format!("sys/class/net/{}/operstate", String::from_utf8_lossy(name))
}

fn link_up(state: &mut ProcFile, host: &HostRoot) -> Option<bool> {
    match state.read(host).ok()?.trim_ascii() {
        b"up" => Some(true),
        b"down" | b"lowerlayerdown" | b"notpresent" | b"dormant" | b"testing" => Some(false),
        _ => None,
    }
}
