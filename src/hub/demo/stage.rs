//! The script of the show, and everything that runs in it.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::{Instant, sleep};

use super::account::{self, Books, Row, Seqs, count, text};
use super::agents::{self, Agent, Stored};
use super::broker::{self, Broker, HUB, Thief};
use super::certificates::Authority;
use super::front::{self, Guests};
use super::gate::Gate;
use super::listener::Listener;
use super::screen::{Doing, Screen, Shown};
use super::{Options, Script, Unread, Verdict, room};
use crate::clock;
use crate::hub::text::grouped;

pub(super) const HOSTS: [&str; 3] = ["demo-a", "demo-b", "demo-c"];
/// The one that is killed, and the one that is stolen from.
const VICTIM: usize = 1;
const TICK: Duration = Duration::from_millis(250);
/// For everything that should take a moment, and may take longer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// For the last records and losses to arrive after the agents have gone.
const SETTLE: Duration = Duration::from_secs(3);

pub(super) struct Stage {
    screen: Screen,
    began: Instant,
    broker: Broker,
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
    pub async fn build(dir: &Path, options: Options, screen: Screen, began: Instant) -> anyhow::Result<Self> {
        let certificates = dir.join("certificates");
        std::fs::create_dir(&certificates).with_context(|| format!("cannot create {}", certificates.display()))?;
        let authority = Authority::new(certificates)?;
        let (guests, thief) = (Guests::default(), Thief::default());
        let broker = broker::start(guests.clone(), thief.clone()).await?;
        let front = front::start(&authority, guests, broker.address).await?;
        let gate = Gate::start(front).await.context("cannot listen on 127.0.0.1")?;
        let listener = Listener::start(front.port(), authority.tls_files(authority.client(HUB)?))?;
        let pace = room::pace(Script::new(options.seconds));
        let mut agents = Vec::new();
        for host in HOSTS {
            let identity = authority.client(host)?;
            agents.push(Agent::new(dir.join(host), host, gate.port, &authority.ca, &identity, pace)?);
        }
        Ok(Self {
            screen,
            began,
            broker,
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

    pub async fn play(&mut self, script: Script) -> anyhow::Result<Verdict> {
        self.open(script).await?;
        self.outage(script).await?;
        self.drain(script).await?;
        self.watch(script.encore).await?;
        let stored = self.end().await?;
        self.account(&stored)
    }

    /// Ends what still runs, however far the show has come.
    pub async fn strike(mut self) {
        self.screen.leave();
        for agent in &mut self.agents {
            // One that cannot be killed hangs in the kernel; it ends with its standard input when it wakes.
            agent.kill().await.ok();
        }
    }

    async fn open(&mut self, script: Script) -> anyhow::Result<()> {
        self.say("start", "An MQTT 5 broker with mutual TLS and a throw-away CA, a hub that subscribes, and three agents. All on 127.0.0.1; nothing outside a temporary directory is touched.");
        self.wait_for(PATIENCE, "the hub does not get through to the broker", |stage| stage.listener.heard().listening)
            .await?;
        self.agents.iter_mut().try_for_each(Agent::start)?;
        self.wait_for(PATIENCE, "no records arrive from all three agents", |stage| {
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

    async fn drain(&mut self, script: Script) -> anyhow::Result<()> {
        self.update();
        let waiting: u64 = (0..HOSTS.len()).map(|host| self.books(host).waiting()).sum();
        self.listener.heard().start_drain();
        if self.plant_loss {
            self.thief.arm(format!("v1/demo/{}/m/load", HOSTS[VICTIM]));
        }
        self.gate.join();
        self.doing = [Doing::Draining; HOSTS.len()];
        self.say("reconnect", &format!(
            "{} records are waiting. New ones go first; the backlog follows beside them, slowed down to be watched.",
            grouped(waiting)
        ));
        let joined = Instant::now();
        self.wait_for(PATIENCE + script.drain * 3, "the backlog does not arrive", Stage::caught_up).await?;
        self.doing = [Doing::Live; HOSTS.len()];
        let sentence = self.drained(joined.elapsed())?;
        self.say("caught up", &sentence);
        Ok(())
    }

    fn drained(&mut self, took: Duration) -> anyhow::Result<String> {
        let drain = self.listener.heard().drain.take().unwrap_or_default();
        let older = format!("{} older records in {:.0} s.", grouped(drain.history), took.as_secs_f64().ceil());
        match drain.ages.spread() {
            Some((median, most)) => Ok(format!(
                "{older} Meanwhile {} new ones went ahead: {:.1} s old on arrival (median), {:.1} s at most.",
                drain.ages.len(),
                median as f64 / 1000.0,
                most as f64 / 1000.0
            )),
            // In a short show the backlog may be through between two runs.
            None if took < 3 * agents::EVERY => Ok(older),
            None => bail!("no live record arrived while {} older ones did: live did not stay ahead", drain.history),
        }
    }

    /// Whether little enough waits to be on its way; what was stolen never arrives.
    fn caught_up(&mut self) -> bool {
        for host in 0..HOSTS.len() {
            if self.doing[host] == Doing::Draining && self.arrived(host) {
                self.doing[host] = Doing::Live;
            }
        }
        (!self.plant_loss || !self.stolen().is_empty()) && self.doing.iter().all(|doing| *doing == Doing::Live)
    }

    /// Whether all that is stored and can arrive has arrived.
    fn arrived(&self, host: usize) -> bool {
        let gone = if host == VICTIM { count(&self.stolen()) } else { 0 };
        self.books(host).waiting() <= gone
    }

    /// Stops the agents, each when a run has just arrived whole: nothing is then on its way.
    async fn end(&mut self) -> anyhow::Result<Vec<Stored>> {
        self.say(
            "stop",
            "The agents are stopped (SIGTERM). Now every record in their outboxes is looked for at the hub.",
        );
        for host in 0..HOSTS.len() {
            let patience = Instant::now() + 2 * agents::EVERY;
            while Instant::now() < patience && !(self.arrived(host) && self.just_heard(host)) {
                self.look().await?;
            }
            self.agents[host].terminate()?;
        }
        for agent in &mut self.agents {
            agent.goodbye().await?;
        }
        self.doing = [Doing::Stopped; HOSTS.len()];
        let stored =
            self.agents.iter().map(|agent| agents::ended(&agent.outbox())).collect::<anyhow::Result<Vec<_>>>()?;
        let stolen = self.stolen();
        let quiet = Instant::now() + SETTLE;
        while Instant::now() < quiet && self.rows(&stored).iter().any(|(_, row)| row.lost() > 0 && row.silent != stolen)
        {
            self.update();
            self.draw();
            sleep(TICK).await;
        }
        self.listener.stop().await?;
        Ok(stored)
    }

    fn just_heard(&self, host: usize) -> bool {
        let heard = self.listener.heard();
        let last = heard.hosts.get(HOSTS[host]).map_or(0, |known| known.last_ms);
        clock::now().wall_ms.abs_diff(last) < agents::EVERY.as_millis() as u64 / 2
    }

    fn rows(&self, stored: &[Stored]) -> Vec<(&'static str, Row)> {
        let row = |(host, stored): (usize, &Stored)| {
            let Stored { recorded, held, doubts } = stored.clone();
            (HOSTS[host], Books { recorded, held, doubts, ..self.books(host) }.close())
        };
        stored.iter().enumerate().map(row).collect()
    }

    /// The account: whether it is good.
    fn account(&mut self, stored: &[Stored]) -> anyhow::Result<Verdict> {
        let rows = self.rows(stored);
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
            format!("  All {} records on disk are accounted for; none is silently lost. (exit 0)\n", grouped(total))
        } else {
            "  Not every record is accounted for. (exit 1)\n".to_owned()
        });
        Ok(if good { Verdict::Good } else { Verdict::Bad })
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

    async fn wait_for(
        &mut self,
        patience: Duration,
        otherwise: &str,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> anyhow::Result<()> {
        let end = Instant::now() + patience;
        while !done(self) {
            if Instant::now() >= end {
                bail!("{otherwise}, in {} s{}", patience.as_secs(), self.words());
            }
            self.look().await?;
        }
        Ok(())
    }

    /// How the agents' logs end.
    fn words(&self) -> String {
        let words = |agent: &Agent| format!("\nthe log of {} ends:\n{}", agent.host, agent.last_words());
        self.agents.iter().map(words).collect()
    }

    /// Lets a moment pass; whoever has ended in it and should not have ends the show.
    async fn look(&mut self) -> anyhow::Result<()> {
        sleep(TICK).await;
        self.agents.iter_mut().try_for_each(Agent::check)?;
        self.broker.check()?;
        if let Some(why) = &self.listener.heard().failed {
            bail!("the hub lost its broker: {why}");
        }
        match self.screen.closed() {
            Some(why) if why.kind() == io::ErrorKind::BrokenPipe => return Err(Unread.into()),
            Some(why) => bail!("cannot write the output: {why}"),
            None => {}
        }
        self.update();
        self.draw();
        Ok(())
    }

    /// Looks how far the outboxes are; one that is being written to may not be readable now, and will be next time.
    fn update(&mut self) {
        for (agent, recorded) in self.agents.iter_mut().zip(&mut self.recorded) {
            if let Some(seqs) = agent.news()
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
