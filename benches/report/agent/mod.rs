//! What the agent takes from its host while it works: the edge build as a process against a real mosquitto over TLS.
//! Peers do the same work beside it in the same window.

mod meter;
mod peers;
mod subject;
mod tally;
mod usage;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::edge;
use crate::figure::{Figure, Outcome, Section};
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use subject::{Profile, Subject, agent};
use tally::Tally;
use usage::{Spent, Usage};

pub const SECTION: Section = Section {
    name: "agent",
    about: "memory, CPU, context switches, disk and network of the running agent, and of its peers in the same window",
    run,
};

const ALONE: &str = "1 Hz online, alone";
const SECOND: &str = "1 Hz online";
/// The same work by the build without libraries of the system.
const STATIC: &str = "1 Hz online, static";
const DAY: f64 = 86_400.0;

fn run(short: bool) -> Outcome {
    let window = Duration::from_secs(if short { 5 } else { 60 });
    let program = program(short)?;
    let mut windows = alone(&program, window, short)?;
    let missing = peers::missing();
    windows.extend(together(&program, window, short, missing.is_none())?);
    Ok(figures(&windows, missing))
}

/// One agent on its broker, as on a host of its own: acknowledgements come one by one where others are served between.
fn alone(program: &Path, window: Duration, short: bool) -> Result<Vec<Window>, Box<dyn Error>> {
    let lab = Lab::new();
    let online = broker(&lab, "online")?;
    let tally = Tally::start(&lab, &online);
    let mut subject = [agent(ALONE, Profile::Second, &lab, online.port, program)?];
    settle(short, 12);
    eprintln!("  1 subject, a window of {window:?}");
    measure(&mut subject, tally, window)
}

fn together(program: &Path, window: Duration, short: bool, peers: bool) -> Result<Vec<Window>, Box<dyn Error>> {
    let lab = Lab::new();
    let online = broker(&lab, "online")?;
    let mut away = broker(&lab, "away")?;
    let tally = Tally::start(&lab, &online);
    let start = |label, profile, port| agent(label, profile, &lab, port, program);
    let mut subjects = vec![
        start("10 s online", Profile::Default, online.port)?,
        start(SECOND, Profile::Second, online.port)?,
        start("idle online", Profile::Idle, online.port)?,
        start("10 s offline", Profile::Default, away.port)?,
        start("1 Hz offline", Profile::Second, away.port)?,
    ];
    if !short && let Ok(program) = edge::static_agent()? {
        subjects.push(agent(STATIC, Profile::Second, &lab, online.port, &program)?);
    }
    if peers {
        subjects.push(peers::collectd("collectd", &lab, online.port)?);
        subjects.push(peers::bridge("collectd+bridge", &lab, online.port)?);
    }
    settle(short, 12);
    away.stop();
    settle(short, 8);
    eprintln!("  {} subjects, a window of {window:?}", subjects.len());
    measure(&mut subjects, tally, window)
}

/// Long enough for every first time to be over.
fn settle(short: bool, seconds: u64) {
    std::thread::sleep(Duration::from_secs(if short { 2 } else { seconds }));
}

/// In a short run the agent of the build at hand: no second build.
fn program(short: bool) -> Result<PathBuf, Box<dyn Error>> {
    if short { Ok(env!("CARGO_BIN_EXE_holdover").into()) } else { edge::agent() }
}

/// The configuration that is shipped, with leave for everyone to write: peers have topics of their own.
fn broker(lab: &Lab, name: &str) -> Result<Mosquitto, Box<dyn Error>> {
    let mut broker = Mosquitto::absent(lab, name);
    let acl = lab.path("everyone.acl");
    std::fs::write(&acl, "pattern readwrite #\n")?;
    broker.set("acl_file", &acl.display().to_string());
    broker.up();
    Ok(broker)
}

/// One subject's window.
struct Window {
    label: &'static str,
    seconds: f64,
    spent: Spent,
    end: Usage,
    /// Bytes towards the broker.
    sent: f64,
    /// Values that arrived.
    values: f64,
}

/// One subject at one moment.
struct Look {
    at: Instant,
    usage: Usage,
    sent: u64,
}

fn look(subject: &mut Subject) -> Result<Look, Box<dyn Error>> {
    Ok(Look { at: Instant::now(), usage: subject.usage()?, sent: subject.sent() })
}

