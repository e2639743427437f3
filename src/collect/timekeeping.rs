//! Whether the wall clock is right, as far as the local time service tells: see [`clock::synced`](crate::clock::synced).
//!
//! chronyd also tells by how much; systemd-timesyncd leaves a file that says that it has synchronised, no more.

use super::{Collector, CollectorSpec, Context, MetricSpec, ParamError, Params, Points};
use crate::clock::{self, Tracking};
use crate::record::RunError;

pub const SPEC: CollectorSpec = CollectorSpec {
    name: "clock",
    about: "whether the wall clock is synchronised, and how far off chronyd believes it to be",
    default_schedule: "60s",
    default_on: true,
    params: &[],
    metrics: METRICS,
    build,
};

const NAME: &str = "system.clock";

const METRICS: &[MetricSpec] = &[
    MetricSpec::gauge(NAME, "synchronized", "1")
        .ours("whether systemd-timesyncd or chronyd has set it; false when neither runs here"),
    MetricSpec::gauge(NAME, "offset", "s")
        .ours("true time less ours, as chronyd estimates it; negative when ours is ahead"),
    MetricSpec::gauge(NAME, "error", "s")
        .ours("the most that the clock is off besides: root dispersion + half of the root delay"),
    MetricSpec::gauge(NAME, "stratum", "1").ours("servers between this clock and a reference clock, itself included"),
];

struct Timekeeping;

fn build(_: &Params) -> Result<Box<dyn Collector>, ParamError> {
    Ok(Box::new(Timekeeping))
}

impl Collector for Timekeeping {
    fn collect(&mut self, ctx: &Context<'_>, out: &mut Points) -> Result<(), RunError> {
        // A daemon that can be asked is that of the machine that we run on.
        let tracking = if ctx.host.is_live() { clock::tracking() } else { None };
        let file = ctx.host.path(clock::TIMESYNCD_FILE).exists();
        fill(out, file, tracking.as_ref());
        Ok(())
    }
}

fn fill(out: &mut Points, timesyncd: bool, chronyd: Option<&Tracking>) {
    let synchronized = timesyncd || chronyd.is_some_and(|t| t.synchronized);
    let draft = out.add(NAME).bool("synchronized", synchronized);
    if let Some(tracking) = chronyd.filter(|t| t.synchronized) {
        let stratum = u64::from(tracking.stratum);
        draft.float("offset", tracking.offset).float("error", tracking.error).uint("stratum", stratum);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Now;
    use crate::record::Value;

    fn fields(timesyncd: bool, chronyd: Option<Tracking>) -> Vec<(String, Value)> {
        let mut out = Points::new(&Now { mono: Duration::ZERO, boot: Duration::ZERO, wall_ms: 0 });
        fill(&mut out, timesyncd, chronyd.as_ref());
        out.finish(NAME).remove(0).fields.into_iter().map(|(field, value)| (field.into_owned(), value)).collect()
    }

    #[test]
    fn an_offset_is_told_only_by_a_chronyd_that_has_synchronised() {
        let tracking = Tracking { synchronized: true, offset: -0.25, error: 0.5, stratum: 3 };
        let all = fields(false, Some(tracking));
        let names: Vec<_> = all.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(names, ["error", "offset", "stratum", "synchronized"]);
        assert_eq!((&all[1].1, &all[3].1), (&Value::Float(-0.25), &Value::Bool(true)));
        let lost = Tracking { synchronized: false, ..tracking };
        assert_eq!(fields(false, Some(lost)), [("synchronized".to_owned(), Value::Bool(false))]);
        assert_eq!(fields(true, None), [("synchronized".to_owned(), Value::Bool(true))]);
        assert_eq!(fields(false, None), [("synchronized".to_owned(), Value::Bool(false))]);
    }
}
