//! `holdover-hub ingest`: stores every record once, says so to the broker and to the host, and asks for what is missing.
//!
//! Owns the loop between connection, tracker, writer, acknowledgements and questions, and the order in which a message
//! becomes safe: read and judged, committed to sink and ledger, acknowledged to the broker, acknowledged to the host.
//! Bounded: messages that are not committed are at most what the broker may send unacknowledged.

pub mod acks;
mod adopt;
pub mod batch;
pub mod commit;
pub mod desk;
mod housekeeping;
mod options;
mod refused;
pub mod resends;
mod socket;
mod speaking;
mod start;
mod writer;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use self::batch::Item;
use self::commit::Committed;
use self::desk::Desk;
use self::housekeeping::Housekeeping;
pub use self::housekeeping::{NIGHTLY, check_schedule};
pub use self::options::{IngestError, Options};
use self::refused::refused;
use self::socket::{Asked, Socket};
pub use self::socket::{Request, ResendRequest, ask};
use self::start::{Ground, open, settle};
pub use self::start::{begin, remembered};
use self::writer::{Outcome, Writer};
use super::link::{Link, LinkEvent};
use super::read::{Message, read};
use super::repeats::{HostRepeats, Repeats};
use super::tracker::Finding;
use crate::clock::{self, Now};
use crate::uplink::transport::{AckToken, Received};
use crate::wire::{DecodeLimits, Reply, State};

/// Memory of a batch, and of all that is not committed; above it no more is taken from the connection, whose own task goes
/// on with pings and reads what the broker may send without an acknowledgement.
const BATCH_BYTES: usize = 4 << 20;
const WAITING_BYTES: usize = 8 << 20;
/// So many messages are committed before the window ends when no more come: the broker may have reached its own limit.
const ENOUGH: usize = 16;
const QUIET: Duration = Duration::from_millis(5);
/// How often acknowledgements and questions are looked through.
const TICK: Duration = Duration::from_millis(250);
/// For the last commit, and for the broker, at the end.
const LAST_COMMIT: Duration = Duration::from_secs(10);
const LAST_WORDS: Duration = Duration::from_secs(2);
/// For whatever the disk is asked for when the end comes: one that hangs is left.
const LAST_ATTEMPT: Duration = Duration::from_secs(3);
/// Whoever asks, at once.
const ASKING: usize = 8;

/// Runs until `stop`.
pub async fn run(options: Options, stop: impl Future<Output = ()>) -> Result<(), IngestError> {
    let (asked, questions) = mpsc::channel(ASKING);
    let (due, chores) = mpsc::channel(1);
    tokio::pin!(stop);
    let (dir, sink, sink_options) = (options.dir.clone(), options.sink.open, options.sink_options.clone());
    let open = move || open(&dir, || sink(&sink_options));
    let Some((ground, bound)) = settle(open, stop.as_mut()).await? else { return Ok(()) };
    let socket = Socket::serve(bound, asked).map_err(|e| IngestError::Internal(format!("no socket: {e}")))?;
    let housekeeping = Housekeeping::start(&options.housekeeping, due).await?;
    let mut ingest = Ingest::start(options, ground, questions, chores)?;
    let ended = ingest.serve(stop).await;
    housekeeping.end().await;
    ingest.finish().await;
    socket.end(LAST_WORDS).await;
    ended
}

enum Wake {
    Link(LinkEvent),
    Writer(Option<Outcome>),
    Commit,
    Tick,
    Asked(Asked),
    Housekeeping,
    Stop,
}

struct Ingest {
    options: Options,
    limits: DecodeLimits,
    link: Link,
    desk: Desk,
    writer: Writer,
    questions: mpsc::Receiver<Asked>,
    chores: mpsc::Receiver<()>,
    tick: Interval,
    /// What the desk's batch owes the broker, in order.
    owed: Vec<AckToken>,
    bytes: usize,
    first: Option<Instant>,
    latest: Instant,
    /// With the writer: what is owed once it is committed.
    committing: Option<(Vec<AckToken>, usize)>,
    /// The broker is to be told that we are there.
    state_due: bool,
    publishes: u64,
    stalled: Repeats,
    failures: Repeats,
    /// What a host can make us say.
    news: HostRepeats,
}

impl Ingest {
    fn start(
        options: Options,
        Ground { ledger, sink, tracker, sites }: Ground,
        questions: mpsc::Receiver<Asked>,
        chores: mpsc::Receiver<()>,
    ) -> Result<Self, IngestError> {
        let now = clock::now();
        let writer = Writer::start(ledger, sink).map_err(|e| IngestError::Internal(format!("no thread: {e}")))?;
        let seed = now.mono.as_nanos() as u64 ^ u64::from(std::process::id()).rotate_left(32) ^ now.wall_ms as u64;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Ok(Self {
            limits: DecodeLimits { max_bytes: options.link.max_packet as usize, ..DecodeLimits::default() },
            link: Link::new(seed),
            desk: Desk::new(tracker, sites, seed),
            writer,
            questions,
            chores,
            tick,
            owed: Vec::new(),
            bytes: 0,
            first: None,
            latest: Instant::now(),
            committing: None,
            state_due: false,
            publishes: 0,
            stalled: Repeats::default(),
            failures: Repeats::default(),
            news: HostRepeats::default(),
            options,
        })
    }

