//! Recorded hosts: each folder of `tests/fixtures/host` is one, with what every collector must make of it.
//!
//! `<case>/1` and `<case>/2` are the host's root directory at two runs, `case.json` what /proc cannot hold (parameters,
//! `statvfs`, the time between the runs), `expected.json` the records. A new case needs no Rust. With
//! `HOLDOVER_BLESS=1` the expectations are rewritten: read the difference before committing it.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be read is a failing test")]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use holdover::clock::Now;
use holdover::collect::{
    AgentFigures, COLLECTORS, Collector, CollectorSpec, Context, FsStat, HostRoot, MetricKind, ParamValue, Params, run,
};
use holdover::record::{Point, Record, Value};
use holdover::wire::MetaMetric;
use serde::Deserialize;
use serde_json::{Value as Json, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What this host is, for the reader.
    #[expect(dead_code, reason = "read by people")]
    about: String,
    /// Between the two runs.
    seconds: u64,
    #[serde(default)]
    params: BTreeMap<String, toml::Table>,
    /// By mount point: block size, blocks, free, available, inodes, free inodes.
    #[serde(default)]
    statfs: BTreeMap<String, [u64; 6]>,
}

/// Fields that a daemon answers for, which no directory can record; `timekeeping` and `chrony` test them.
const NOT_RECORDED: [&str; 3] = ["offset", "error", "stratum"];

/// Values that may be below zero: degrees of frost, a clock that is ahead.
fn may_be_negative(record: &str, field: &str) -> bool {
    record == "hw.temperature" || (record == "system.clock" && field == "offset")
}

fn fixtures() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/host");
    let mut cases: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

fn load(case: &Path) -> Case {
    let text = std::fs::read_to_string(case.join("case.json")).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", case.display()))
}

fn host(case: &Case, root: PathBuf) -> HostRoot {
    let figures = case.statfs.clone();
    let prefix = root.clone();
    let statfs = move |path: &Path| {
        let mountpoint = Path::new("/").join(path.strip_prefix(&prefix).unwrap());
        let [block_size, blocks, blocks_free, blocks_available, inodes, inodes_free] =
            *mountpoint.to_str().and_then(|path| figures.get(path)).ok_or(io::ErrorKind::NotFound)?;
        Ok(FsStat { block_size, blocks, blocks_free, blocks_available, inodes, inodes_free })
    };
    HostRoot::recorded(root, Arc::new(statfs))
}

fn build(spec: &CollectorSpec, case: &Case) -> Option<Box<dyn Collector>> {
    let mut params = Params::new();
    for (key, value) in case.params.get(spec.name).into_iter().flatten() {
        params.set(spec.params, key, ParamValue::from_toml(value).unwrap()).unwrap();
    }
    match (spec.build)(&params) {
        Ok(collector) => Some(collector),
        // `processes` cannot be built without names.
        Err(error) => {
            assert!(params == Params::new(), "{}: {error}", spec.name);
            None
        }
    }
}

fn figures() -> AgentFigures {
    AgentFigures {
        stage: 0,
        connected: true,
        outbox_depth: 42,
        outbox_bytes: 1 << 20,
        outbox_limit: 16 << 20,
        outbox_age_ms: 90_500,
        commits: 7,
        records_recorded: 50,
        records_settled: 6,
        records_lost: 2,
        runs: 30,
        runs_failed: 1,
        runs_skipped: 3,
        connections: 4,
        publishes: 5,
        bytes_sent: 9000,
    }
}

/// The points of both runs of one collector on one recorded host.
fn runs(spec: &CollectorSpec, dir: &Path, case: &Case) -> Option<Vec<Vec<Point>>> {
    let mut collector = build(spec, case)?;
    let passes = ["1", "2"].map(|pass| dir.join(pass));
    let made = passes.into_iter().filter(|root| root.is_dir()).zip(0..).map(|(root, pass)| {
        let boot = Duration::from_secs(1000 + pass * case.seconds);
        let now = Now { mono: boot, boot, wall_ms: 1_700_000_000_000 + boot.as_millis() as i64 };
        let host = host(case, root);
        let points = run(spec, collector.as_mut(), &Context { host: &host, now: &now, agent: &figures() });
        assert!(points.iter().all(|p| (p.ts, p.mono) == (now.wall_ms, now.boot_ms())), "stamped with the run's time");
        points
    });
    Some(made.collect())
}

/// The record as JSON, less its seq and times.
fn record(point: Point) -> Json {
    let mut json = serde_json::to_value(Record::new(1, point)).unwrap();
    let map = json.as_object_mut().unwrap();
    map.retain(|key, value| !matches!(key.as_str(), "seq" | "ts" | "mono") && *value != json!({}));
    json
}

