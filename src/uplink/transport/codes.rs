//! MQTT 5 reason codes: rumqttc's enums to the byte, the byte to its name in the standard.

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, PubAckReason, SubscribeReasonCode};

/// Name of a CONNACK reason code.
pub fn connack_name(code: u8) -> &'static str {
    match code {
        0x01 => "Unacceptable protocol version (MQTT 3)",
        0x02 => "Identifier rejected (MQTT 3)",
        0x03 => "Server unavailable (MQTT 3)",
        0x84 => "Unsupported Protocol Version",
        0x85 => "Client Identifier not valid",
        0x86 => "Bad User Name or Password",
        0x88 => "Server unavailable",
        0x8a => "Banned",
        0x8c => "Bad authentication method",
        _ => common_name(code),
    }
}

/// Name of a server DISCONNECT reason code.
pub fn disconnect_name(code: u8) -> &'static str {
    match code {
        0x00 => "Normal disconnection",
        0x8b => "Server shutting down",
        0x8d => "Keep Alive timeout",
        0x8e => "Session taken over",
        0x8f => "Topic Filter invalid",
        0x93 => "Receive Maximum exceeded",
        0x94 => "Topic Alias invalid",
        0x96 => "Message rate too high",
        0x98 => "Administrative action",
        0x9e => "Shared Subscriptions not supported",
        0xa0 => "Maximum connect time",
        0xa1 => "Subscription Identifiers not supported",
        0xa2 => "Wildcard Subscriptions not supported",
        _ => common_name(code),
    }
}

/// Name of a PUBACK reason code.
pub fn puback_name(code: u8) -> &'static str {
    match code {
        0x10 => "No matching subscribers",
        0x91 => "Packet identifier in use",
        _ => common_name(code),
    }
}

/// Name of a SUBACK reason code.
pub fn suback_name(code: u8) -> &'static str {
    match code {
        0x00 => "Granted QoS 0",
        0x01 => "Granted QoS 1",
        0x02 => "Granted QoS 2",
        0x8f => "Topic Filter invalid",
        0x91 => "Packet Identifier in use",
        0x9e => "Shared Subscriptions not supported",
        0xa1 => "Subscription Identifiers not supported",
        0xa2 => "Wildcard Subscriptions not supported",
        _ => common_name(code),
    }
}

fn common_name(code: u8) -> &'static str {
    match code {
        0x00 => "Success",
        0x80 => "Unspecified error",
        0x81 => "Malformed Packet",
        0x82 => "Protocol Error",
        0x83 => "Implementation specific error",
        0x87 => "Not authorized",
        0x89 => "Server busy",
        0x90 => "Topic Name invalid",
        0x95 => "Packet too large",
        0x97 => "Quota exceeded",
        0x99 => "Payload format invalid",
        0x9a => "Retain not supported",
        0x9b => "QoS not supported",
        0x9c => "Use another server",
        0x9d => "Server moved",
        0x9f => "Connection rate exceeded",
        _ => "unknown reason code",
    }
}

pub(super) fn puback_code(reason: PubAckReason) -> u8 {
    match reason {
        PubAckReason::Success => 0x00,
        PubAckReason::NoMatchingSubscribers => 0x10,
        PubAckReason::UnspecifiedError => 0x80,
        PubAckReason::ImplementationSpecificError => 0x83,
        PubAckReason::NotAuthorized => 0x87,
        PubAckReason::TopicNameInvalid => 0x90,
        PubAckReason::PacketIdentifierInUse => 0x91,
        PubAckReason::QuotaExceeded => 0x97,
        PubAckReason::PayloadFormatInvalid => 0x99,
    }
}

