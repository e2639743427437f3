//! What a CONNACK allows, or why it will not do.

use std::time::Duration;

use rumqttc::v5::mqttbytes::v5;

use super::driver::Rules;
use super::{CloseKind, LARGEST_PACKET, Limits};

pub(super) fn limits(connack: &v5::ConnAck, rules: &Rules) -> Result<Limits, CloseKind> {
    let properties = connack.properties.as_ref();
    let receive_max = properties.and_then(|p| p.receive_max).unwrap_or(u16::MAX);
    if receive_max == 0 {
        return Err(CloseKind::Protocol("its Receive Maximum is 0".into()));
    }
    if properties.and_then(|p| p.max_qos) == Some(0) {
        return Err(CloseKind::Unsuitable("accepts only QoS 0, which proves no delivery"));
    }
    let flag = |f: Option<u8>| f != Some(0);
    Ok(Limits {
        window: rules.window.min(usize::from(receive_max).saturating_sub(1).max(1)),
        receive_max,
        max_packet: properties.and_then(|p| p.max_packet_size).unwrap_or(u32::MAX).min(LARGEST_PACKET),
        keep_alive: match properties.and_then(|p| p.server_keep_alive) {
            None | Some(0) => rules.keep_alive,
            Some(seconds) => Duration::from_secs(seconds.into()),
        },
        retain_available: flag(properties.and_then(|p| p.retain_available)),
        shared_subscriptions: flag(properties.and_then(|p| p.shared_subscription_available)),
        session_present: connack.session_present,
        assigned_client_id: properties.and_then(|p| p.assigned_client_identifier.clone()),
    })
}