#[test]
fn recorded_hosts_give_the_expected_records() {
    let bless = std::env::var_os("HOLDOVER_BLESS").is_some();
    let mut wrong = Vec::new();
    for dir in fixtures() {
        let case = load(&dir);
        let made: BTreeMap<&str, Vec<Vec<Json>>> = COLLECTORS
            .iter()
            .filter_map(|spec| Some((spec.name, runs(spec, &dir, &case)?)))
            .map(|(name, runs)| (name, runs.into_iter().map(|run| run.into_iter().map(record).collect()).collect()))
            .collect();
        let file = dir.join("expected.json");
        if bless {
            std::fs::write(&file, lines(&made)).unwrap();
        }
        let expected: Json = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        for (name, runs) in &made {
            let runs = json!(runs);
            if expected[*name] != runs {
                wrong.push(format!("{}: {name}: expected\n{}\nfound\n{runs}", dir.display(), expected[*name]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// One record per line, so that a difference can be read.
fn lines(made: &BTreeMap<&str, Vec<Vec<Json>>>) -> String {
    let run = |records: &Vec<Json>| match records.as_slice() {
        [] => "    []".to_owned(),
        some => format!("    [\n{}\n    ]", some.iter().map(|r| format!("      {r}")).collect::<Vec<_>>().join(",\n")),
    };
    let collector = |(name, runs): (&&str, &Vec<Vec<Json>>)| {
        format!("  {name:?}: [\n{}\n  ]", runs.iter().map(run).collect::<Vec<_>>().join(",\n"))
    };
    format!("{{\n{}\n}}\n", made.iter().map(collector).collect::<Vec<_>>().join(",\n"))
}

#[test]
fn the_metric_table_lists_exactly_what_collectors_emit() {
    let mut seen = BTreeSet::new();
    for dir in fixtures() {
        let case = load(&dir);
        for spec in COLLECTORS {
            for point in runs(spec, &dir, &case).into_iter().flatten().flatten() {
                for (field, value) in &point.fields {
                    let row = spec.metrics.iter().find(|m| m.name == point.name && m.field == field);
                    let row =
                        row.unwrap_or_else(|| panic!("{}: {}.{field} is not in the table", spec.name, point.name));
                    let least = if may_be_negative(row.name, row.field) { f64::NEG_INFINITY } else { 0.0 };
                    let number =
                        matches!(value, Value::Int(n) if *n >= 0) || matches!(value, Value::Float(x) if *x >= least);
                    assert!(
                        number || (matches!(value, Value::Bool(_)) && row.kind == MetricKind::Gauge),
                        "{row:?}: {value:?}"
                    );
                    seen.insert((row.name, row.field));
                }
            }
        }
    }
    for spec in COLLECTORS {
        for row in spec.metrics {
            let elsewhere = row.name == "system.clock" && NOT_RECORDED.contains(&row.field);
            assert!(
                seen.contains(&(row.name, row.field)) != elsewhere,
                "{}.{} is emitted by no recorded host",
                row.name,
                row.field
            );
            assert!(!row.about.is_empty() && !row.unit.is_empty(), "{row:?}");
        }
    }
    let rows: Vec<_> = COLLECTORS.iter().flat_map(|spec| spec.metrics).map(|m| (m.name, m.field)).collect();
    assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), rows.len(), "no field is described twice");
}

/// A line of the fixture: a metric, its unit, its type, and what its attributes may be.
fn opentelemetry() -> BTreeMap<&'static str, (&'static str, &'static str, Vec<&'static str>)> {
    let text = include_str!("fixtures/opentelemetry.txt");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split(' ');
            let mut word = || words.next().unwrap_or_else(|| panic!("{line}"));
            let (name, unit, kind) = (word(), word(), word());
            (name, (unit, kind, words.collect()))
        })
        .collect()
}

#[test]
fn what_the_table_calls_opentelemetrys_is_defined_there_so() {
    let defined = opentelemetry();
    let mut claimed = 0;
    for row in COLLECTORS.iter().flat_map(|spec| spec.metrics).filter(|row| !row.otel.is_empty()) {
        let (name, attributes) = row.otel.split_once('{').unwrap_or((row.otel, ""));
        let (unit, kind, allowed) = defined.get(name).unwrap_or_else(|| panic!("{name} is not defined: {row:?}"));
        assert_eq!((*unit, *kind), (row.unit, row.kind.as_str()), "{row:?}");
        for attribute in attributes.trim_end_matches('}').split(',').filter(|attribute| !attribute.is_empty()) {
            assert!(allowed.contains(&attribute), "{attribute} is none of {allowed:?}: {row:?}");
        }
        claimed += 1;
    }
    assert!(claimed > 60, "{claimed}");
}

/// `meta` is one packet; the shipped configuration of mosquitto takes 128 KiB, other brokers less.
#[test]
fn all_rows_of_the_metric_table_fit_a_packet_of_64_kib_twice() {
    let rows: Vec<MetaMetric> = COLLECTORS.iter().flat_map(|spec| spec.metrics).map(Into::into).collect();
    let bytes = rmp_serde::to_vec_named(&rows).unwrap().len();
    assert!(rows.len() > 130 && bytes <= 32 << 10, "{} rows are {bytes} bytes", rows.len());
}

#[test]
fn this_very_host_is_understood() {
    let host = HostRoot::default();
    for spec in COLLECTORS.iter().filter(|spec| spec.default_on) {
        let mut collector = (spec.build)(&Params::new()).unwrap();
        for _ in 0..2 {
            let now = holdover::clock::now();
            let points = run(spec, collector.as_mut(), &Context { host: &host, now: &now, agent: &figures() });
            let unreadable =
                |p: &&Point| p.error.as_ref().is_some_and(|e| e.kind == holdover::record::ErrorKind::Parse);
            assert_eq!(points.iter().find(unreadable), None, "{}", spec.name);
        }
    }
}

/// A copy of the recorded server in which files can be damaged.
struct Damaged {
    dir: tempfile::TempDir,
    files: Vec<PathBuf>,
}

impl Damaged {
    fn new() -> Self {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/host/server/1");
        let dir = tempfile::tempdir().unwrap();
        let mut files = Vec::new();
        let mut open = vec![PathBuf::new()];
        while let Some(rel) = open.pop() {
            std::fs::create_dir_all(dir.path().join(&rel)).unwrap();
            for entry in std::fs::read_dir(from.join(&rel)).unwrap().map(Result::unwrap) {
                let rel = rel.join(entry.file_name());
                if entry.file_type().unwrap().is_dir() {
                    open.push(rel);
                } else {
                    std::fs::copy(from.join(&rel), dir.path().join(&rel)).unwrap();
                    files.push(rel);
                }
            }
        }
        files.sort();
        Self { dir, files }
    }

    /// What all collectors make of it in two runs, the file damaged between them.
    fn points(
        &self,
        case: &Case,
        file: &Path,
        damage: impl FnOnce(&mut Vec<u8>),
    ) -> Vec<(&'static CollectorSpec, Point)> {
        let path = self.dir.path().join(file);
        let whole = std::fs::read(&path).unwrap();
        let host = host(case, self.dir.path().to_owned());
        let mut collectors: Vec<_> = COLLECTORS.iter().filter_map(|spec| Some((spec, build(spec, case)?))).collect();
        let mut pass = |second| {
            let mono = Duration::from_secs(second);
            let now = Now { mono, boot: mono, wall_ms: 0 };
            let ctx = Context { host: &host, now: &now, agent: &figures() };
            let runs = collectors.iter_mut().map(|(spec, c)| (*spec, run(spec, c.as_mut(), &ctx)));
            runs.flat_map(|(spec, points)| points.into_iter().map(move |p| (spec, p))).collect::<Vec<_>>()
        };
        let mut points = pass(0);
        let mut damaged = whole.clone();
        damage(&mut damaged);
        std::fs::write(&path, damaged).unwrap();
        points.extend(pass(10));
        std::fs::write(&path, whole).unwrap();
        points.extend(pass(20));
        points
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]
    #[test]
    fn damaged_files_give_errors_or_less_never_nonsense(
        file in 0usize..1000, cut in 0usize..4000, at in 0usize..4000,
        junk in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..12), digits in "-?[0-9]{1,25}"
    ) {
        thread_local!(static DAMAGED: Damaged = Damaged::new());
        DAMAGED.with(|damaged| {
            let case = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/host/server"));
            let file = &damaged.files[file % damaged.files.len()];
            let points = damaged.points(&case, file, |bytes| {
                bytes.truncate(cut);
                let at = at.min(bytes.len());
                bytes.splice(at..at, junk.iter().copied().chain(digits.bytes()));
            });
            for (spec, point) in points {
                for (field, value) in &point.fields {
                    let row = spec.metrics.iter().find(|m| m.name == point.name && m.field == field);
                    assert!(row.is_some(), "{field} is not in the table");
                    match value {
                        Value::Float(x) if field.contains("utilization") => assert!((0.0..=1.0).contains(x), "{field} {x}"),
                        Value::Float(x) if may_be_negative(&point.name, field) => assert!(x.is_finite(), "{field} {x}"),
                        Value::Float(x) => assert!(x.is_finite() && *x >= 0.0, "{field} {x}"),
                        Value::Int(n) => assert!(*n >= 0, "{field} {n}"),
                        Value::Bool(_) => {}
                        Value::Str(_) => panic!("{field} is text"),
                    }
                }
                let texts = point.tags.values().map(|v| v.to_string()).chain(point.error.map(|e| e.message));
                for text in texts {
                    assert!(text.len() < 1024 && !text.chars().any(char::is_control), "{text:?}");
                }
            }
        });
    }
}
