//! `holdover-hub demo`: the whole system on this host, an outage, a kill, and an account of every record.
//!
//! Nothing in it is played: the broker, the agents (processes), their outboxes and the hub are real, and the account
//! compares what the outboxes hold with what arrived. A rim: the one place of the subscriber side that knows the
//! outbox, by its inspection, and no part of the agent. This file sets the times, and cleans up however it ends.

mod account;
mod agents;
mod broker;
mod certificates;
mod front;
mod gate;
mod listener;
mod room;
mod screen;
mod stage;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;
use tokio::time::Instant;

pub use self::agents::SUBCOMMAND;
use self::screen::{Screen, Style};
use self::stage::{HOSTS, Stage};

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long the show takes, about.
    pub seconds: u64,
    pub keep: bool,
    pub plant_loss: bool,
    pub terminal: bool,
    pub color: bool,
}

/// What the show came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every record is delivered, declared lost or still kept.
    Good,
    Bad,
    /// Asked to end before it was over.
    Interrupted,
    /// It was not over, and there was nobody left to see it.
    Unread,
}

/// Whoever read what is shown has gone.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output")]
struct Unread;

/// When what happens, by the length of the show.
#[derive(Clone, Copy, Debug)]
struct Script {
    live: Duration,
    until_kill: Duration,
    until_restart: Duration,
    until_join: Duration,
    /// What the backlog should take to arrive.
    drain: Duration,
    encore: Duration,
}

impl Script {
    fn new(seconds: u64) -> Self {
        let part = |percent: u32| Duration::from_secs(seconds) * percent / 100;
        Self {
            live: part(15),
            until_kill: part(14),
            until_restart: part(10),
            until_join: part(18),
            drain: part(25),
            encore: part(6),
        }
    }

    fn outage(&self) -> Duration {
        self.until_kill + self.until_restart + self.until_join
    }
}

/// Plays the show to its end, or until `stop` ends. Either way nothing is left running, and nothing on disk that was
/// not to be kept.
pub async fn run(options: Options, stop: impl Future<Output = ()>) -> anyhow::Result<Verdict> {
    let dir = room::directory(options.seconds)?;
    let mut stop = std::pin::pin!(stop);
    let shown = show(&dir, options, stop.as_mut()).await;
    if options.keep {
        let mut screen = Screen::new(style(options));
        screen.plain(&kept(&dir.keep()));
    } else {
        let path = dir.path().to_owned();
        dir.close().with_context(|| format!("cannot remove {}", path.display()))?;
    }
    shown
}

async fn show(dir: &TempDir, options: Options, mut stop: impl Future<Output = ()> + Unpin) -> anyhow::Result<Verdict> {
    let screen = Screen::new(style(options));
    let mut stage = tokio::select! {
        stage = Stage::build(dir.path(), options, screen, Instant::now()) => stage?,
        () = &mut stop => return Ok(Verdict::Interrupted),
    };
    let played = tokio::select! {
        played = stage.play(Script::new(options.seconds)) => played,
        () = stop => Ok(Verdict::Interrupted),
    };
    stage.strike().await;
    match played {
        Err(error) if error.is::<Unread>() => Ok(Verdict::Unread),
        played => played,
    }
}

fn style(options: Options) -> Style {
    Style { terminal: options.terminal, color: options.color }
}

fn kept(dir: &Path) -> String {
    let config = dir.join(HOSTS[0]).join("holdover.toml");
    format!(
        "\n  Kept: {}\n  Look into an outbox:  cargo run --bin holdover -- outbox verify --config {}\n",
        dir.display(),
        config.display()
    )
}
