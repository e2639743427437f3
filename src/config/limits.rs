//! The agent's own limits, keys of `[agent]`: see docs/limits.md.

use std::sync::Arc;

use super::reader::{Reader, Section};
use super::{Agent, Collector, Limits, Rate, Uplink, nearest};
use crate::collect;
use crate::uplink::Pace;

/// Percent of a core, unless given: a multiple of what any host was seen to need at the default pace of history.
const MAX_CPU: u32 = 50;

pub(super) fn check(section: &mut Section, uplink: Option<&Uplink>, reader: &mut Reader<'_>) -> Option<Limits> {
    let max_memory = reader.size(section, "max_memory");
    let given = reader.given(section, "max_cpu");
    let max_cpu = reader.int(section, "max_cpu").and_then(|percent| u32::try_from(percent).ok());
    let max_cpu = max_cpu.unwrap_or_else(|| {
        let percent = default_max_cpu(uplink);
        if !given {
            reader.derive("agent.max_cpu", percent.to_string());
        }
        percent
    });
    let window = reader.duration(section, "limits_window");
    let shed = reader.texts(section, "shed").unwrap_or_default();
    if shed.iter().any(|name| name == collect::OWN) {
        let hint = "leave it out: it tells how the agent fares";
        reader.error("agent.shed", format!("{:?} is always kept", collect::OWN), hint);
    }
    Some(Limits { max_memory: max_memory?, max_cpu, window: window?, shed })
}

/// Who lets history go faster wants the CPU time used that it takes.
fn default_max_cpu(uplink: Option<&Uplink>) -> u32 {
    let faster = |uplink: &Uplink| match uplink.history_rate {
        Rate::Unlimited => true,
        Rate::Bytes(bytes) => bytes > u64::from(Pace::default().bytes_per_s),
    };
    if uplink.is_some_and(faster) { 0 } else { MAX_CPU }
}

/// A collector may be withdrawn or not be there yet: no reason not to start.
pub(super) fn warn_unknown(agent: Option<&Agent>, on: &[Collector], off: &[Arc<str>], reader: &mut Reader<'_>) {
    let known: Vec<&str> = on.iter().map(|c| &*c.name).chain(off.iter().map(|name| &**name)).collect();
    for name in agent.iter().flat_map(|agent| &agent.limits.shed).filter(|name| !known.contains(&name.as_str())) {
        let hint = match nearest(name, &known) {
            Some(close) => format!("did you mean {close:?}?"),
            None => format!("the collectors are {}", known.join(", ")),
        };
        reader.warn("agent.shed", format!("no collector is called {name:?}"), &hint);
    }
}
