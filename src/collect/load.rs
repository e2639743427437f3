//! Load averages and runnable tasks from `/proc/loadavg`, and the time since boot from `/proc/uptime`.

use super::text::{self, words};
use super::{Collector, CollectorSpec, Context, MetricSpec, ParamError, Params, Points, ProcFile};
use crate::record::RunError;

pub const SPEC: CollectorSpec = CollectorSpec {
    name: "load",
    about: "load averages, runnable tasks, uptime",
    default_schedule: "10s",
    default_on: true,
    params: &[],
    metrics: METRICS,
    build,
};

const NAME: &str = "system.load";

const METRICS: &[MetricSpec] = &[
    MetricSpec::gauge(NAME, "load_1m", "{thread}").ours("tasks runnable or in uninterruptible sleep, mean of 1 minute"),
    MetricSpec::gauge(NAME, "load_5m", "{thread}").ours("as load_1m, of 5 minutes"),
    MetricSpec::gauge(NAME, "load_15m", "{thread}").ours("as load_1m, of 15 minutes"),
    MetricSpec::updown(NAME, "running", "{thread}").ours("threads runnable now, this agent's own included"),
    MetricSpec::updown(NAME, "threads", "{thread}").ours("threads that exist"),
    MetricSpec::gauge(NAME, "uptime", "s").is("system.uptime", "seconds since boot, suspend included"),
];

struct Load {
    loadavg: ProcFile,
    uptime: ProcFile,
}

fn build(_: &Params) -> Result<Box<dyn Collector>, ParamError> {
    Ok(Box::new(Load { loadavg: ProcFile::new("proc/loadavg"), uptime: ProcFile::new("proc/uptime") }))
}

impl Collector for Load {
    /// `0.32 0.33 0.32 3/140 13652` and `960.12 1759.28`.
    fn collect(&mut self, ctx: &Context<'_>, out: &mut Points) -> Result<(), RunError> {
        let uptime = self.uptime.read(ctx.host).ok().and_then(|text| words(text).next().and_then(text::float));
        let text = self.loadavg.read(ctx.host);
        let mut draft = out.add(NAME).float("uptime", uptime.filter(|&s| s >= 0.0));
        let text = text?;
        let mut words = words(text);
        let mut load = || words.next().and_then(text::float).filter(|&x| x >= 0.0);
        let (Some(one), Some(five), Some(fifteen)) = (load(), load(), load()) else {
            return Err(text::malformed("proc/loadavg", "three numbers", text::lines(text).next().unwrap_or_default()));
        };
        draft = draft.float("load_1m", one).float("load_5m", five).float("load_15m", fifteen);
        let tasks = words.next().unwrap_or_default();
        let mut tasks = tasks.split(|&b| b == b'/').map(text::uint);
        draft.uint("running", tasks.next().flatten()).uint("threads", tasks.next().flatten());
        Ok(())
    }
}
