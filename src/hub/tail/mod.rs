//! `holdover-hub tail`: listens, shows, and tells at the end whether anything is missing.
//!
//! Owns the loop between connection, observer and output, and when it ends. A message is acknowledged to the broker
//! after its lines were written out. Bounded: what is not written waits in a short queue, and when that is full no
//! more is read from the connection.

mod options;
mod output;
mod table;

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, Write};
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

pub use self::options::{Options, Report, Show, TailError};
use self::output::{Output, Piece};
use self::table::Table;
use super::line::Line;
use super::link::{Link, LinkError, LinkEvent};
use super::observer::Observer;
use super::repeats::Repeats;
use super::summary::{Run, Summary};
use super::text::json_line;
use crate::clock;
use crate::uplink::transport::{AckToken, Received};

/// Messages taken and not yet handed to the output; as many as the broker may send without an acknowledgement, and
/// then some that need none.
const WAITING: usize = 64;
/// Bytes of lines that wait for the reader; above it no more is taken. One message adds at most some 40 MiB: 4 MiB
/// of records, each written with its host and topic.
const UNWRITTEN: usize = 16 << 20;
/// For a piece that is left to write and for the broker, at the end.
const LAST_WORDS: Duration = Duration::from_secs(2);
const REDRAW: Duration = Duration::from_millis(250);

/// Listens until `stop`, the count or the duration; writes to `to`.
pub async fn run(
    options: Options,
    to: impl Write + Send + 'static,
    stop: impl Future<Output = ()>,
) -> Result<Report, TailError> {
    let output = Output::start(to).map_err(|e| TailError::Output(e.to_string()))?;
    let mut tail = Tail::new(options, output);
    tokio::pin!(stop);
    let end = loop {
        let wake = tail.wake(stop.as_mut()).await;
        match tail.handle(wake) {
            Ok(None) => {}
            Ok(Some(end)) => break end,
            Err(error) => {
                tail.leave_table().await;
                return Err(error);
            }
        }
    };
    tail.finish(end).await
}

/// What is known once a piece is written.
#[derive(Debug)]
struct Written {
    bytes: usize,
    ack: Option<AckToken>,
}

#[derive(Debug)]
enum Wake {
    Link(LinkEvent),
    /// The output has room for a piece.
    Room,
    Written(Option<io::Result<Written>>),
    Redraw,
    NotConnected,
    TimeIsUp,
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Asked,
    ReaderGone,
}

struct Tail {
    options: Options,
    observer: Observer,
    link: Link,
    output: Output<Written>,
    waiting: VecDeque<Piece<Written>>,
    /// Pieces with the output's thread.
    writing: usize,
    /// Bytes that wait, with the thread or before it.
    unwritten: usize,
    table: Option<Table>,
    redraw: Interval,
    started: Instant,
    /// The time is up, but a gap is open that may yet be filled.
    lingers: bool,
    shown: u64,
    discarded: u64,
    repeats: Repeats,
    last_failure: String,
}

impl Tail {
    fn new(options: Options, output: Output<Written>) -> Self {
        let mut redraw = interval(REDRAW);
        redraw.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let now = clock::now();
        let seed = now.mono.as_nanos() as u64 ^ u64::from(std::process::id()).rotate_left(32);
        let table = match options.show {
            Show::Table { color } => Some(Table::new(color, options.link.url.to_string())),
            Show::Lines { .. } => None,
        };
        let mut tail = Self {
            observer: Observer::new(&options.prefix, options.filter.clone(), options.alone),
            link: Link::new(seed),
            output,
            waiting: VecDeque::new(),
            writing: 0,
            unwritten: 0,
            redraw,
            started: Instant::now(),
            lingers: false,
            shown: 0,
            discarded: 0,
            repeats: Repeats::default(),
            last_failure: "not connected yet".to_owned(),
            table,
            options,
        };
        if tail.table.is_some() {
            tail.write(table::ENTER.as_bytes().to_vec(), None);
        }
        tail
    }

