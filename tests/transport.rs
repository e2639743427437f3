//! The MQTT transport against a real broker over mutual TLS, and against a scripted one that misbehaves.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod chaos;
mod hostile;
mod mosquitto;
mod pki;
mod real_broker;
mod scripted;

use std::time::Duration;

use holdover::uplink::transport::{CloseReason, Connection, Limits, Publish, TransportEvent};

/// Generous: only a hang reaches it.
const LONG: Duration = Duration::from_secs(30);

/// Runs on the kind of runtime the agent uses.
fn run<F: std::future::Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let output = runtime.block_on(future);
    runtime.shutdown_background();
    output
}

/// The next event that is not `Progress`.
async fn next(connection: &mut Connection) -> TransportEvent {
    let event = async {
        loop {
            match connection.next().await {
                TransportEvent::Progress => {}
                event => break event,
            }
        }
    };
    tokio::time::timeout(LONG, event).await.expect("an event within 30 s")
}

async fn connected(connection: &mut Connection) -> Limits {
    match next(connection).await {
        TransportEvent::Connected(limits) => limits,
        other => panic!("expected Connected, got {other:?}"),
    }
}

async fn closed(connection: &mut Connection) -> CloseReason {
    loop {
        if let TransportEvent::Closed(reason) = next(connection).await {
            return reason;
        }
    }
}

fn publish(token: u64, topic: &str, payload: &[u8]) -> Publish {
    Publish { token, topic: topic.into(), payload: payload.into(), ..Publish::default() }
}