    /// Until it is told to stop, or cannot go on.
    async fn serve(&mut self, mut stop: Pin<&mut impl Future<Output = ()>>) -> Result<(), IngestError> {
        loop {
            match self.wake(stop.as_mut()).await {
                Wake::Stop => return Ok(()),
                wake => self.handle(wake)?,
            }
        }
    }

    async fn wake(&mut self, stop: Pin<&mut impl Future<Output = ()>>) -> Wake {
        let keeps_up = self.bytes + self.committing.as_ref().map_or(0, |(_, bytes)| *bytes) < WAITING_BYTES;
        let commit = self.commit_at();
        tokio::select! {
            () = stop => Wake::Stop,
            outcome = self.writer.outcomes.recv() => Wake::Writer(outcome),
            () = sleep_until(commit.unwrap_or(self.latest)), if commit.is_some() => Wake::Commit,
            event = self.link.next(&self.options.link), if keeps_up => Wake::Link(event),
            Some(asked) = self.questions.recv() => Wake::Asked(asked),
            Some(()) = self.chores.recv() => Wake::Housekeeping,
            _ = self.tick.tick(), if self.has_to_say() => Wake::Tick,
        }
    }

    /// When what waits is to be committed; `None` while the writer is busy or nothing waits.
    fn commit_at(&self) -> Option<Instant> {
        let first = self.first.filter(|_| self.committing.is_none())?;
        if self.bytes >= BATCH_BYTES || self.owed.len() >= usize::from(self.options.link.receive_max) {
            return Some(first);
        }
        let window = first + self.options.window;
        Some(if self.owed.len() >= ENOUGH { window.min(self.latest + QUIET) } else { window })
    }

    fn has_to_say(&self) -> bool {
        self.link.listening && (self.state_due || !self.desk.acks.is_empty() || !self.desk.resends.is_empty())
    }

    fn handle(&mut self, wake: Wake) -> Result<(), IngestError> {
        match wake {
            Wake::Link(event) => return self.link_event(event),
            Wake::Writer(Some(Outcome::Committed(committed))) => self.committed(committed),
            Wake::Writer(Some(Outcome::Stalled { why, wait })) => self.stalled(&why, wait),
            Wake::Writer(None) => return Err(IngestError::Internal("the writer's thread has ended".to_owned())),
            Wake::Commit => self.commit(),
            Wake::Tick => self.speak(),
            Wake::Asked(asked) => self.asked(asked),
            Wake::Housekeeping => self.writer.keep_house(&self.options.dir, self.options.forget_after),
            Wake::Stop => {}
        }
        Ok(())
    }