pub(super) fn suback_code(reason: SubscribeReasonCode) -> u8 {
    match reason {
        SubscribeReasonCode::Success(QoS::AtMostOnce) => 0x00,
        SubscribeReasonCode::Success(QoS::AtLeastOnce) => 0x01,
        SubscribeReasonCode::Success(QoS::ExactlyOnce) => 0x02,
        SubscribeReasonCode::Failure | SubscribeReasonCode::Unspecified => 0x80,
        SubscribeReasonCode::ImplementationSpecific => 0x83,
        SubscribeReasonCode::NotAuthorized => 0x87,
        SubscribeReasonCode::TopicFilterInvalid => 0x8f,
        SubscribeReasonCode::PkidInUse => 0x91,
        SubscribeReasonCode::QuotaExceeded => 0x97,
        SubscribeReasonCode::SharedSubscriptionsNotSupported => 0x9e,
        SubscribeReasonCode::SubscriptionIdNotSupported => 0xa1,
        SubscribeReasonCode::WildcardSubscriptionsNotSupported => 0xa2,
    }
}

pub(super) fn connack_code(code: ConnectReturnCode) -> u8 {
    use ConnectReturnCode as C;
    match code {
        C::Success => 0x00,
        C::RefusedProtocolVersion => 0x01,
        C::BadClientId => 0x02,
        C::ServiceUnavailable => 0x03,
        C::UnspecifiedError => 0x80,
        C::MalformedPacket => 0x81,
        C::ProtocolError => 0x82,
        C::ImplementationSpecificError => 0x83,
        C::UnsupportedProtocolVersion => 0x84,
        C::ClientIdentifierNotValid => 0x85,
        C::BadUserNamePassword => 0x86,
        C::NotAuthorized => 0x87,
        C::ServerUnavailable => 0x88,
        C::ServerBusy => 0x89,
        C::Banned => 0x8a,
        C::BadAuthenticationMethod => 0x8c,
        C::TopicNameInvalid => 0x90,
        C::PacketTooLarge => 0x95,
        C::QuotaExceeded => 0x97,
        C::PayloadFormatInvalid => 0x99,
        C::RetainNotSupported => 0x9a,
        C::QoSNotSupported => 0x9b,
        C::UseAnotherServer => 0x9c,
        C::ServerMoved => 0x9d,
        C::ConnectionRateExceeded => 0x9f,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    type Namer = fn(u8) -> &'static str;

    /// The codes that MQTT 5 (and MQTT 3 brokers) may send in each packet.
    #[test]
    fn each_code_of_the_standard_has_a_name_of_its_own() {
        let connack = "00 01 02 03 80 81 82 83 84 85 86 87 88 89 8a 8c 90 95 97 99 9a 9b 9c 9d 9f";
        let disconnect = "00 80 81 82 83 87 89 8b 8d 8e 8f 90 93 94 95 96 97 98 99 9a 9b 9c 9d 9e 9f a0 a1 a2";
        let puback = "00 10 80 83 87 90 91 97 99";
        let suback = "00 01 02 80 83 87 8f 91 97 9e a1 a2";
        let tables: [(Namer, &str); 4] =
            [(connack_name, connack), (disconnect_name, disconnect), (puback_name, puback), (suback_name, suback)];
        for (name, codes) in tables {
            let codes = codes.split(' ').map(|code| u8::from_str_radix(code, 16).unwrap());
            let names: Vec<_> = codes.map(name).collect();
            assert!(!names.contains(&name(0xff)) && names.iter().all(|name| name.len() > 4), "{names:?}");
            assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
        }
    }

    #[test]
    fn codes_are_those_of_the_standard() {
        use ConnectReturnCode as C;
        let connack = [(C::RefusedProtocolVersion, 1), (C::Banned, 0x8a), (C::ConnectionRateExceeded, 0x9f)];
        connack.into_iter().for_each(|(code, byte)| assert_eq!(connack_code(code), byte));
        assert_eq!(puback_code(PubAckReason::QuotaExceeded), 0x97);
        assert_eq!(suback_code(SubscribeReasonCode::WildcardSubscriptionsNotSupported), 0xa2);
    }
}
