//! `holdover-hub demo`: the whole system on this host, an outage, a kill, and an account of every record.
//!
//! This file is the script of the show. Nothing in it is played: the broker, the agents (processes), their outboxes
//! and the hub are real, and the account compares what the outboxes hold with what arrived. A rim: the one place of
//! the subscriber side that knows the outbox, by its inspection, and no part of the agent.

mod account;
mod agents;
mod broker;
mod certificates;
mod front;
mod gate;
mod listener;
mod screen;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use self::account::{Books, Row, Seqs, count, text};
use self::agents::Agent;
pub use self::agents::SUBCOMMAND;
use self::broker::{HUB, Thief};
use self::certificates::Authority;
use self::front::Guests;
use self::gate::Gate;
use self::listener::Listener;
use self::screen::{Doing, Screen, Shown, Style};

const HOSTS: [&str; 3] = ["demo-a", "demo-b", "demo-c"];
/// The one that is killed, and the one that is stolen from.
const VICTIM: usize = 1;
const TICK: Duration = Duration::from_millis(250);
/// For everything that should take a moment, and may take longer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// For the last records and losses to arrive after the agents have gone.
const SETTLE: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long the show takes, about.
    pub seconds: u64,
    pub keep: bool,
    pub plant_loss: bool,
    pub terminal: bool,
    pub color: bool,
}

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

/// Plays the show to its end: whether every record is accounted for.
pub async fn run(options: Options) -> anyhow::Result<bool> {
    let mut dir = tempfile::Builder::new().prefix("holdover-demo-").tempdir().context("no temporary directory")?;
    dir.disable_cleanup(options.keep);
    let began = Instant::now();
    let screen = Screen::new(Style { terminal: options.terminal, color: options.color });
    let mut stage = Stage::build(&dir, options, screen, began).await?;
    let played = stage.play(Script::new(options.seconds)).await;
    stage.screen.clear();
    let good = match played {
        Ok(()) => stage.finish().await,
        Err(error) => Err(error),
    };
    if options.keep {
        stage.screen.plain(&kept(dir.path()));
    }
    good
}

fn kept(dir: &Path) -> String {
    let config = dir.join(HOSTS[0]).join("holdover.toml");
    format!(
        "\n  Kept: {}\n  Look into an outbox:  cargo run --bin holdover -- outbox verify --config {}\n",
        dir.display(),
        config.display()
    )
}

/// Everything that runs.
struct Stage {
    screen: Screen,
    began: Instant,
    gate: Gate,
    thief: Thief,
    plant_loss: bool,
    agents: Vec<Agent>,
    listener: Listener,
    /// As read from the outboxes last.
    recorded: Vec<Seqs>,
    doing: [Doing; HOSTS.len()],
    most: u64,
}

impl Stage {
    async fn build(dir: &TempDir, options: Options, screen: Screen, began: Instant) -> anyhow::Result<Self> {
        let certificates = dir.path().join("certificates");
        std::fs::create_dir(&certificates).with_context(|| format!("cannot create {}", certificates.display()))?;
        let authority = Authority::new(certificates)?;
        let (guests, thief) = (Guests::default(), Thief::default());
        let broker = broker::start(guests.clone(), thief.clone()).await?;
        let front = front::start(&authority, guests, broker).await?;
        let gate = Gate::start(front).await.context("cannot listen on 127.0.0.1")?;
        let listener = Listener::start(front.port(), authority.tls_files(authority.client(HUB)?))?;
        let pace = pace(Script::new(options.seconds));
        let mut agents = Vec::new();
        for host in HOSTS {
            let identity = authority.client(host)?;
            agents.push(Agent::new(dir.path().join(host), host, gate.port, &authority.ca, &identity, pace)?);
        }
        Ok(Self {
            screen,
            began,
            gate,
            thief,
            plant_loss: options.plant_loss,
            agents,
            listener,
            recorded: vec![Seqs::new(); HOSTS.len()],
            doing: [Doing::Starting; HOSTS.len()],
            most: 0,
        })
    }

    async fn play(&mut self, script: Script) -> anyhow::Result<()> {
        self.open(script).await?;
        self.outage(script).await?;
        self.drain().await?;
        self.watch(script.encore).await?;
        self.end().await
    }

