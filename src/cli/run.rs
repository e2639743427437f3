//! `holdover run`

use std::str::FromStr;
use std::sync::Arc;

use tracing_subscriber::filter::LevelFilter;

use super::args::RunArgs;
use super::exit::{Exit, Failure};
use super::{load, logging};
use crate::agent::{self, Load, RunError, StartError};
use crate::outbox::OpenError;

pub fn run(args: &RunArgs) -> Result<Exit, Failure> {
    let file = args.config.config.clone();
    let loaded = load::again(&file).map_err(|refused| Failure::config(refused.why.to_string()))?;
    let (checked, config) = (&loaded.checked, &loaded.checked.config);
    let level = LevelFilter::from_str(&config.log.level).unwrap_or(LevelFilter::INFO);
    logging::install(level, config.log.format);
    load::log(checked);
    for warning in load::check_certificates(checked)? {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Names are resolved there.
        .max_blocking_threads(4)
        .build()
        .map_err(|error| Failure::failed(format!("the runtime cannot be started: {error}")))?;
    let root = load::root(config);
    let again: Load = Arc::new(move || load::again(&file));
    let done = runtime.block_on(async {
        let agent = agent::start(loaded, again, root, load::random_seed()).map_err(refuse)?;
        agent.run().await.map_err(stopped)
    });
    // A name resolution that hangs must not hold the exit up, however the agent ended.
    runtime.shutdown_background();
    done.map(|()| Exit::Ok)
}

fn refuse(error: StartError) -> Failure {
    let exit = match &error {
        StartError::Outbox(OpenError::Locked { .. }) => Exit::Temporary,
        StartError::Collector(..) | StartError::Topics(_) => Exit::Config,
        _ => Exit::Failed,
    };
    Failure::new(exit, error.to_string())
}

fn stopped(error: RunError) -> Failure {
    Failure::failed(error.to_string())
}