    fn link_event(&mut self, event: LinkEvent) -> Result<(), IngestError> {
        match event {
            LinkEvent::Message(received) => self.message(received),
            LinkEvent::Acked { token, code } => self.answered(token, code),
            LinkEvent::Connected { resumed } => {
                if self.link.connections > 1 && !resumed {
                    tracing::info!("connected again, but the broker kept nothing for us: what is missing is asked for");
                }
            }
            LinkEvent::Listening { missing } => {
                self.failures.over();
                tracing::info!("listening on {}", self.options.link.url);
                if !missing.is_empty() {
                    tracing::warn!("the broker refused {}: answers to our commands are not seen", missing.join(", "));
                }
                self.state_due = true;
                self.speak();
            }
            LinkEvent::Discarded { count, why } => tracing::warn!("{count} messages dropped: {why}"),
            LinkEvent::Down { why, wait } => {
                self.desk.acks.disconnected();
                // Tokens of a lost connection acknowledge nothing: what they are of comes again.
                self.owed.clear();
                self.committing.iter_mut().for_each(|(owed, _)| owed.clear());
                let detail = format!("; trying again in {:.1} s", wait.as_secs_f64());
                self.failures.say(&why, &detail, clock::now().mono).inspect(|text| tracing::warn!("{text}"));
            }
            LinkEvent::Failed(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn message(&mut self, received: Received) {
        let Received { topic, payload, retain, ack, .. } = received;
        let now = clock::now();
        self.latest = Instant::now();
        // Also for what is not used: acknowledgements keep the order of arrival.
        self.owed.extend(ack);
        self.first.get_or_insert(self.latest);
        let before = self.desk.batch.items.len();
        match read(&self.options.prefix, &topic, &payload, retain, &self.limits) {
            Ok(Some(Message::Data { envelope, proof, .. })) => {
                let host = envelope.host.clone();
                report(&mut self.news, &host, &self.desk.data(envelope, topic, proof, now), now);
            }
            Ok(Some(Message::Online(status))) => {
                let host = status.host.clone();
                report(&mut self.news, &host, &self.desk.online(status, retain, now), now);
            }
            Ok(Some(Message::Offline { host, session, .. })) => self.desk.offline(host, session),
            Ok(Some(Message::Reply { host, hub, reply })) if hub == self.options.hub => self.replied(&host, &reply),
            Ok(_) => {}
            Err(bad) => {
                let text = refused(&mut self.news, &bad, &topic, payload.len(), now.mono);
                text.inspect(|text| tracing::warn!("{text}"));
            }
        }
        self.bytes += self.desk.batch.items[before..].iter().map(Item::held).sum::<usize>();
    }

    fn replied(&mut self, host: &str, reply: &Reply) {
        if !reply.ok && self.desk.resends.is_ours(&reply.id) {
            let why = reply.message.as_deref().unwrap_or("it does not say why");
            let text = self.news.say(host, "the host does not send again what it was asked for", clock::now().mono);
            text.inspect(|text| tracing::warn!(host, why = super::text::shown(why, 200), "{text}"));
        }
    }

    fn commit(&mut self) {
        match self.writer.commit(std::mem::take(&mut self.desk.batch)) {
            Ok(()) => {
                self.committing = Some((std::mem::take(&mut self.owed), std::mem::take(&mut self.bytes)));
                self.first = None;
            }
            // The writer is slow and has questions to answer: once more after another window.
            Err(batch) => {
                self.desk.batch = batch;
                self.first = Some(Instant::now() + self.options.window);
            }
        }
    }

    fn committed(&mut self, committed: Committed) {
        let Committed { stored, duplicates, acks, forgot } = committed;
        tracing::debug!(stored, duplicates, "committed");
        self.stalled.over();
        let now = clock::now().mono;
        for ((host, what), epoch) in forgot {
            let text = self.news.say(&host, what.text(), now);
            text.inspect(|text| tracing::warn!(host, epoch, "{text}"));
        }
        let (owed, _) = self.committing.take().unwrap_or_default();
        owed.into_iter().for_each(|token| self.link.ack(token));
        acks.into_iter().for_each(|ack| self.desk.acks.add(ack));
        self.speak();
    }

    fn stalled(&mut self, why: &str, wait: Duration) {
        let detail = format!("; trying again in {:.1} s", wait.as_secs_f64());
        self.stalled.say(why, &detail, clock::now().mono).inspect(|text| tracing::error!("{text}"));
    }

    /// Commits what waits, says goodbye, and leaves the rest with the broker.
    async fn finish(mut self) {
        let deadline = Instant::now() + LAST_COMMIT;
        while self.committing.is_some() || self.first.is_some() {
            if self.committing.is_none() {
                self.commit();
            }
            match tokio::time::timeout_at(deadline, self.writer.outcomes.recv()).await {
                Ok(Some(Outcome::Committed(committed))) => self.committed(committed),
                _ => break,
            }
        }
        if self.link.listening {
            self.publish_state(State::Offline, clock::now());
            self.flush().await;
        }
        self.link.disconnect(&self.options.link, LAST_WORDS).await;
        if !self.writer.end(LAST_ATTEMPT).await {
            tracing::warn!("the disk does not answer: ending without it; what is not committed comes again");
        }
    }

    /// Waits until the broker has what we published, or for a while.
    async fn flush(&mut self) {
        let deadline = Instant::now() + LAST_WORDS;
        while self.link.in_flight() > 0 {
            match tokio::time::timeout_at(deadline, self.link.next(&self.options.link)).await {
                Ok(LinkEvent::Down { .. } | LinkEvent::Failed(_)) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}

/// What an operator should know of a host, which can bring about any number of it.
fn report(news: &mut HostRepeats, host: &str, findings: &[Finding], now: Now) {
    let mut confirmed = 0;
    let mut say = |what| news.say(host, what, now.mono);
    for finding in findings {
        match finding {
            Finding::NewEpoch { epoch, previous: Some(previous) } => {
                let text = say("the host has a new outbox");
                text.inspect(|text| tracing::info!(host, epoch, previous, "{text}"));
            }
            Finding::Confirmed { seqs, .. } => confirmed += seqs.end() - seqs.start() + 1,
            Finding::Bound(bound) => {
                let text = say("the memory for tracking is full: some gaps are not asked for");
                text.inspect(|text| tracing::warn!(host, ?bound, "{text}"));
            }
            _ => {}
        }
    }
    if confirmed > 0 {
        let text = say("missing, and two heartbeats neither promised nor declared them");
        text.inspect(|text| tracing::warn!(host, records = confirmed, "{text}"));
    }
}
