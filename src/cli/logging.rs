//! Logs go to stderr: text with colour on a terminal, one JSON object a line otherwise.

use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogFormat;

/// Installs the process's one subscriber. `rumqttc` and `rustls` speak at warn and above only, whatever the level:
/// the agent says itself, rate-limited, what happens to its connections.
pub fn install(level: LevelFilter, format: LogFormat) {
    let json = match format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Json => true,
        LogFormat::Text => false,
    };
    let quiet = level.min(LevelFilter::ERROR);
    let filter = Targets::new().with_default(level).with_target("rumqttc", quiet).with_target("rustls", quiet);
    let registry = tracing_subscriber::registry().with(filter);
    // A log that cannot be written (a full disk, a reader gone) is given up silently: the layer would say so with
    // a macro that panics when it cannot be written either.
    let installed = if json {
        registry
            .with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .flatten_event(true)
                    .log_internal_errors(false)
                    .with_writer(std::io::stderr),
            )
            .try_init()
    } else {
        let ansi = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_target(false)
                    .with_ansi(ansi)
                    .log_internal_errors(false)
                    .with_writer(std::io::stderr),
            )
            .try_init()
    };
    if let Err(error) = installed {
        super::output::complain(&format!("logging could not be set up: {error}"));
    }
    // A panic is a bug of ours; it goes where everything goes, with its place.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or_default();
        tracing::error!(place, "panic: {message}");
    }));
}
