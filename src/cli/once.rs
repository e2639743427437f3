//! `holdover once`: runs collectors here and now; nothing is stored and nothing is sent.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::args::OnceArgs;
use super::exit::{Exit, Failure};
use super::{load, output};
use crate::agent::{self, Identity, Source};
use crate::clock;
use crate::collect::{AgentFigures, Context, HostRoot, exec};
use crate::config::Config;
use crate::record::{Point, Record};
use crate::wire::encode_record;

/// Between the two passes that ratios need.
const PAUSE: Duration = Duration::from_millis(250);
/// What a script's run is taken to be in `check-config`, which does not run scripts: encoded bytes.
const SCRIPT_BYTES: usize = 200;
/// What a stored value (a run, or 16 KiB of one) takes beside its records, in bytes: header, clock context, key.
/// With [`STORED_FACTOR`] measured on 50 sealed segments of an agent without a broker, in which runs of 157 encoded
/// bytes took 288 bytes of disk, runs of 395 took 556 and the default set 354 for 240 a record (1 MiB segments; in
/// those of 8 MiB it was 333, so the estimate errs on the careful side).
const STORED_PER_VALUE: usize = 100;
/// Disk for each byte of such values: half-filled pages, the tree above them, what a segment leaves unused.
const STORED_FACTOR: f64 = 1.13;
/// At most so many bytes of records are in one value.
const VALUE_BYTES: usize = 16 << 10;

pub fn run(args: &OnceArgs) -> Result<Exit, Failure> {
    let checked = load::guarded(&args.config)?;
    let root = load::root(&checked.config);
    let identity = agent::identify(&checked.config, &root);
    let mut sources = build(&checked.config, agent::script_groups(&checked.config).as_deref())?;
    for name in &args.collectors {
        if !sources.iter().any(|(known, _)| **known == **name) {
            let known: Vec<&str> = sources.iter().map(|(name, _)| &**name).collect();
            return Err(Failure::new(Exit::Usage, format!("no collector {name}; configured are {}", known.join(", "))));
        }
    }
    sources.retain(|(name, _)| args.collectors.is_empty() || args.collectors.iter().any(|wanted| **wanted == **name));
    let runs = runtime()?.block_on(twice(&mut sources, &identity.host.id, &root));
    // What this host lacks by nature is a failure only to those who asked for it.
    let lacks = |points: &[Point]| args.collectors.is_empty() && agent::absence(points).is_some();
    let mut failed = false;
    let mut out = output::stdout();
    for (collector, points) in runs {
        let lacks = lacks(&points);
        for point in points {
            failed |= point.error.is_some() && !lacks;
            writeln!(out, "{}", line(point, &collector))?;
        }
    }
    out.flush()?;
    Ok(if failed { Exit::Failed } else { Exit::Ok })
}

/// A record that has no seq.
pub fn line(point: Point, collector: &str) -> serde_json::Value {
    let has_mono = point.mono != crate::record::NO_MONO;
    let mut line = serde_json::to_value(Record::new(0, point)).unwrap_or_default();
    if let Some(object) = line.as_object_mut() {
        if !has_mono {
            object.remove("mono");
        }
        object.remove("seq");
        object.insert("collector".into(), collector.into());
    }
    line
}

/// One run of one collector, and how long it took.
pub fn one(mut source: Source, host: &str, name: &str, root: &HostRoot) -> Result<(Vec<Point>, Duration), Failure> {
    runtime()?.block_on(async {
        if let Source::Builtin { .. } = source {
            pass(&mut source, host, "", root).await;
            tokio::time::sleep(PAUSE).await;
        }
        let began = clock::now().mono;
        let points = pass(&mut source, host, name, root).await;
        Ok((points, clock::now().mono.saturating_sub(began)))
    })
}

/// The bytes that records take on the wire.
pub fn encoded(points: &[Point]) -> usize {
    let mut bytes = Vec::new();
    points.iter().for_each(|point| encode_record(&Record::new(1_000_000, point.clone()), &mut bytes));
    bytes.len()
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("the runtime cannot be started: {error}")))
}

/// Bytes of disk that one run of each collector takes in the outbox, for the estimate of `check-config`.
pub fn measure(config: &Config, identity: &Identity) -> Result<BTreeMap<Arc<str>, f64>, Failure> {
    // Scripts are not run.
    let mut sources = build(config, None)?;
    let scripts: Vec<_> =
        sources.iter().filter(|(_, s)| matches!(s, Source::Script(_))).map(|(n, _)| n.clone()).collect();
    sources.retain(|(_, source)| matches!(source, Source::Builtin { .. }));
    let runs = runtime()?.block_on(twice(&mut sources, &identity.host.id, &load::root(config)));
    let size = |points: Vec<Point>| {
        // It is recorded once, which is nothing over a day.
        if agent::absence(&points).is_some() {
            return 0.0;
        }
        stored(encoded(&points))
    };
    let measured = runs.into_iter().map(|(name, points)| (name, size(points)));
    Ok(measured.chain(scripts.into_iter().map(|name| (name, stored(SCRIPT_BYTES)))).collect())
}

/// Disk for a run of so many encoded bytes.
fn stored(encoded: usize) -> f64 {
    let values = encoded.div_ceil(VALUE_BYTES);
    (encoded + values * STORED_PER_VALUE) as f64 * STORED_FACTOR
}

fn build(config: &Config, groups: Option<&Path>) -> Result<Vec<(Arc<str>, Source)>, Failure> {
    agent::sources(config, groups).map_err(|error| Failure::config(error.to_string()))
}

/// Built-in collectors run twice and the second pass counts, because ratios are differences; scripts run once.
async fn twice(sources: &mut [(Arc<str>, Source)], host: &str, root: &HostRoot) -> Vec<(Arc<str>, Vec<Point>)> {
    for (_, source) in sources.iter_mut() {
        if let Source::Builtin { .. } = source {
            pass(source, host, "", root).await;
        }
    }
    tokio::time::sleep(PAUSE).await;
    let mut runs = Vec::new();
    for (name, source) in sources.iter_mut() {
        runs.push((name.clone(), pass(source, host, name, root).await));
    }
    runs
}

async fn pass(source: &mut Source, host: &str, name: &str, root: &HostRoot) -> Vec<Point> {
    let now = clock::now();
    match source {
        Source::Builtin { spec, collector } => {
            let figures = AgentFigures::default();
            let context = Context { host: root, now: &now, agent: &figures };
            agent::run_builtin(spec, collector.as_mut(), &context)
        }
        Source::Script(script) => exec::run(script, host, name, &now).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_is_what_was_measured() {
        for (encoded, measured) in [(157, 288.0), (395, 556.0)] {
            let off = stored(encoded) / measured;
            assert!((0.97..1.05).contains(&off), "{encoded} bytes: {} against {measured}", stored(encoded));
        }
        assert_eq!(stored(0), 0.0, "a run without records is not stored");
        assert!(stored(VALUE_BYTES + 1) > stored(VALUE_BYTES) + 100.0, "a second value has a header of its own");
    }
}
