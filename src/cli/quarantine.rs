//! `holdover outbox quarantine ls|retry|drop`: records that no broker would take.

use std::io::Write;

use super::args::{OutboxView, QuarantineArgs, QuarantineChoice, QuarantineCommand};
use super::exit::{Exit, Failure};
use super::outbox::{json, notes, time};
use super::{load, output};
use crate::agent;
use crate::clock;
use crate::config::Config;
use crate::outbox::FileDisk;
use crate::outbox::quarantine::{self, Quarantined};

pub fn run(args: &QuarantineArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    match &args.command {
        QuarantineCommand::Ls(view) => ls(view, out),
        QuarantineCommand::Retry(choice) => retry(choice, out),
        QuarantineCommand::Drop(choice) => drop_values(choice, out),
    }
}

fn ls(args: &OutboxView, out: &mut impl Write) -> Result<Exit, Failure> {
    let checked = load::config(&args.config)?;
    let (values, unreadable) = quarantine::list(&FileDisk, &checked.config.outbox.dir)?;
    if args.json {
        json(out, &values)?;
    } else if values.is_empty() {
        writeln!(out, "nothing is set aside")?;
    } else {
        let row = |value: &Quarantined| {
            vec![
                value.epoch.to_string(),
                value.from.to_string(),
                value.to.to_string(),
                output::bytes(value.bytes),
                time(value.t0),
                time(value.t1),
                value.names.join(","),
            ]
        };
        let rows: Vec<_> = values.iter().map(row).collect();
        output::table(out, &["epoch", "from", "to", "size", "oldest", "newest", "names"], &rows)?;
    }
    notes(&unreadable);
    Ok(Exit::Ok)
}

/// Never empty.
fn chosen(config: &Config, choice: &QuarantineChoice) -> Result<Vec<Quarantined>, Failure> {
    let (mut values, unreadable) = quarantine::list(&FileDisk, &config.outbox.dir)?;
    notes(&unreadable);
    if let Some((from, to)) = choice.seqs {
        values.retain(|value| value.from <= to && from <= value.to);
    }
    if let Some(epoch) = choice.epoch {
        values.retain(|value| value.epoch == epoch);
    }
    let Some(first) = values.first() else {
        return Err(Failure::failed("no such records are set aside; 'holdover outbox quarantine ls' lists what is"));
    };
    if !choice.all && values.iter().any(|value| value.epoch != first.epoch) {
        return Err(Failure::failed("more than one epoch has such seqs set aside: name one with --epoch"));
    }
    Ok(values)
}

fn retry(choice: &QuarantineChoice, out: &mut impl Write) -> Result<Exit, Failure> {
    let checked = load::config(&choice.config)?;
    let values = chosen(&checked.config, choice)?;
    let now = clock::now();
    let records = agent::change_outbox(&checked.config, &load::root(&checked.config), now, |store| {
        store.retry_quarantined(&values, now)
    })?;
    writeln!(out, "{records} records have new seqs and will be sent when the agent runs")?;
    Ok(Exit::Ok)
}

fn drop_values(choice: &QuarantineChoice, out: &mut impl Write) -> Result<Exit, Failure> {
    let checked = load::config(&choice.config)?;
    let values = chosen(&checked.config, choice)?;
    let now = clock::now();
    let records = agent::change_outbox(&checked.config, &load::root(&checked.config), now, |store| {
        store.drop_quarantined(&values, now)
    })?;
    writeln!(out, "{records} records deleted; they stay declared lost")?;
    Ok(Exit::Ok)
}
