//! File descriptors of the whole host from `/proc/sys/fs/file-nr`.

use super::text::{self, words};
use super::{Collector, CollectorSpec, Context, MetricSpec, ParamError, Params, Points, ProcFile};
use crate::record::{MAX_INT, RunError};

pub const SPEC: CollectorSpec = CollectorSpec {
    name: "files",
    about: "open files of the whole host, and how many there may be",
    default_schedule: "60s",
    default_on: true,
    params: &[],
    metrics: METRICS,
    build,
};

const NAME: &str = "system.files";
const FILE: &str = "proc/sys/fs/file-nr";

const METRICS: &[MetricSpec] = &[
    MetricSpec::updown(NAME, "open", "{file}").ours("open files of all processes"),
    MetricSpec::updown(NAME, "limit", "{file}")
        .ours("how many there may be (fs.file-max); absent where it is no limit"),
    MetricSpec::gauge(NAME, "utilization", "1").ours("open / limit"),
];

struct Files {
    file: ProcFile,
}

fn build(_: &Params) -> Result<Box<dyn Collector>, ParamError> {
    Ok(Box::new(Files { file: ProcFile::new(FILE) }))
}

impl Collector for Files {
    /// `592 0 2466170`: allocated, of them unused (0 since Linux 2.6), the most.
    fn collect(&mut self, ctx: &Context<'_>, out: &mut Points) -> Result<(), RunError> {
        let text = self.file.read(ctx.host)?;
        let mut numbers = words(text).map(text::uint);
        let mut next = || numbers.next().flatten();
        let (Some(allocated), Some(unused), Some(limit)) = (next(), next(), next()) else {
            return Err(text::malformed(FILE, "three numbers", text::lines(text).next().unwrap_or_default()));
        };
        let open = allocated.saturating_sub(unused);
        // systemd sets the largest number that the kernel takes, which is no limit.
        let limit = Some(limit).filter(|&n| n < MAX_INT as u64);
        let draft = out.add(NAME).uint("open", open).uint("limit", limit);
        if let Some(limit) = limit {
            draft.ratio("utilization", open as f64, limit as f64);
        }
        Ok(())
    }
}