    async fn open(&mut self, script: Script) -> anyhow::Result<()> {
        self.say("start", "An MQTT 5 broker with mutual TLS and a throw-away CA, a hub that subscribes, and three agents. All on 127.0.0.1; nothing outside a temporary directory is touched.");
        self.wait_for("the hub does not get through to the broker", |stage| stage.listener.heard().listening).await?;
        self.agents.iter_mut().try_for_each(Agent::start)?;
        self.wait_for("no records arrive from all three agents", |stage| {
            let heard = stage.listener.heard();
            HOSTS.iter().all(|host| heard.hosts.contains_key(*host))
        })
        .await?;
        self.doing = [Doing::Live; HOSTS.len()];
        self.say("live", "Each agent measures this host every second, stores the records in its outbox on disk (fsync), then sends them.");
        self.watch(script.live).await
    }

    async fn outage(&mut self, script: Script) -> anyhow::Result<()> {
        self.gate.cut();
        self.doing = [Doing::CutOff; HOSTS.len()];
        self.say(
            "cut",
            "The connection to the broker is cut. The agents go on measuring; records wait in their outboxes.",
        );
        self.watch(script.until_kill).await?;

        let victim = &mut self.agents[VICTIM];
        let pid = victim.pid().unwrap_or_default();
        victim.kill().await?;
        self.doing[VICTIM] = Doing::Killed;
        self.say(
            "kill -9",
            &format!("{} (pid {pid}) is killed: no goodbye, nothing saved on the way out.", HOSTS[VICTIM]),
        );
        self.watch(script.until_restart).await?;

        self.agents[VICTIM].start()?;
        self.doing[VICTIM] = Doing::CutOff;
        self.say(
            "restart",
            &format!("{} starts again on the outbox it left, and goes on where its records end.", HOSTS[VICTIM]),
        );
        self.watch(script.until_join).await
    }

    async fn drain(&mut self) -> anyhow::Result<()> {
        self.update();
        let waiting: u64 = (0..HOSTS.len()).map(|host| self.books(host).waiting()).sum();
        self.listener.heard().start_drain();
        if self.plant_loss {
            self.thief.arm(format!("v1/demo/{}/m/load", HOSTS[VICTIM]));
        }
        self.gate.join();
        self.doing = [Doing::Draining; HOSTS.len()];
        self.say("reconnect", &format!("{waiting} records are waiting. New ones go first; the backlog follows beside them, slowed down to be watched."));
        let joined = Instant::now();
        self.wait_for("the backlog does not arrive", Stage::caught_up).await?;
        let took = joined.elapsed();
        let drain = self.listener.heard().drain.take().unwrap_or_default();
        let Some((median, most)) = drain.ages.spread() else {
            bail!("no live record arrived while {} older ones did: live did not stay ahead", drain.history)
        };
        self.doing = [Doing::Live; HOSTS.len()];
        self.say("caught up", &format!(
            "{} older records in {:.0} s. Meanwhile {} new ones went ahead: {:.1} s old on arrival (median), {:.1} s at most.",
            drain.history, took.as_secs_f64(), drain.ages.len(), median as f64 / 1000.0, most as f64 / 1000.0
        ));
        Ok(())
    }

    /// Whether little enough waits to be on its way; what was stolen never arrives.
    fn caught_up(&mut self) -> bool {
        let stolen = self.stolen();
        for host in 0..HOSTS.len() {
            let gone = if host == VICTIM { count(&stolen) } else { 0 };
            if self.books(host).waiting() <= gone && self.doing[host] == Doing::Draining {
                self.doing[host] = Doing::Live;
            }
        }
        (!self.plant_loss || !stolen.is_empty()) && self.doing.iter().all(|doing| *doing == Doing::Live)
    }

    async fn end(&mut self) -> anyhow::Result<()> {
        self.say(
            "stop",
            "The agents are stopped (SIGTERM). Now every record in their outboxes is looked for at the hub.",
        );
        for agent in &mut self.agents {
            agent.stop().await?;
        }
        self.doing = [Doing::Stopped; HOSTS.len()];
        let quiet = Instant::now() + SETTLE;
        while Instant::now() < quiet {
            self.update();
            if (0..HOSTS.len()).all(|host| self.books(host).waiting() == 0) {
                break;
            }
            self.draw();
            sleep(TICK).await;
        }
        self.listener.stop().await
    }

