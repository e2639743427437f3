//! From a checked configuration to an agent that is ready to run: who this host is, the open outbox, the collectors,
//! the schedule and the uplink. Each step says what failed and what to do.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::Agent;
use super::alarm::Alarm;
use super::collecting::{Collecting, Plan, Source};
use super::delivery::{Broker, Delivery};
use super::ipc::StatusSocket;
use super::put::Door;
use super::relay;
use super::reload::{Load, Loaded, Reload};
use super::report::Report;
use super::shedding::Shedding;
use super::witness::{self, Witness};
use crate::clock::{self, Now};
use crate::collect::{self, HostRoot, exec};
use crate::config::{self, Config, What};
use crate::events::Events;
use crate::host::{self, HostId, Source as IdSource};
use crate::outbox::{self, FileDisk, HostIdError, writer};
use crate::platform::service::ServiceManager;
use crate::schedule::{self, Job, Scheduler};
use crate::uplink::backoff::Reconnect;
use crate::uplink::transport::tls::{self, IdentityFiles, Roots, TlsFiles};
use crate::uplink::{self, HubMemory, Pace, Uplink};
use crate::wire::{Meta, TopicError, TopicScheme, VERSION, encode_payload};

/// Covers DNS, TCP, TLS and CONNACK together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// At a stop, how long what is in flight may take to be acknowledged.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// Who this host is.
#[derive(Clone, Debug)]
pub struct Identity {
    pub host: HostId,
    /// Of the hardware; a change of it means a cloned disk.
    pub fingerprint: String,
    /// The kernel's boot id.
    pub boot: Arc<str>,
}

/// Why the agent cannot start. Everything that may pass by itself is not here: the agent starts and says so in `status`.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Outbox(#[from] outbox::OpenError),
    #[error("collector {0}: {1}")]
    Collector(Arc<str>, collect::ParamError),
    #[error("the topics of this host cannot be built: {0}")]
    Topics(#[from] TopicError),
    #[error("the witness file {path} named by {variable} cannot be opened: {error}", variable = witness::VARIABLE)]
    Witness { path: String, error: std::io::Error },
    #[error("the outbox writer's thread cannot be started: {0}")]
    Thread(std::io::Error),
}