fn measure(subjects: &mut [Subject], tally: Tally, span: Duration) -> Result<Vec<Window>, Box<dyn Error>> {
    let (from, began) = (SystemTime::now(), Instant::now());
    let before = subjects.iter_mut().map(look).collect::<Result<Vec<_>, _>>()?;
    std::thread::sleep(span.saturating_sub(began.elapsed()));
    let after = subjects.iter_mut().map(look).collect::<Result<Vec<_>, _>>()?;
    let values = tally.values(from, SystemTime::now())?;
    let looks = before.into_iter().zip(after);
    let windows = subjects.iter().zip(looks).map(|(subject, (then, now))| Window {
        label: subject.label,
        seconds: (now.at - then.at).as_secs_f64(),
        spent: now.usage.since(&then.usage),
        end: now.usage,
        sent: (now.sent - then.sent) as f64,
        values: values.get(&subject.sender).copied().unwrap_or(0) as f64,
    });
    let windows: Vec<Window> = windows.collect();
    // Whoever works each second and delivers nothing does not do the work that it is measured at.
    match windows.iter().find(|w| w.values == 0.0 && (is_busiest(w.label) || is_peer(w.label))) {
        Some(silent) => Err(format!("nothing of {:?} has arrived", silent.label).into()),
        None => Ok(windows),
    }
}

/// One way to look at a window.
struct Measure {
    name: &'static str,
    unit: &'static str,
    of: fn(&Window) -> f64,
    budget: fn(&str) -> &'static str,
    note: fn(&Window) -> String,
}

const NO_BUDGET: fn(&str) -> &'static str = |_| "";
const NO_NOTE: fn(&Window) -> String = |_| String::new();

const MEASURES: &[Measure] = &[
    Measure {
        name: "RSS",
        unit: "MB",
        of: |w| w.end.rss / 1e6,
        budget: |label| if is_busiest(label) { "<= 8" } else { "" },
        note: |w| if is_busiest(w.label) { "the target is 6".into() } else { String::new() },
    },
    Measure { name: "PSS", unit: "MB", of: |w| w.end.pss / 1e6, budget: NO_BUDGET, note: NO_NOTE },
    Measure { name: "anonymous memory", unit: "MB", of: |w| w.end.anonymous / 1e6, budget: NO_BUDGET, note: NO_NOTE },
    Measure {
        name: "CPU",
        unit: "% of a core",
        of: |w| w.spent.cpu_ns / 1e7 / w.seconds,
        budget: |label| if is_busiest(label) { "<= 0.1" } else { "" },
        note: |w| {
            let (ms, ended) = (w.spent.cpu_ns / 1e6, w.spent.ticks * 10.0);
            format!("{ms:.1} ms in {:.0} s; with threads that ended {ended:.0} ms to the tick", w.seconds)
        },
    },
    Measure {
        name: "context switches",
        unit: "/s",
        of: |w| w.spent.switches / w.seconds,
        budget: |label| match label {
            ALONE | SECOND | STATIC => "<= 12",
            "idle online" => "<= 2.5",
            _ => "",
        },
        note: NO_NOTE,
    },
    Measure {
        name: "written to disk",
        unit: "MB/day",
        // The peers hand their sockets' bytes to write calls too.
        of: |w| if is_peer(w.label) { w.spent.dirtied } else { w.spent.written } / w.seconds * DAY / 1e6,
        budget: |label| match label {
            "10 s online" | "10 s offline" => "<= 300",
            ALONE | SECOND | STATIC | "1 Hz offline" => "<= 3000",
            _ => "",
        },
        note: |w| {
            let dirtied = w.spent.dirtied / w.seconds * DAY / 1e6;
            if is_peer(w.label) { "by pages made dirty".into() } else { format!("by pages made dirty {dirtied:.0}") }
        },
    },
    Measure { name: "values delivered", unit: "/s", of: |w| w.values / w.seconds, budget: NO_BUDGET, note: NO_NOTE },
    Measure {
        name: "wire, TLS included",
        unit: "B/value",
        of: |w| if w.values > 0.0 { w.sent / w.values } else { f64::NAN },
        budget: NO_BUDGET,
        note: NO_NOTE,
    },
];

/// Whether it has the work that the budgets are for.
fn is_busiest(label: &str) -> bool {
    [ALONE, SECOND, STATIC].contains(&label)
}

fn is_peer(label: &str) -> bool {
    label.starts_with("collectd")
}

fn figures(windows: &[Window], missing: Option<&'static str>) -> Vec<Figure> {
    let mut figures = Vec::new();
    let ours = windows.iter().find(|window| window.label == SECOND);
    for measure in MEASURES {
        for window in windows {
            let value = (measure.of)(window);
            let name = format!("{}: {}", measure.name, window.label);
            if value.is_finite() {
                let figure = Figure::new(name, value, measure.unit).budget((measure.budget)(window.label));
                figures.push(figure.note((measure.note)(window)));
            }
        }
        let ratios = windows.iter().filter(|window| is_peer(window.label)).zip(std::iter::repeat(ours));
        for (peer, ours) in ratios.filter_map(|(peer, ours)| Some((peer, ours?))) {
            let ratio = (measure.of)(peer) / (measure.of)(ours);
            if ratio.is_finite() {
                figures.push(Figure::new(format!("{}: {} / {SECOND}", measure.name, peer.label), ratio, ""));
            }
        }
    }
    if let Some(why) = missing {
        figures.push(Figure::new("peers measured", 0.0, "").note(why));
    }
    figures
}
