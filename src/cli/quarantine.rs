//! `holdover outbox quarantine ls|retry|drop`: records that no broker would take.

use std::io::Write;

use super::args::{OutboxView, QuarantineArgs, QuarantineChoice, QuarantineCommand};
use super::exit::{Exit, Failure};
use super::outbox::{json, notes, time};
use super::{load, output};
use crate::agent;
use crate::clock::{self, Now};
use crate::config::Config;
use crate::outbox::quarantine::{self, Quarantined};
use crate::outbox::{FileDisk, Outbox};

pub fn run(args: &QuarantineArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    match &args.command {
        QuarantineCommand::Ls(view) => ls(view, out),
        QuarantineCommand::Retry(choice) => retry(choice, out),
        QuarantineCommand::Drop(choice) => drop(choice, out),
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
        let rows: Vec<_> = values.iter().map(row).collect();
        output::table(out, &["epoch", "from", "to", "size", "oldest", "newest", "names"], &rows)?;
    }
    notes(&unreadable);
    Ok(Exit::Ok)
}

fn row(value: &Quarantined) -> Vec<String> {
    let known = |text: String| if value.file.is_some() { text } else { "-".to_owned() };
    vec![
        value.epoch.to_string(),
        value.from.to_string(),
        value.to.to_string(),
        known(output::bytes(value.bytes)),
        known(time(value.t0)),
        known(time(value.t1)),
        if value.file.is_some() { value.names.join(",") } else { "(value no longer kept)".to_owned() },
    ]
}

/// Never empty.
fn chosen(config: &Config, choice: &QuarantineChoice) -> Result<Vec<Quarantined>, Failure> {
    let (mut values, unreadable) = quarantine::list(&FileDisk, &config.outbox.dir)?;
    notes(&unreadable);
    if let Some((from, to)) = choice.seqs {
        values.retain(|value| value.from <= to && from <= value.to);
        // A value is one; without it each seq is by itself.
        for value in values.iter_mut().filter(|value| value.file.is_none()) {
            (value.from, value.to) = (value.from.max(from), value.to.min(to));
        }
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

/// What has its value is sent again; of the rest it is said why not, and that is a failure.
fn retry(choice: &QuarantineChoice, out: &mut impl Write) -> Result<Exit, Failure> {
    let checked = load::config(&choice.config)?;
    let (kept, gone): (Vec<_>, Vec<_>) =
        chosen(&checked.config, choice)?.into_iter().partition(|value| value.file.is_some());
    gone.iter().filter_map(|value| value.value().err()).for_each(|why| notes(&[why]));
    if kept.is_empty() {
        return Err(Failure::failed("none of these records is kept"));
    }
    let records = change(&checked.config, &kept, Outbox::retry_quarantined)?;
    writeln!(out, "{records} records have new seqs and will be sent when the agent runs")?;
    Ok(if gone.is_empty() { Exit::Ok } else { Exit::Failed })
}

fn drop(choice: &QuarantineChoice, out: &mut impl Write) -> Result<Exit, Failure> {
    let checked = load::config(&choice.config)?;
    let values = chosen(&checked.config, choice)?;
    let records = change(&checked.config, &values, Outbox::drop_quarantined)?;
    writeln!(out, "{records} records deleted; they stay declared lost")?;
    Ok(Exit::Ok)
}

/// Returns how many records it was done to.
fn change(
    config: &Config,
    values: &[Quarantined],
    act: impl FnOnce(&mut Outbox, &[Quarantined], Now) -> Result<u64, String>,
) -> Result<u64, Failure> {
    let now = clock::now();
    Ok(agent::change_outbox(config, &load::root(config), now, |store| act(store, values, now))?)
}
