//! Opening: what the names say, what the newest segment holds, what the state remembers, and whether the newest
//! epoch may be continued. Takes the same time whatever the backlog: one segment per epoch is read.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::disk::{Disk, Entry};
use super::epoch::Epoch;
use super::fault::Fault;
use super::losses::LossBook;
use super::names::{self, EpochName};
use super::state::{self, EpochState, State, StateFile};
use super::store::{OpenSegment, Outbox, Writing};
use super::{OpenError, Opened, Options};
use crate::clock::Now;
use crate::ranges::RangeSet;
use crate::wire::{Loss, LossReason};

/// Whether an epoch can be appended to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Its next seq is known for certain.
    Known,
    /// Seqs beyond may have been drawn that nothing here knows of.
    Unknown(String),
}

/// What is gathered while opening.
pub(super) struct Opening<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) options: &'a Options,
    pub(super) state: State,
    /// There was a state file and it was read.
    pub(super) state_known: bool,
    pub(super) problems: Vec<String>,
    pub(super) markers: Vec<PathBuf>,
    pub(super) readers: Vec<OpenSegment>,
    /// Losses found now: (epoch id, loss).
    pub(super) losses: Vec<Loss>,
}

impl Outbox {
    /// Opens the store in `options.dir`, creating it if need be. Damage, foreign files, a full or read-only disk do
    /// not fail it: they are in [`Opened::problems`], and what cannot be written waits.
    pub fn open(disk: Arc<dyn Disk>, options: Options, now: Now) -> Result<(Self, Opened), OpenError> {
        let dir = options.dir.clone();
        let unavailable = |fault: Fault| OpenError::Unavailable { dir: dir.clone(), why: fault.to_string() };
        disk.make_dir(&dir).map_err(|e| unavailable(e.into()))?;
        // A new directory is only as durable as its name in each directory above. Best effort: one that may not be
        // read was not made by us.
        dir.ancestors()
            .skip(1)
            .filter(|above| !above.as_os_str().is_empty())
            .for_each(|above| drop(disk.sync_dir(above)));
        let lock = disk.lock(&dir).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::Locked { dir: dir.clone() },
            _ => unavailable(error.into()),
        })?;
        let mut opening = Opening::new(&*disk, &options).map_err(&unavailable)?;
        let epochs = opening.epochs(now).map_err(&unavailable)?;
        let Opening { state, problems, markers, readers, losses, .. } = opening;
        let last_wall_ms = state.wall_ms.max(state.vouched_ms);
        let mut outbox = Self {
            _lock: lock,
            epochs,
            writing: Writing::Broken { why: String::new(), full: false, retry_at: Duration::ZERO },
            readers,
            next: None,
            state: StateFile::new(&dir),
            notes: state.notes,
            vouched_ms: state.vouched_ms,
            book: LossBook::new(state.losses),
            told: BTreeMap::new(),
            owed: Vec::new(),
            markers,
            other_bytes: 0,
            redraws: VecDeque::new(),
            fresh_losses: Vec::new(),
            problems,
            commits: 0,
            failures: 0,
            save_failed: false,
            half_made: false,
            unended: None,
            unsaved: true,
            last_save: now.mono,
            last_survey: now.mono,
            last_maintained: None,
            ages_from: now.mono + super::retain::STEP_DISTRUST,
            disk,
            options,
        };
        for loss in losses {
            outbox.book.add(loss);
        }
        outbox.start(now);
        let opened = Opened {
            epochs: outbox.epochs(),
            epoch: outbox.epoch(),
            next_seq: outbox.next_seq(),
            losses: outbox.losses().to_vec(),
            problems: outbox.take_problems(),
            last_wall_ms,
            notes: outbox.notes.clone(),
        };
        outbox.fresh_losses.clear();
        Ok((outbox, opened))
    }

    /// A segment to append to, and what was found out made durable.
    fn start(&mut self, now: Now) {
        self.survey();
        self.make_room(0);
        if self.recover(now).is_err() {
            // The reason is among the problems; appending is tried again later.
            return;
        }
        self.save_or_say(now);
        self.survey();
    }
}

impl<'a> Opening<'a> {
    fn new(disk: &'a dyn Disk, options: &'a Options) -> Result<Self, Fault> {
        let mut opening = Self {
            disk,
            options,
            state: State::default(),
            state_known: false,
            problems: Vec::new(),
            markers: Vec::new(),
            readers: Vec::new(),
            losses: Vec::new(),
        };
        match state::load(disk, &options.dir) {
            Ok(state::Loaded::Nothing) => {}
            Ok(state::Loaded::State(state)) => {
                opening.state = *state;
                opening.state_known = true;
            }
            Ok(state::Loaded::Unreadable(why)) => opening.set_state_aside(&why),
            // An error of the disk: the directory itself may still do.
            Err(fault) => opening.set_state_aside(&fault.to_string()),
        }
        Ok(opening)
    }

    fn set_state_aside(&mut self, why: &str) {
        let path = self.options.dir.join(names::STATE);
        let aside = path.with_extension("corrupt");
        let moved = self.disk.rename(&path, &aside).and_then(|()| self.disk.sync_dir(&self.options.dir));
        let done = if moved.is_ok() { format!("set aside as {}", aside.display()) } else { "left".into() };
        self.problems.push(format!(
            "{} is unreadable ({why}), {done}: records may be sent twice, and what is absent is declared lost",
            path.display()
        ));
    }

