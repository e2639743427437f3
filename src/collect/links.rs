//! What changes rarely about network interfaces: the speed of the link and how often it came and went, from `/sys`.
//!
//! The same interfaces as `network` by default. Those without a link of their own (bridges, tunnels) are left out.

use super::network::{INTERFACES, wants};
use super::text;
use super::{Collector, CollectorSpec, Context, HostRoot, MetricSpec, ParamError, Params, Points};
use crate::record::{ErrorKind, RunError};

pub const SPEC: CollectorSpec = CollectorSpec {
    name: "links",
    about: "speed and changes of the link, one record per network interface",
    default_schedule: "60s",
    default_on: true,
    params: &[INTERFACES],
    metrics: METRICS,
    build,
};

const NAME: &str = "system.network.link";
const DIR: &str = "sys/class/net";
/// As many as anyone looks at; a host of containers has thousands.
const MAX_LINKS: usize = 128;

const METRICS: &[MetricSpec] = &[
    MetricSpec::updown(NAME, "speed", "By/s")
        .is("hw.network.bandwidth.limit", "what the link carries one way; absent while it is down, and on most radios"),
    MetricSpec::counter(NAME, "carrier_changes", "{change}").ours("how often the link came or went since boot"),
];

struct Links {
    only: Vec<String>,
}

fn build(params: &Params) -> Result<Box<dyn Collector>, ParamError> {
    Ok(Box::new(Links { only: params.list("interfaces").to_vec() }))
}

impl Collector for Links {
    fn collect(&mut self, ctx: &Context<'_>, out: &mut Points) -> Result<(), RunError> {
        let names = ctx.host.entries(DIR);
        if names.is_empty() {
            return Err(RunError::new(ErrorKind::Unsupported, format!("there is no network interface in /{DIR}")));
        }
        let wanted = names.iter().filter(|name| wants(&self.only, name.as_bytes()));
        for name in wanted.take(MAX_LINKS) {
            let number = |file: &str| read(ctx.host, name, file);
            // Megabits; drivers say -1, 0 or 2^32-1 for "unknown".
            let speed = number("speed").filter(|&n| n > 0 && n < u64::from(u32::MAX)).map(|n| n * 125_000);
            let draft = out.add(NAME).uint("speed", speed).uint("carrier_changes", number("carrier_changes"));
            draft.tag("interface", text::name(name.as_bytes()));
        }
        Ok(())
    }
}

/// Not held open: a driver refuses to read the speed of a link that is down.
fn read(host: &HostRoot, name: &str, file: &str) -> Option<u64> {
    text::uint(host.read(&format!("{DIR}/{name}/{file}")).ok()?.trim_ascii())
}