/// Decides who this host is; stores nothing. An outbox that cannot be read has no say, and the note tells.
pub fn identify(config: &Config, root: &HostRoot) -> Identity {
    let (stored, unread) = match outbox::read_host_id(&FileDisk, &config.outbox.dir) {
        Ok(stored) => (stored, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let common_name = config
        .broker
        .cert
        .as_deref()
        .and_then(|path| tls::inspect_file(path).ok())
        .and_then(|certificate| certificate.common_name);
    let mut host = host::decide(config.host.id.as_deref(), stored.as_deref(), common_name.as_deref(), root);
    if let Some(error) = unread {
        host.note = Some(format!("{error}; this host goes by `{}`, from {}", host.id, host.source));
    }
    Identity { host, fingerprint: host::fingerprint(root), boot: Arc::from(host::boot_id(root)) }
}

/// Stores the host id for the next start, unless another one is stored already; why it is not is the answer.
pub(super) fn keep_host_id(dir: &Path, host: &HostId) -> Option<String> {
    let anew = |error: HostIdError| Some(format!("the host id may be another at the next start: {error}"));
    match outbox::read_host_id(&FileDisk, dir) {
        Ok(Some(stored)) if stored == host.id => None,
        Ok(Some(stored)) if host.source != IdSource::Configured => Some(format!(
            "this host goes by `{}` because its outbox could not be read at the start; there it is `{stored}`: \
             restart the agent",
            host.id
        )),
        Ok(_) | Err(HostIdError::Malformed(_)) => outbox::store_host_id(&FileDisk, dir, &host.id).err().and_then(anew),
        Err(error) => anew(error),
    }
}

/// Opens everything. `load` reads the configuration anew; `rng_seed` spreads reconnects over hosts.
pub fn start(loaded: Loaded, load: Load, root: HostRoot, rng_seed: u64) -> Result<Agent, StartError> {
    let now = clock::now();
    let config = &loaded.checked.config;
    let identity = identify(config, &root);
    let host = identity.host.id.clone();
    let topics = TopicScheme::new(&config.host.prefix, &config.host.site, &host)?;
    let groups = script_groups(config);
    let sources = sources(config, groups.as_deref())?;
    let witness = open_witness()?;
    let opening = writer::open(Arc::new(FileDisk), outbox_options(config, &identity), now)?;
    let found = opening.found().clone();
    let meta = encode_payload(&meta(config, &identity, &root, &loaded.hash));
    let settings = uplink::Settings {
        hub: relay::hub_memory(&found),
        anchors: relay::anchors(&found),
        ..uplink_settings(config, &identity, topics, meta)
    };
    let uplink = Uplink::new(settings, relay::epoch_views(&found), found.losses.clone(), rng_seed);
    announce(config, &identity, &found, &uplink);
    let mut report = Report::new(config.outbox.dir.clone(), now, opening.stats());
    report.configured(&loaded.checked, &loaded.hash, &[], now);
    report.found(&found.problems);
    report.host_id(keep_host_id(&config.outbox.dir, &identity.host));
    let names = config.collectors.iter().map(|known| known.name.clone()).collect();
    let mut watch = Events::new(config.alarms.clone(), names);
    watch.remember(found.notes.get(Events::NOTE).map(String::as_str));
    let shedding = Shedding::new(&config.agent.limits, &root, now);
    report.limits(&shedding);
    let (outbox, events) = opening.spawn(config.outbox.commit_window, witness).map_err(StartError::Thread)?;
    Ok(Agent {
        collecting: Collecting::new(
            Scheduler::new(jobs(config, &host), now),
            sources,
            root.clone(),
            host.as_str().into(),
            identity.boot.clone(),
        )
        .watched_by(watch),
        delivery: Delivery::new(uplink, broker(config, &host, found.last_wall_ms)),
        outbox,
        events,
        socket: StatusSocket::open(&config.outbox.dir),
        door: config.put.enabled.then(|| Door::open(&config.put)),
        service: ServiceManager::new(now.mono),
        alarm: Alarm::new(),
        report,
        shedding,
        stop_timeout: config.agent.stop_timeout,
        config: config.clone(),
        reload: Reload::new(loaded.checked, loaded.fingerprint, load, now),
        root,
        groups,
        identity,
        unstored: 0,
        flushed: 0,
    })
}

fn announce(config: &Config, identity: &Identity, found: &outbox::Opened, uplink: &Uplink) {
    for problem in &found.problems {
        tracing::warn!("outbox: {problem}");
    }
    if let Some(note) = &identity.host.note {
        tracing::warn!("{note}");
    }
    tracing::info!(
        host = %identity.host.id,
        from = %identity.host.source,
        site = %config.host.site,
        outbox = %config.outbox.dir.display(),
        epoch = found.epoch,
        next_seq = found.next_seq,
        backlog = uplink.backlog(),
        collectors = config.collectors.len(),
        "starting"
    );
}

/// How the configured outbox is kept.
fn outbox_options(config: &Config, identity: &Identity) -> outbox::Options {
    outbox::Options {
        max_bytes: config.outbox.max_bytes,
        max_age: config.outbox.max_age,
        drop: match config.outbox.drop {
            config::Drop::Oldest => outbox::DropPolicy::DropOldest,
            config::Drop::Newest => outbox::DropPolicy::DropNewest,
        },
        fingerprint: identity.fingerprint.clone(),
        ..outbox::Options::new(&config.outbox.dir)
    }
}

fn open_witness() -> Result<Option<writer::Witness>, StartError> {
    let Some(path) = std::env::var_os(witness::VARIABLE) else { return Ok(None) };
    let mut witness = Witness::open(&path)
        .map_err(|error| StartError::Witness { path: PathBuf::from(&path).display().to_string(), error })?;
    Ok(Some(Box::new(move |chunk| witness.observe(chunk))))
}

/// What a script's format is called in the configuration, and what reads it.
fn script(exec: &config::Exec, timeout: Duration, groups: Option<&Path>) -> exec::Script {
    exec::Script {
        timeout,
        max_output: usize::try_from(exec.max_output).unwrap_or(usize::MAX),
        format: exec.format,
        env: exec.env.clone(),
        dir: exec.dir.clone(),
        limits: exec.limits.clone(),
        confinement: exec.confinement.clone(),
        groups: groups.map(Path::to_path_buf),
        usage: exec.usage,
        ..exec::Script::new(exec.argv.iter().cloned())
    }
}

/// Where scripts get control groups of their own; makes the place ready.
pub fn script_groups(config: &Config) -> Option<PathBuf> {
    exec::cgroup::prepare(&config.agent.cgroup).unwrap_or_else(|error| {
        tracing::warn!("no control groups for programs, which are bounded by other means: {error}; see agent.cgroup");
        None
    })
}

/// One configured collector, built; `groups` are those of [`script_groups`].
pub fn source(collector: &config::Collector, groups: Option<&Path>) -> Result<Source, StartError> {
    Ok(match &collector.what {
        What::Builtin { spec, params } => {
            let built = (spec.build)(params).map_err(|error| StartError::Collector(collector.name.clone(), error))?;
            Source::Builtin { spec, collector: built }
        }
        What::Exec(exec) => Source::Script(Arc::new(script(exec, collector.timeout, groups))),
    })
}

/// The configured collectors, built, in the order of the configuration.
pub fn sources(config: &Config, groups: Option<&Path>) -> Result<Vec<(Arc<str>, Source)>, StartError> {
    config.collectors.iter().map(|collector| Ok((collector.name.clone(), source(collector, groups)?))).collect()
}

/// The same for a running agent: `None` for a collector of `before` that has changed in its times at most.
pub(super) fn changed_sources(before: &Config, after: &Config, groups: Option<&Path>) -> Result<Plan, StartError> {
    let kept = |collector: &config::Collector| {
        let timeless = |old: &config::Collector| config::Collector {
            schedule: collector.schedule.clone(),
            jitter: collector.jitter,
            misfire: collector.misfire,
            ..old.clone()
        };
        before.collectors.iter().any(|old| timeless(old) == *collector)
    };
    let plan = |collector: &config::Collector| {
        let fresh = if kept(collector) { None } else { Some(source(collector, groups)?) };
        Ok((collector.name.clone(), fresh))
    };
    after.collectors.iter().map(plan).collect()
}

pub(super) fn jobs(config: &Config, host: &str) -> Vec<Job> {
    let job = |collector: &config::Collector| Job {
        collector: collector.name.clone(),
        schedule: collector.schedule.clone(),
        jitter: schedule::jitter(host, &collector.name, collector.jitter),
        misfire: collector.misfire,
        blackouts: config.windows(&collector.name),
    };
    config.collectors.iter().map(job).collect()
}

fn uplink_settings(config: &Config, identity: &Identity, topics: TopicScheme, meta: Vec<u8>) -> uplink::Settings {
    let limits = &config.uplink;
    let pace = match limits.history_rate {
        config::Rate::Unlimited => None,
        config::Rate::Bytes(bytes) => {
            Some(Pace { bytes_per_s: u32::try_from(bytes).unwrap_or(u32::MAX), batches_per_s: limits.history_batches })
        }
    };
    uplink::Settings {
        urls: config.broker.urls.iter().map(ToString::to_string).collect(),
        meta,
        encoding: config.broker.encoding,
        compression: config.broker.compression,
        unheard: config.broker.unheard,
        level: limits.level,
        pace,
        window: usize::from(limits.in_flight),
        in_flight_bytes: usize::try_from(limits.in_flight_bytes).unwrap_or(usize::MAX),
        max_packet: usize::try_from(limits.max_packet).unwrap_or(usize::MAX),
        reconnect: Reconnect { min: limits.reconnect_min, max: limits.reconnect_max },
        // The farewell and the outbox need their share of the time.
        stop_grace: STOP_GRACE.min(config.agent.stop_timeout / 2),
        ..uplink::Settings::new(&identity.host.id, &config.host.site, identity.boot.clone(), topics)
    }
}

/// Why an outbox was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("{0}")]
    Outbox(#[from] outbox::OpenError),
    #[error("the outbox in {0} could not be saved: {1}")]
    Save(PathBuf, String),
}

/// Opens the outbox as the agent would, and changes it. No agent may run on it.
pub fn change_outbox<T>(
    config: &Config,
    root: &HostRoot,
    now: Now,
    change: impl FnOnce(&mut outbox::Outbox) -> Result<T, String>,
) -> Result<T, ChangeError> {
    let identity = identify(config, root);
    let (mut store, _) = outbox::Outbox::open(Arc::new(FileDisk), outbox_options(config, &identity), now)?;
    let changed = change(&mut store);
    store.close(now);
    changed.map_err(|why| ChangeError::Save(config.outbox.dir.clone(), why))
}

/// Forgets that a hub has ever acknowledged this host.
pub fn forget_hub(store: &mut outbox::Outbox, now: Now) -> Result<(), String> {
    store.set_note(HubMemory::NOTE, HubMemory::FORGOTTEN);
    store.save(now)
}

/// The certificate files of a configuration.
pub fn tls_files(config: &Config) -> TlsFiles {
    let roots = match &config.broker.ca {
        config::Ca::System => Roots::System,
        config::Ca::File(path) => Roots::File(path.clone()),
    };
    let identity = config
        .broker
        .cert
        .clone()
        .zip(config.broker.key.clone())
        .map(|(certificate, key)| IdentityFiles { certificate, key });
    TlsFiles { roots, identity }
}

fn broker(config: &Config, host: &str, last_wall_ms: i64) -> Broker {
    let broker = &config.broker;
    Broker {
        urls: broker.urls.clone(),
        client_id: broker.client_id.clone().unwrap_or_else(|| host.to_owned()),
        tls: tls_files(config),
        username: broker.username.clone(),
        password: broker.password.clone(),
        keep_alive: broker.keep_alive,
        connect_timeout: CONNECT_TIMEOUT,
        window: config.uplink.in_flight,
        saved_wall_ms: (last_wall_ms > 0).then_some(last_wall_ms),
    }
}

pub(super) fn meta(config: &Config, identity: &Identity, root: &HostRoot, config_hash: &str) -> Meta {
    let used = config.collectors.iter().filter_map(|c| match &c.what {
        What::Builtin { spec, .. } => Some(spec.metrics),
        What::Exec(_) => None,
    });
    let mut metrics: Vec<_> = used.flatten().map(Into::into).collect();
    metrics.dedup();
    Meta {
        v: VERSION,
        host: identity.host.id.clone(),
        site: config.host.site.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        metrics_version: collect::METRICS_VERSION,
        config_hash: config_hash.to_owned(),
        host_info: host::inventory(root),
        schedules: config.collectors.iter().map(|c| (c.name.to_string(), c.schedule.to_string())).collect(),
        metrics,
    }
}
