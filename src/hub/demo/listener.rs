//! The hub of the show: the same connection and judgement as `tail`, writing down what arrives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::account::{Ages, Seqs, insert};
use crate::clock;
use crate::hub::filter::Filter;
use crate::hub::line::{Line, RecordLine, VerdictWord};
use crate::hub::link::{Link, LinkEvent, LinkOptions};
use crate::hub::observer::Observer;
use crate::record::Value;
use crate::uplink::transport::tls::TlsFiles;
use crate::uplink::transport::{BrokerUrl, Received};
use crate::wire::{HubTopics, Lane};

const GOODBYE: Duration = Duration::from_secs(1);

/// What the hub has heard so far.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub listening: bool,
    /// Why nothing more will be heard.
    pub failed: Option<String>,
    pub hosts: BTreeMap<String, HostHeard>,
    /// Ages of live records and number of older ones, since [`Heard::start_drain`].
    pub drain: Option<Drain>,
    /// Messages that could not be used.
    pub bad: u64,
}

#[derive(Debug, Default)]
pub(super) struct HostHeard {
    pub delivered: Seqs,
    pub declared: Seqs,
    pub duplicates: u64,
    /// Of the newest live records.
    pub cpu: Option<f64>,
    pub memory: Option<f64>,
    pub load: Option<f64>,
    /// Wall clock when a record last arrived, ms.
    pub last_ms: i64,
}

#[derive(Debug, Default)]
pub(super) struct Drain {
    pub ages: Ages,
    pub history: u64,
}

impl Heard {
    pub fn start_drain(&mut self) {
        self.drain = Some(Drain::default());
    }

    pub fn take(&mut self, line: &Line, now_ms: i64) {
        match line {
            Line::Record(record) => self.record(record, now_ms),
            Line::Loss(loss) => {
                let host = self.hosts.entry(loss.host.clone()).or_default();
                insert(&mut host.declared, loss.epoch, loss.from, loss.to.unwrap_or(u64::MAX));
            }
            Line::Bad(_) | Line::Bound(_) => self.bad += 1,
            _ => {}
        }
    }

    fn record(&mut self, record: &RecordLine, now_ms: i64) {
        let host = self.hosts.entry(record.host.clone()).or_default();
        host.last_ms = now_ms;
        if record.verdict == Some(VerdictWord::Duplicate) {
            host.duplicates += 1;
            return;
        }
        insert(&mut host.delivered, record.epoch, record.seq, record.seq);
        match (record.lane, &mut self.drain) {
            (Lane::Live, Some(drain)) => drain.ages.push(now_ms - record.ts),
            (Lane::History, Some(drain)) => drain.history += 1,
            (_, None) => {}
        }
        if record.lane == Lane::Live {
            host.newest(record);
        }
    }
}

impl HostHeard {
    fn newest(&mut self, record: &RecordLine) {
        let number = |field: &str| match record.fields.get(field) {
            Some(Value::Float(value)) => Some(*value),
            Some(Value::Int(value)) => Some(*value as f64),
            _ => None,
        };
        match record.name.as_str() {
            "system.cpu" if record.tags.is_empty() => self.cpu = number("utilization").or(self.cpu),
            "system.memory" => self.memory = number("utilization").or(self.memory),
            "system.load" => self.load = number("load_1m").or(self.load),
            _ => {}
        }
    }
}

#[derive(Debug)]
pub(super) struct Listener {
    heard: Arc<Mutex<Heard>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Listener {
    pub fn start(port: u16, tls: TlsFiles) -> anyhow::Result<Self> {
        let options = options(port, tls)?;
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(listen(options, heard.clone(), stopped));
        Ok(Self { heard, stop, task })
    }

    pub fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says goodbye; what was heard stays readable.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        (&mut self.task).await?;
        Ok(())
    }
}

fn options(port: u16, tls: TlsFiles) -> anyhow::Result<LinkOptions> {
    let topics = HubTopics::new("")?;
    let [status, _, event] = topics.host_filters();
    let url = BrokerUrl::parse(&format!("mqtts://localhost:{port}"), false)?;
    Ok(LinkOptions {
        needed: topics.data_filters(None)?.into_iter().chain([status]).collect(),
        wanted: vec![event],
        ..LinkOptions::looking(url, tls, super::broker::HUB.to_owned())
    })
}

async fn listen(options: LinkOptions, heard: Arc<Mutex<Heard>>, mut stopped: watch::Receiver<bool>) {
    let mut link = Link::new(clock::now().mono.as_nanos() as u64);
    let mut observer = Observer::new("", Filter::default(), true);
    loop {
        let event = tokio::select! {
            event = link.next(&options) => event,
            _ = stopped.wait_for(|stop| *stop) => break,
        };
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            LinkEvent::Message(Received { topic, payload, retain, ack, .. }) => {
                let now = clock::now();
                for line in observer.take(&topic, &payload, retain, now) {
                    heard.take(&line, now.wall_ms);
                }
                ack.into_iter().for_each(|token| link.ack(token));
            }
            LinkEvent::Failed(error) => {
                heard.failed = Some(error.to_string());
                return;
            }
            LinkEvent::Discarded { count, .. } => heard.bad += count,
            LinkEvent::Connected { .. }
            | LinkEvent::Listening { .. }
            | LinkEvent::Acked { .. }
            | LinkEvent::Down { .. } => {}
        }
        heard.listening = link.listening;
    }
    link.disconnect(&options, GOODBYE).await;
}