    async fn wake(&mut self, stop: Pin<&mut impl Future<Output = ()>>) -> Wake {
        let hour = Duration::from_secs(3600);
        let ends = self.started + self.options.duration.unwrap_or(hour);
        let gives_up = self.started + self.options.connect_within.unwrap_or(hour);
        let keeps_up = self.waiting.len() < WAITING && self.unwritten < UNWRITTEN;
        tokio::select! {
            () = stop => Wake::Stop,
            () = sleep_until(ends), if self.options.duration.is_some() && !self.lingers => Wake::TimeIsUp,
            () = sleep_until(ends + self.options.linger), if self.lingers => Wake::Stop,
            () = sleep_until(gives_up), if self.options.connect_within.is_some() && !self.link.ever_listened => {
                Wake::NotConnected
            }
            written = self.output.written.recv() => Wake::Written(written),
            _ = self.output.pieces.reserve(), if !self.waiting.is_empty() => Wake::Room,
            event = self.link.next(&self.options.link), if keeps_up => Wake::Link(event),
            _ = self.redraw.tick(), if self.table.is_some() => Wake::Redraw,
        }
    }

    fn handle(&mut self, wake: Wake) -> Result<Option<End>, TailError> {
        match wake {
            Wake::Link(event) => self.link_event(event),
            Wake::Room => {
                self.hand_over();
                Ok(None)
            }
            Wake::Written(written) => self.written(written),
            Wake::Redraw => {
                self.draw();
                Ok(None)
            }
            Wake::NotConnected => Err(LinkError::Unavailable(self.last_failure.clone()).into()),
            Wake::TimeIsUp => {
                self.lingers = !self.options.linger.is_zero() && self.observer.has_open_gaps();
                Ok(if self.lingers { None } else { Some(End::Asked) })
            }
            Wake::Stop => Ok(Some(End::Asked)),
        }
    }

    fn link_event(&mut self, event: LinkEvent) -> Result<Option<End>, TailError> {
        match event {
            LinkEvent::Message(received) => return Ok(self.message(received)),
            LinkEvent::Connected { resumed } => {
                if self.link.connections > 1 && !resumed {
                    self.say("connected again, but the broker kept nothing for us: what it delivered meanwhile shows as gaps");
                }
            }
            LinkEvent::Listening { missing } => {
                self.repeats.over();
                self.say(&format!("listening on {}", self.options.link.url));
                if !missing.is_empty() {
                    self.say(&format!("the broker refused {}: going on without", missing.join(", ")));
                }
            }
            LinkEvent::Discarded { count, why } => {
                self.discarded += count;
                self.say_sometimes(&format!("messages dropped: {why}"), "");
            }
            LinkEvent::Down { why, wait } => {
                self.say_sometimes(&why, &format!("; trying again in {:.1} s", wait.as_secs_f64()));
                self.last_failure = why;
            }
            LinkEvent::Failed(error) => return Err(error.into()),
            LinkEvent::Acked { .. } => {}
        }
        if let Some(table) = &mut self.table {
            table.listening = self.link.listening;
        }
        Ok(None)
    }

    fn message(&mut self, received: Received) -> Option<End> {
        let Received { topic, payload, retain, ack, .. } = received;
        let now = clock::now();
        let lines = self.observer.take(&topic, &payload, retain, now);
        let mut bytes = Vec::new();
        let mut end = None;
        for line in lines {
            if let Line::Record(_) = line {
                self.shown += 1;
                end = self.options.count.filter(|&count| self.shown >= count).map(|_| End::Asked);
            }
            match &mut self.table {
                Some(table) => table.push(&line, now),
                None => json_line(&line, &mut bytes),
            }
            if end.is_some() {
                break;
            }
        }
        if self.lingers && !self.observer.has_open_gaps() {
            end = Some(End::Asked);
        }
        if self.table.is_some() {
            ack.into_iter().for_each(|token| self.link.ack(token));
        } else {
            // Also when there is nothing to write: acknowledgements keep the order of arrival.
            self.write(bytes, ack);
        }
        end
    }

