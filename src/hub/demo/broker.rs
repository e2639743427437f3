//! The embedded broker: rmqtt as a library, with who may do what, and the one fault that can be planted.
//!
//! Clients come through [`super::front`] and are who their certificate says. A host publishes below its own topics
//! only; the hub only listens. The planted fault is the broker's alone: it acknowledges one message and never
//! delivers it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use async_trait::async_trait;
use rmqtt::context::ServerContext;
use rmqtt::hook::{Handler, HookResult, Parameter, ReturnType, Type};
use rmqtt::net::Builder;
use rmqtt::retain::{DefaultRetainStorage, RetainStorage};
use rmqtt::server::MqttServer;
use rmqtt::types::{AuthResult, PublishAclResult, Retain, TopicFilter, TopicName};
use tokio::task::JoinHandle;

use super::front::Guests;
use crate::wire::{DecodeLimits, Envelope, decode_envelope};

/// The certificate of the one client that subscribes.
pub(super) const HUB: &str = "demo-hub";
/// Messages that wait for a slow subscriber; the whole show has fewer.
const QUEUE: usize = 100_000;

/// Swallows one message of a host when it is armed.
#[derive(Clone, Debug, Default)]
pub(super) struct Thief(Arc<Mutex<Theft>>);

#[derive(Debug, Default)]
enum Theft {
    #[default]
    Never,
    /// The next message on this topic.
    Armed(String),
    Done(Box<Envelope>),
}

impl Thief {
    pub fn arm(&self, topic: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Theft::Armed(topic);
    }

    /// What was swallowed.
    pub fn stolen(&self) -> Option<Envelope> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Theft::Done(envelope) => Some((**envelope).clone()),
            Theft::Never | Theft::Armed(_) => None,
        }
    }

    /// Whether this one goes.
    fn takes(&self, topic: &str, payload: &[u8]) -> bool {
        let mut theft = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(&*theft, Theft::Armed(wanted) if wanted == topic) {
            return false;
        }
        let Ok(envelope) = decode_envelope(payload, &DecodeLimits::default()) else { return false };
        *theft = Theft::Done(Box::new(envelope));
        true
    }
}

#[derive(Debug)]
pub(super) struct Broker {
    pub address: SocketAddr,
    task: JoinHandle<rmqtt::Result<()>>,
}

impl Broker {
    pub fn check(&self) -> anyhow::Result<()> {
        if self.task.is_finished() {
            bail!("the embedded broker has ended by itself");
        }
        Ok(())
    }
}

/// Starts it on a free port of loopback, for as long as the runtime lives.
pub(super) async fn start(guests: Guests, thief: Thief) -> anyhow::Result<Broker> {
    // A busy machine is no reason to turn anybody away.
    let context = ServerContext::new().busy_check_enable(false).build().await;
    let hooks = context.extends.hook_mgr().register();
    let rules = Rules { guests, thief };
    for kind in [Type::ClientAuthenticate, Type::MessagePublishCheckAcl, Type::MessageExpiryCheck] {
        hooks.add(kind, Box::new(rules.clone())).await;
    }
    hooks.start().await;
    *context.extends.retain_mut().await = Box::new(Retained(DefaultRetainStorage::new()));
    let listener = Builder::new()
        .name("demo")
        .laddr((Ipv4Addr::LOCALHOST, 0).into())
        .nodelay(true)
        .allow_anonymous(false)
        .max_mqueue_len(QUEUE)
        .message_expiry_interval(Duration::ZERO)
        .bind()
        .and_then(|bound| bound.tcp())
        .map_err(|error| anyhow!("{error}"))
        .context("the embedded broker cannot listen on 127.0.0.1")?;
    let address = listener.local_addr().map_err(|error| anyhow!("{error}"))?;
    let server = MqttServer::new(context).listener_by_id(listener, 1).build();
    Ok(Broker { address, task: tokio::spawn(server.run()) })
}

/// The broker's own store of retained messages, in memory, which it leaves off unless a plug-in turns it on.
struct Retained(DefaultRetainStorage);

#[async_trait]
impl RetainStorage for Retained {
    fn enable(&self) -> bool {
        true
    }

    async fn set(&self, topic: &TopicName, retain: Retain, expiry: Option<Duration>) -> rmqtt::Result<()> {
        self.0.set_with_timeout(topic, retain, expiry).await
    }

    async fn get(&self, filter: &TopicFilter) -> rmqtt::Result<Vec<(TopicName, Retain)>> {
        self.0.get_message(filter).await
    }

    async fn count(&self) -> isize {
        self.0.count().await
    }

    async fn max(&self) -> isize {
        self.0.max().await
    }
}

#[derive(Clone)]
struct Rules {
    guests: Guests,
    thief: Thief,
}

impl Rules {
    fn name(&self, from: Option<SocketAddr>) -> Option<String> {
        from.and_then(|from| self.guests.name(from))
    }
}

#[async_trait]
impl Handler for Rules {
    async fn hook(&self, parameter: &Parameter, before: Option<HookResult>) -> ReturnType {
        match parameter {
            Parameter::ClientAuthenticate(connect) => {
                let known = self.name(connect.id().remote_addr).is_some();
                let verdict = if known { AuthResult::Allow(false, None) } else { AuthResult::NotAuthorized };
                (false, Some(HookResult::AuthResult(verdict)))
            }
            Parameter::MessagePublishCheckAcl(session, publish) => {
                let own = self.name(session.id.remote_addr).is_some_and(|name| owns(&name, &publish.topic));
                let verdict = if own { PublishAclResult::allow() } else { PublishAclResult::rejected(false, None) };
                (false, Some(HookResult::PublishAclResult(verdict)))
            }
            // Asked once the publisher has its acknowledgement and the subscriber does not have the message yet.
            Parameter::MessageExpiryCheck(_, _, publish) if self.thief.takes(&publish.topic, &publish.payload) => {
                (false, Some(HookResult::MessageExpiry))
            }
            _ => (true, before),
        }
    }
}

/// Whether a client called `name` may publish on `topic`: a host below `v1/{site}/{host}/`, the hub nowhere.
fn owns(name: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    name != HUB && levels.next() == Some("v1") && levels.nth(1) == Some(name) && levels.next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_publishes_below_its_own_topics_only() {
        assert!(owns("demo-a", "v1/demo/demo-a/m/cpu"));
        assert!(!owns("demo-a", "v1/demo/demo-b/m/cpu"));
        assert!(!owns("demo-a", "v1/demo/demo-a"));
        assert!(!owns("demo-a", "v2/demo/demo-a/m/cpu"));
        assert!(!owns(HUB, "v1/demo/demo-hub/m/cpu"));
    }
}
