//! The formats of which every line is a record by itself, read line by line: what applications put, where each line that
//! is refused is told.

use serde::{Deserialize, Serialize};

use super::reading::{self, Defaults, admit};
use super::{influx, ndjson};
use crate::clock::Now;
use crate::collect::text;
use crate::record::{Point, Tags};

/// Of why a line is refused, which may quote it.
const MAX_REASON: usize = 300;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Lines {
    /// A line that begins with `{` is NDJSON, any other Influx line protocol.
    #[default]
    Auto,
    Ndjson,
    Influx,
}

impl Lines {
    pub const NAMES: [&'static str; 3] = ["auto", "ndjson", "influx"];

    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().position(|known| *known == name).map(|at| [Self::Auto, Self::Ndjson, Self::Influx][at])
    }

    /// The record of a line, under the same limits as a script's; `None` for an empty one and a `#` comment. It is the
    /// collector's and of now unless it says so itself; of two tags of one name its own counts.
    pub fn read(self, line: &[u8], collector: &str, tags: &Tags, now: &Now) -> Result<Option<Point>, String> {
        let defaults = Defaults { name: collector, ts: now.wall_ms, mono: now.boot_ms() };
        self.point(line, &defaults, tags).map_err(|reason| text::clean(reason.as_bytes(), MAX_REASON))
    }

    fn point(self, line: &[u8], defaults: &Defaults<'_>, tags: &Tags) -> Result<Option<Point>, String> {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            return Ok(None);
        }
        let text = reading::utf8(line)?;
        let json = self == Self::Ndjson || self == Self::Auto && text.starts_with('{');
        let parse = if json { ndjson::parse_line } else { influx::parse_line };
        let mut point = parse(text, defaults)?;
        for (name, value) in tags {
            point.tags.entry(name.clone()).or_insert_with(|| value.clone());
        }
        admit(&mut point)?;
        defaults.place(&mut point);
        Ok(Some(point))
    }
}