    /// All epochs, oldest first, the last one fit to be appended to.
    fn epochs(&mut self, now: Now) -> Result<Vec<Epoch>, Fault> {
        let dirs = self.directories()?;
        let highest = dirs.iter().map(|name| name.ordinal).max().unwrap_or(0);
        let mut found = Vec::new();
        for name in dirs.into_iter().filter(|name| name.format == names::FORMAT) {
            found.extend(self.epoch(name)?);
        }
        self.remembered_only(&mut found);
        found.sort_by_key(|(epoch, _)| epoch.ordinal);
        let highest = found.last().map_or(0, |(epoch, _)| epoch.ordinal).max(highest);
        let fit = found
            .last()
            .is_some_and(|(last, end)| last.ordinal == highest && *end == End::Known && !self.is_cloned(last));
        if let Some((last, end)) = found.last().filter(|_| !fit) {
            let why = match end {
                End::Unknown(why) => why.as_str(),
                End::Known if self.is_cloned(last) => "the hardware is not the one it was made on",
                End::Known => "a newer version wrote here since",
            };
            self.problems.push(format!("epoch {} is not continued ({why}): a new epoch begins", last.id));
        }
        self.declare_open_ends(&found);
        let in_doubt = |(epoch, end)| Epoch { in_doubt: matches!(end, End::Unknown(_)), ..epoch };
        let mut epochs: Vec<Epoch> = found.into_iter().map(in_doubt).collect();
        if !fit {
            let prev = epochs.last().map(|e| e.id);
            epochs.push(Epoch::mint(self.options, highest + 1, prev, now));
        }
        Ok(epochs)
    }

    /// Where an epoch ends in doubt, seqs may be gone that nothing here knows of. Said once: as soon as the state
    /// knows a later epoch, it knows this loss too.
    fn declare_open_ends(&mut self, found: &[(Epoch, End)]) {
        let saved = self.state.epochs.iter().map(|e| e.ordinal).max().unwrap_or(0);
        for (epoch, end) in found {
            if matches!(end, End::Unknown(_)) && epoch.ordinal >= saved {
                let (reason, count) = (LossReason::Corrupt, 0);
                self.losses.push(Loss { epoch: epoch.id, from: epoch.next, to: None, count, reason, t0: 0, t1: 0 });
            }
        }
    }

    fn is_cloned(&self, last: &Epoch) -> bool {
        let (then, now) = (&last.fingerprint, &self.options.fingerprint);
        !then.is_empty() && !now.is_empty() && then != now
    }

    /// The epoch directories, in order. Left-overs are removed; what is newer or foreign is left alone and named.
    fn directories(&mut self) -> Result<Vec<EpochName>, Fault> {
        let root = &self.options.dir;
        let mut dirs = Vec::new();
        for Entry { name, is_dir, .. } in self.disk.list(root)? {
            match names::parse_epoch_dir(&name).filter(|_| is_dir) {
                Some(epoch) if epoch.format > names::FORMAT => {
                    self.problems.push(format!(
                        "{} was written by a newer version: left untouched, its records are sent after an upgrade",
                        root.join(&name).display()
                    ));
                    dirs.push(epoch);
                }
                Some(epoch) if epoch.format == names::FORMAT => dirs.push(epoch),
                _ if name == names::TEMP => drop(self.disk.unlink(&root.join(&name))),
                _ if is_ours(&name) => {}
                _ => self.problems.push(format!("{} is not ours: left alone", root.join(&name).display())),
            }
        }
        dirs.sort_by_key(|name| (name.ordinal, name.epoch));
        Ok(dirs)
    }

    /// Epochs that the state knows and the directory does not hold any more.
    fn remembered_only(&mut self, epochs: &mut Vec<(Epoch, End)>) {
        let known: Vec<u64> = epochs.iter().map(|(e, _)| e.id).collect();
        let missing: Vec<EpochState> =
            self.state.epochs.iter().filter(|e| !known.contains(&e.epoch)).cloned().collect();
        for state in missing {
            let mut epoch = Epoch {
                id: state.epoch,
                ordinal: state.ordinal,
                prev: state.prev,
                created: state.created,
                fingerprint: String::new(),
                dir: self.options.dir.join(names::epoch_dir(state.ordinal, state.epoch)),
                segments: BTreeMap::new(),
                next: state.next,
                ledger: state.ledger(),
                in_doubt: false,
                saved: RangeSet::new(),
            };
            epoch.saved = epoch.ledger.done().clone();
            self.declare_absent(&mut epoch);
            epochs.push((epoch, End::Unknown("its directory is gone".into())));
        }
    }
}

fn is_ours(name: &str) -> bool {
    let aside = Path::new(names::STATE).with_extension("corrupt");
    // The agent's sockets live here too.
    [names::STATE, names::HOST_ID, names::LOCK, names::QUARANTINE, "host-id.tmp"].contains(&name)
        || names::SOCKETS.contains(&name)
        || aside == Path::new(name)
}
