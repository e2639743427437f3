use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::*;
use crate::hub::summary::{GapRange, HostSummary, LossRange};
use crate::record::ErrorKind;

const DOCUMENT: &str = include_str!("../../../docs/tail.md");

fn record() -> RecordLine {
    RecordLine {
        host: "edge-01".into(),
        site: "plant-a".into(),
        epoch: 7,
        seq: 1,
        ts: 0,
        time: time_of(0),
        name: "n".into(),
        status: Status::Err,
        tags: Tags::new(),
        fields: Fields::new(),
        error: Some(RunError { kind: ErrorKind::Timeout, message: "m".into() }),
        synced: true,
        lane: Lane::Live,
        verdict: Some(VerdictWord::New),
        topic: "t".into(),
    }
}

fn summary() -> Summary {
    let (host, site) = ("edge-01".to_owned(), "plant-a".to_owned());
    let gaps = vec![GapRange { epoch: 7, from: 1, to: 2, state: GapWord::Open }];
    let losses = vec![LossRange { epoch: 7, from: 1, to: None, reason: LossReason::Quota }];
    Summary {
        complete: false,
        gaps_judged: true,
        seconds: 0,
        connections: 0,
        messages: 0,
        bytes: 0,
        records: 0,
        bad: 0,
        untracked: 0,
        discarded: 0,
        hosts: vec![HostSummary {
            host,
            site,
            state: None,
            epochs: 0,
            new: 0,
            duplicate: 0,
            late: 0,
            pending: 0,
            open: 0,
            confirmed: 0,
            declared: 0,
            overflowed: 0,
            backlog: None,
            gaps,
            losses,
            not_listed: 0,
        }],
    }
}

/// One of each, with everything that may be absent.
fn lines() -> Vec<Line> {
    let (host, site) = ("edge-01".to_owned(), "plant-a".to_owned());
    let online = OnlineLine {
        sent: 0,
        version: "0".into(),
        epoch: 7,
        next_seq: 1,
        backlog: 0,
        oldest: None,
        eta_s: None,
        level: "broker".into(),
        problems: Vec::new(),
    };
    let gap =
        GapLine { host: host.clone(), site: site.clone(), epoch: 7, from: 1, to: 2, count: 2, state: GapWord::Open };
    let loss =
        LossLine { host: host.clone(), site: site.clone(), epoch: 7, from: 1, to: None, reason: LossReason::Quota };
    vec![
        Line::Record(record()),
        Line::Event(record()),
        Line::Gap(gap),
        Line::Loss(loss),
        Line::Epoch(EpochLine { host: host.clone(), site: site.clone(), epoch: 7, previous: None }),
        Line::Status(StatusLine {
            host: host.clone(),
            site,
            state: State::Online,
            retained: true,
            online: Some(online),
        }),
        Line::Bad(BadLine { topic: "t".into(), bytes: 1, reason: "r".into() }),
        Line::Bound(BoundLine::new(&host, Bound::Hosts)),
        Line::Summary(Box::new(summary())),
    ]
}

fn names(value: &Json, into: &mut BTreeSet<String>) {
    match value {
        Json::Object(map) => map.iter().for_each(|(name, value)| {
            into.insert(name.clone());
            names(value, into);
        }),
        Json::Array(values) => values.iter().for_each(|value| names(value, into)),
        _ => {}
    }
}

#[test]
fn every_type_and_field_is_in_the_document_and_the_help_names_every_type() {
    let help = <crate::hub::cli::Cli as clap::CommandFactory>::command()
        .find_subcommand_mut("tail")
        .expect("it exists")
        .render_long_help()
        .to_string();
    for line in lines() {
        let json = serde_json::to_value(&line).expect("a line");
        let kind = json["type"].as_str().expect("a type").to_owned();
        let row = DOCUMENT.lines().find(|row| row.starts_with(&format!("| `{kind}` |"))).expect(&kind);
        assert!(help.contains(&format!("\n  {kind} ")), "{kind} is not in the help");
        let mut fields = BTreeSet::new();
        names(&json, &mut fields);
        // Those of an event are those of a record, of the summary those below the table.
        let place = if matches!(kind.as_str(), "event" | "summary") { DOCUMENT } else { row };
        for field in fields.iter().filter(|field| *field != "type") {
            assert!(place.contains(&format!("`{field}`")), "{field} of {kind} is not in docs/tail.md");
        }
    }
}