    fn write(&mut self, bytes: Vec<u8>, ack: Option<AckToken>) {
        self.unwritten += bytes.len();
        let then = Written { bytes: bytes.len(), ack };
        self.waiting.push_back(Piece { bytes, then });
        self.hand_over();
    }

    /// Gives the output what it has room for.
    fn hand_over(&mut self) {
        while let Ok(permit) = self.output.pieces.try_reserve() {
            let Some(piece) = self.waiting.pop_front() else { return };
            permit.send(piece);
            self.writing += 1;
        }
    }

    fn written(&mut self, written: Option<io::Result<Written>>) -> Result<Option<End>, TailError> {
        match written {
            Some(Ok(Written { bytes, ack })) => {
                self.writing -= 1;
                self.unwritten -= bytes;
                ack.into_iter().for_each(|token| self.link.ack(token));
                Ok(None)
            }
            Some(Err(e)) if e.kind() == io::ErrorKind::BrokenPipe => Ok(Some(End::ReaderGone)),
            Some(Err(e)) => Err(TailError::Output(e.to_string())),
            None => Err(TailError::Output("its thread has ended".to_owned())),
        }
    }

    fn draw(&mut self) {
        if self.writing > 0 || !self.waiting.is_empty() {
            // A slow terminal: the next frame will do.
            return;
        }
        if let Some(table) = &self.table {
            let frame = table.frame(&self.observer, self.started.elapsed(), clock::now());
            self.write(frame.into_bytes(), None);
        }
    }

    fn say(&mut self, text: &str) {
        match &mut self.table {
            Some(table) => table.note(text, clock::now()),
            None => tracing::info!("{text}"),
        }
    }

    /// Says `what` when it is news, else now and then with the number of times.
    fn say_sometimes(&mut self, what: &str, detail: &str) {
        if let Some(text) = self.repeats.say(what, detail, clock::now().mono) {
            self.say(&text);
        }
    }

    fn summary(&self) -> Summary {
        let run = Run {
            seconds: self.started.elapsed().as_secs(),
            connections: self.link.connections,
            discarded: self.discarded,
        };
        Summary::of(&self.observer, run)
    }

    async fn finish(mut self, mut end: End) -> Result<Report, TailError> {
        if !self.link.ever_listened && end == End::Asked {
            self.leave_table().await;
            return Err(LinkError::Unavailable(self.last_failure).into());
        }
        let summary = self.summary();
        if self.options.show == (Show::Lines { summary: true }) {
            let mut bytes = Vec::new();
            json_line(&Line::Summary(Box::new(summary.clone())), &mut bytes);
            self.write(bytes, None);
        }
        if end == End::Asked {
            end = self.flush().await?;
        }
        self.leave_table().await;
        self.link.disconnect(&self.options.link, LAST_WORDS).await;
        Ok(Report { summary, reader_gone: end == End::ReaderGone })
    }

    /// Writes out what waits, and acknowledges it; a reader that reads nothing for a while is not waited for.
    async fn flush(&mut self) -> Result<End, TailError> {
        while self.writing > 0 || !self.waiting.is_empty() {
            self.hand_over();
            let Ok(written) = tokio::time::timeout(LAST_WORDS, self.output.written.recv()).await else {
                let left = self.waiting.len() + self.writing;
                tracing::warn!("standard output is not read; {left} messages were not written out");
                break;
            };
            if self.written(written)? == Some(End::ReaderGone) {
                return Ok(End::ReaderGone);
            }
        }
        Ok(End::Asked)
    }

    async fn leave_table(&mut self) {
        if self.table.take().is_some() {
            self.write(table::LEAVE.as_bytes().to_vec(), None);
            // The terminal is gone if this fails.
            self.flush().await.ok();
        }
    }
}
