//! `holdover outbox ls|stats|losses|verify|export`: reads the directory itself, whether an agent runs on it or not.
//! `forget-hub` writes to it, and only when none does; `quarantine` has a file of its own.

use std::io::Write;

use super::args::{ForgetHubArgs, OutboxArgs, OutboxCommand, OutboxView};
use super::exit::{Exit, Failure};
use super::output::Stdout;
use super::{load, output, quarantine};
use crate::agent::{self, ChangeError};
use crate::clock;
use crate::outbox::inspect::{self, EpochSummary, InspectError, LossView, SegmentView, View};
use crate::outbox::{FileDisk, OpenError};
use crate::uplink::Level;

pub fn run(args: &OutboxArgs) -> Result<Exit, Failure> {
    let mut out = output::stdout();
    let exit = match &args.command {
        OutboxCommand::Ls(view) => ls(view, &mut out),
        OutboxCommand::Stats(view) => stats(view, &mut out),
        OutboxCommand::Losses(view) => losses(view, &mut out),
        OutboxCommand::ForgetHub(args) => forget_hub(args, &mut out),
        OutboxCommand::Quarantine(args) => quarantine::run(args, &mut out),
        OutboxCommand::Verify(view) => verify(view, &mut out),
        OutboxCommand::Export(view) => export(view, &mut out),
    }?;
    out.flush()?;
    Ok(exit)
}

impl From<InspectError> for Failure {
    fn from(error: InspectError) -> Self {
        match error {
            InspectError::Output(error) => error.into(),
            other => Self::failed(other.to_string()),
        }
    }
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        let exit = match error {
            ChangeError::Outbox(OpenError::Locked { .. }) => Exit::Temporary,
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

fn look(args: &OutboxView) -> Result<View, Failure> {
    let checked = load::config(&args.config)?;
    Ok(inspect::view(&FileDisk, &checked.config.outbox.dir)?)
}

fn ls(args: &OutboxView, out: &mut impl Write) -> Result<Exit, Failure> {
    let view = look(args)?;
    if args.json {
        json(out, &view.segments)?;
        return Ok(Exit::Ok);
    }
    let row = |s: &SegmentView| {
        let last = s.last.map_or("-".to_owned(), |last| last.to_string());
        vec![
            s.epoch.to_string(),
            s.name.clone(),
            s.first.to_string(),
            last,
            s.held.to_string(),
            output::bytes(s.blocks),
            s.kind.to_owned(),
        ]
    };
    let rows: Vec<_> = view.segments.iter().map(row).collect();
    output::table(out, &["epoch", "segment", "first", "last", "held", "disk", "state"], &rows)?;
    notes(&view.notes);
    Ok(Exit::Ok)
}

fn stats(args: &OutboxView, out: &mut impl Write) -> Result<Exit, Failure> {
    let view = look(args)?;
    if args.json {
        json(out, &view)?;
        return Ok(Exit::Ok);
    }
    writeln!(
        out,
        "{}: {} on disk in {} segments",
        view.dir.display(),
        output::bytes(view.disk_bytes),
        view.segments.len()
    )?;
    writeln!(out, "{} losses wait to be confirmed by the other side", view.losses)?;
    writeln!(out, "what is settled is as last saved, {}; a running agent knows more: holdover status\n", saved(&view))?;
    let row = |e: &EpochSummary| {
        let lost = e.lost.iter().map(|(reason, count)| format!("{count} {reason}")).collect::<Vec<_>>().join(", ");
        vec![
            e.epoch.to_string(),
            (e.next - 1).to_string(),
            e.settled.to_string(),
            if lost.is_empty() { "0".to_owned() } else { lost },
            e.quarantined.to_string(),
            e.held.to_string(),
            if e.adds_up { "yes" } else { "NO" }.to_owned(),
        ]
    };
    let rows: Vec<_> = view.epochs.iter().map(row).collect();
    output::table(out, &["epoch", "recorded", "settled", "lost", "quarantined", "held", "adds up"], &rows)?;
    notes(&view.notes);
    Ok(Exit::Ok)
}

fn saved(view: &View) -> String {
    match view.saved_ms {
        0 => "never yet".to_owned(),
        ms => format!("{} ago", output::duration(clock::now().wall_ms.saturating_sub(ms).max(0) as u64 / 1000)),
    }
}

fn losses(args: &OutboxView, out: &mut impl Write) -> Result<Exit, Failure> {
    let checked = load::config(&args.config)?;
    let (losses, problems) = inspect::losses(&FileDisk, &checked.config.outbox.dir)?;
    if args.json {
        json(out, &losses)?;
    } else if losses.is_empty() {
        writeln!(out, "nothing was declared lost")?;
    } else {
        let rows: Vec<_> = losses.iter().map(loss_row).collect();
        output::table(out, &["epoch", "from", "to", "records", "reason", "oldest", "newest", "confirmed"], &rows)?;
    }
    notes(&problems);
    Ok(Exit::Ok)
}

fn loss_row(loss: &LossView) -> Vec<String> {
    let known = |known: bool, text: String| if known { text } else { "-".to_owned() };
    vec![
        loss.epoch.to_string(),
        loss.from.to_string(),
        loss.to.map_or("-".to_owned(), |to| to.to_string()),
        known(loss.count > 0, loss.count.to_string()),
        loss.reason.clone(),
        known(loss.t0 != 0, time(loss.t0)),
        known(loss.t1 != 0, time(loss.t1)),
        if loss.settled { "yes" } else { "no" }.to_owned(),
    ]
}

pub(super) fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |at| format!("{at:.0}"))
}

fn forget_hub(args: &ForgetHubArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let checked = load::config(&args.config)?;
    let config = &checked.config;
    let now = clock::now();
    agent::change_outbox(config, &load::root(config), now, |store| agent::forget_hub(store, now))?;
    let effect = match config.uplink.level {
        Level::Auto => "records count as delivered once the broker has them, until a hub acknowledges this host again",
        Level::Broker => "it makes no difference while uplink.level is \"broker\"",
        Level::Hub => "it makes no difference while uplink.level is \"hub\"",
    };
    writeln!(out, "forgotten: {effect}")?;
    Ok(Exit::Ok)
}

fn verify(args: &OutboxView, out: &mut impl Write) -> Result<Exit, Failure> {
    let checked = load::config(&args.config)?;
    let verified = inspect::verify(&FileDisk, &checked.config.outbox.dir)?;
    let good = verified.problems.is_empty();
    if args.json {
        json(out, &verified)?;
    } else {
        for problem in &verified.problems {
            writeln!(out, "problem: {problem}")?;
        }
        let verdict = if good { "every checksum is right and every seq is accounted for" } else { "not in order" };
        writeln!(
            out,
            "{} segments, {} values, {} records: {verdict}",
            verified.segments, verified.values, verified.records
        )?;
    }
    Ok(if good { Exit::Ok } else { Exit::Failed })
}

/// Ends when nobody reads any more, however much there is.
fn export(args: &OutboxView, out: &mut Stdout) -> Result<Exit, Failure> {
    let checked = load::config(&args.config)?;
    let problems = inspect::export(&FileDisk, &checked.config.outbox.dir, &mut out.while_read())?;
    notes(&problems);
    Ok(if problems.is_empty() { Exit::Ok } else { Exit::Failed })
}

pub(super) fn notes(lines: &[String]) {
    for line in lines {
        output::complain(line);
    }
}

pub(super) fn json(out: &mut impl Write, value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::failed(format!("cannot print: {error}")))?;
    writeln!(out, "{text}")?;
    Ok(())
}
