//! Bytes that no broker should send: the decoder and the state behind it may refuse them, and must not panic,
//! because in the shipped program a panic ends the agent.

use bytes::BytesMut;
use rumqttc::v5::MqttState;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnAckProperties, ConnectReturnCode, Disconnect, DisconnectProperties, DisconnectReasonCode, Packet,
    PingResp, PubAck, PubAckProperties, PubRel, Publish, PublishProperties, SubAck, SubscribeReasonCode, UnsubAck,
    UnsubAckReason,
};

use super::chaos::Dice;

#[test]
fn no_bytes_from_a_broker_can_make_the_codec_panic() {
    let seed = super::chaos::seed();
    println!("HOLDOVER_SEED={seed}");
    let mut dice = Dice(seed);
    let templates = templates();
    let mut decoded = 0;
    for _ in 0..200_000 {
        let mut input = BytesMut::new();
        let mut state = MqttState::new(32, true);
        for _ in 0..1 + dice.roll(3) {
            let template = &templates[dice.roll(templates.len() as u64) as usize];
            let mut bytes = template.clone();
            for _ in 0..dice.roll(4) {
                let at = dice.roll(bytes.len() as u64) as usize;
                match dice.roll(4) {
                    0 => bytes[at] = dice.roll(256) as u8,
                    1 => bytes[at] ^= 1 << dice.roll(8),
                    2 => bytes.truncate(at.max(1)),
                    _ => bytes.insert(at, dice.roll(256) as u8),
                }
            }
            input.extend_from_slice(&bytes);
        }
        while let Ok(packet) = Packet::read(&mut input, Some(4096)) {
            decoded += 1;
            if state.handle_incoming_packet(packet).is_err() {
                break;
            }
        }
    }
    assert!(decoded > 50_000, "the fuzzing no longer reaches the decoders: {decoded}");
}

fn templates() -> Vec<Vec<u8>> {
    let properties = PublishProperties {
        payload_format_indicator: Some(1),
        message_expiry_interval: Some(7),
        topic_alias: Some(1),
        response_topic: Some("r".into()),
        correlation_data: Some(vec![1, 2].into()),
        user_properties: vec![("k".into(), "v".into())],
        subscription_identifiers: vec![200],
        content_type: Some("c".into()),
    };
    let mut publish = Publish::new("a/b", QoS::AtLeastOnce, vec![1, 2, 3], Some(properties));
    publish.pkid = 3;
    let reasons =
        PubAckProperties { reason_string: Some("why".into()), user_properties: vec![("k".into(), "v".into())] };
    let limits = ConnAckProperties {
        session_expiry_interval: Some(1),
        receive_max: Some(2),
        max_qos: Some(1),
        retain_available: Some(1),
        max_packet_size: Some(1000),
        assigned_client_identifier: Some("x".into()),
        topic_alias_max: Some(3),
        reason_string: Some("why".into()),
        user_properties: vec![("k".into(), "v".into())],
        wildcard_subscription_available: Some(1),
        subscription_identifiers_available: Some(1),
        shared_subscription_available: Some(1),
        server_keep_alive: Some(9),
        response_information: Some("i".into()),
        server_reference: Some("s".into()),
        authentication_method: Some("m".into()),
        authentication_data: Some(vec![1].into()),
    };
    let farewell = DisconnectProperties {
        session_expiry_interval: None,
        reason_string: Some("why".into()),
        user_properties: vec![("k".into(), "v".into())],
        server_reference: Some("s".into()),
    };
    let suback = SubAck { pkid: 1, return_codes: vec![SubscribeReasonCode::NotAuthorized], properties: None };
    let unsuback = UnsubAck { pkid: 1, reasons: vec![UnsubAckReason::Success], properties: None };
    [
        Packet::ConnAck(ConnAck { session_present: true, code: ConnectReturnCode::Success, properties: None }),
        Packet::ConnAck(ConnAck { session_present: false, code: ConnectReturnCode::Success, properties: Some(limits) }),
        Packet::Publish(publish),
        Packet::PubAck(PubAck::new(1, Some(reasons))),
        Packet::PubAck(PubAck::new(1, None)),
        Packet::PubRel(PubRel::new(1, None)),
        Packet::SubAck(suback),
        Packet::UnsubAck(unsuback),
        Packet::PingResp(PingResp),
        Packet::Disconnect(Disconnect { reason_code: DisconnectReasonCode::ServerBusy, properties: Some(farewell) }),
    ]
    .into_iter()
    .map(|packet| {
        let mut out = BytesMut::new();
        packet.write(&mut out, None).unwrap();
        out.to_vec()
    })
    .collect()
}
