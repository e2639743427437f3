//! Between outbox and uplink: what the one says, in the other's words. Decides nothing and holds nothing, so that a
//! simulation which passes everything through here runs what the agent runs.

use crate::outbox::writer::{Event, Handle};
use crate::outbox::{self, Opened};
use crate::uplink::{self, Action, Anchors, HubMemory, Input};

/// What became of an action of the uplink's.
#[derive(Debug)]
pub enum Passed {
    /// It was the outbox's, which has it.
    On,
    /// The outbox says so at once.
    Back(Input),
    /// It is none of the outbox's.
    Other(Action),
}

/// Hands on what the uplink asks of the outbox.
pub fn to_outbox(action: Action, outbox: &Handle) -> Passed {
    match action {
        Action::Load { epoch, range, max_bytes } => {
            if !outbox.load(epoch, range, max_bytes) {
                return Passed::Back(Input::LoadRefused);
            }
        }
        Action::Settle { epoch, seqs } => outbox.settle(epoch, seqs),
        Action::SettleLosses(losses) => outbox.settle_losses(losses),
        Action::Quarantine { epoch, seqs, reason } => outbox.quarantine(epoch, seqs, reason),
        Action::Note { key, value } => {
            outbox.set_note(key, &value);
            outbox.flush();
        }
        Action::BeginEpoch => outbox.begin_epoch(),
        other => return Passed::Other(other),
    }
    Passed::On
}

/// What the uplink has to know of it.
pub fn to_uplink(event: Event) -> Option<Input> {
    match event {
        Event::Appended { collector, chunks, .. } => Some(Input::Appended { collector, chunks }),
        Event::Loaded { epoch, range, chunks } => Some(Input::Loaded { epoch, range, chunks }),
        Event::Redrawn(chunks) => Some(Input::Redrawn(chunks)),
        Event::Lost(losses) => Some(Input::Lost(losses)),
        Event::Opened(found) => {
            let (epochs, hub) = (epoch_views(&found), hub_memory(&found));
            Some(Input::Opened { epochs, losses: found.losses, hub })
        }
        Event::Problem(_)
        | Event::Unstored
        | Event::Noted { .. }
        | Event::Recovered
        | Event::Stats(_)
        | Event::Flushed(_) => None,
    }
}

/// What the outbox remembers of hubs.
pub fn hub_memory(opened: &Opened) -> HubMemory {
    HubMemory::from_note(opened.notes.get(HubMemory::NOTE).map(String::as_str))
}

/// What the outbox remembers of the clocks of earlier boots.
pub fn anchors(opened: &Opened) -> Anchors {
    Anchors::from_note(opened.notes.get(Anchors::NOTE).map(String::as_str))
}

pub fn epoch_views(opened: &Opened) -> Vec<uplink::EpochView> {
    let view = |e: &outbox::EpochView| uplink::EpochView {
        epoch: e.epoch,
        pending: e.pending.clone(),
        next_seq: e.next,
        in_doubt: e.in_doubt,
    };
    opened.epochs.iter().map(view).collect()
}