    /// The account: whether it is good.
    async fn finish(&mut self) -> anyhow::Result<bool> {
        let mut rows: Vec<(&'static str, Row)> = Vec::new();
        for (host, agent) in self.agents.iter().enumerate() {
            let agents::Stored { recorded, held, doubts } = agents::ended(&agent.outbox())?;
            rows.push((agent.host, Books { recorded, held, doubts, ..self.books(host) }.close()));
        }
        self.screen.table(&rows);
        let bad = self.listener.heard().bad;
        if bad > 0 {
            self.screen.plain(&format!("  {bad} messages could not be used by the hub.\n"));
        }
        if self.plant_loss {
            self.screen.plain(&self.planted()?);
        }
        let good = bad == 0 && rows.iter().all(|(_, row)| row.good());
        let total: u64 = rows.iter().map(|(_, row)| row.recorded).sum();
        self.screen.plain(&if good {
            format!("  All {total} records on disk are accounted for; none is silently lost. (exit 0)\n")
        } else {
            "  Not every record is accounted for. (exit 1)\n".to_owned()
        });
        Ok(good)
    }

    /// What the broker was made to swallow, to compare with what the account found.
    fn planted(&self) -> anyhow::Result<String> {
        let stolen = self.stolen();
        if stolen.is_empty() {
            bail!("the loss could not be planted: nothing passed that could be taken");
        }
        Ok(format!(
            "  Planted (--plant-loss): the broker acknowledged one message of {} and delivered it to\n  nobody: {}. The account above has to name it.\n",
            HOSTS[VICTIM],
            text(&stolen)
        ))
    }

    fn stolen(&self) -> Seqs {
        let mut seqs = Seqs::new();
        if let Some(stolen) = self.thief.stolen() {
            stolen.records.iter().for_each(|record| account::insert(&mut seqs, stolen.epoch, record.seq, record.seq));
        }
        seqs
    }

    /// Lets time pass and shows what happens.
    async fn watch(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.look().await?;
        }
        Ok(())
    }

    async fn wait_for(&mut self, otherwise: &str, mut done: impl FnMut(&mut Self) -> bool) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        while !done(self) {
            if Instant::now() >= end {
                bail!("{otherwise}, in {} s", PATIENCE.as_secs());
            }
            self.look().await?;
        }
        Ok(())
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        sleep(TICK).await;
        self.agents.iter_mut().try_for_each(Agent::check)?;
        if let Some(why) = &self.listener.heard().failed {
            bail!("the hub lost its broker: {why}");
        }
        self.update();
        self.draw();
        Ok(())
    }

    /// Reads the outboxes; one that is being written to may not be readable now, and will be next time.
    fn update(&mut self) {
        for (agent, recorded) in self.agents.iter().zip(&mut self.recorded) {
            if let Ok(seqs) = agents::stored(&agent.outbox())
                && count(&seqs) >= count(recorded)
            {
                *recorded = seqs;
            }
        }
    }

    /// What is known of a host now.
    fn books(&self, host: usize) -> Books {
        let heard = self.listener.heard();
        let recorded = self.recorded[host].clone();
        match heard.hosts.get(HOSTS[host]) {
            None => Books { recorded, ..Books::default() },
            Some(known) => Books {
                recorded,
                delivered: known.delivered.clone(),
                declared: known.declared.clone(),
                duplicates: known.duplicates,
                held: Seqs::new(),
                doubts: Vec::new(),
            },
        }
    }

    fn draw(&mut self) {
        if self.doing[0] == Doing::Starting {
            return;
        }
        let mut rows: Vec<Shown> = (0..HOSTS.len()).map(|host| self.shown(host)).collect();
        self.most = rows.iter().map(|row| row.waiting).fold(self.most, u64::max);
        rows.iter_mut().for_each(|row| row.most = self.most);
        self.screen.block(self.began.elapsed(), &rows);
    }

    fn shown(&self, host: usize) -> Shown {
        let books = self.books(host);
        let heard = self.listener.heard();
        let known = heard.hosts.get(HOSTS[host]);
        Shown {
            host: HOSTS[host],
            doing: self.doing[host],
            recorded: count(&books.recorded),
            delivered: count(&books.delivered),
            waiting: books.waiting(),
            most: 0,
            cpu: known.and_then(|known| known.cpu),
            memory: known.and_then(|known| known.memory),
            load: known.and_then(|known| known.load),
        }
    }

    fn say(&mut self, title: &str, sentence: &str) {
        self.screen.say(self.began.elapsed(), title, sentence);
        self.draw();
    }
}

/// Bytes a second at which the backlog of this host's metrics takes about as long as the script wants: one record
/// for each disk and network interface and three more, some 200 bytes each, at every run.
fn pace(script: Script) -> u64 {
    let lines = |path: &str, not: &[&str]| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().filter(|line| not.iter().all(|word| !line.contains(word))).count()
    };
    let records = 3 + lines("/proc/net/dev", &["|"]) + lines("/proc/diskstats", &["loop", "ram"]);
    let per_second = records as f64 * 200.0 / agents::EVERY.as_secs_f64();
    let backlog = per_second * script.outage().as_secs_f64();
    ((backlog / script.drain.as_secs_f64().max(1.0)) as u64).max(2_000)
}
