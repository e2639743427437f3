use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Publish as Packet, PublishProperties};

use super::*;

#[test]
fn packet_size_is_what_the_codec_writes() {
    for payload in [0usize, 1, 100, 113, 114, 127, 128, 16_000, 16_383, 16_384, 65_536, 2_200_000] {
        for content_type in [None, Some("application/vnd.msgpack")] {
            for topic in ["t", "v1/plant-a/edge-01/m/cpu"] {
                let properties = content_type
                    .map(|c: &str| PublishProperties { content_type: Some(c.into()), ..Default::default() });
                let mut packet = Packet::new(topic, QoS::AtLeastOnce, vec![0; payload], properties);
                packet.pkid = 7;
                assert_eq!(
                    packet_size(topic.len(), payload, content_type),
                    packet.size(),
                    "{payload} {content_type:?}"
                );
            }
        }
    }
}

#[test]
fn an_answers_topic_and_correlation_count_in_its_packet() {
    for (topic, correlation) in
        [(None, None), (Some("re/1"), None), (None, Some(vec![1; 9])), (Some("r"), Some(vec![2; 300]))]
    {
        let properties = PublishProperties {
            response_topic: topic.map(str::to_owned),
            correlation_data: correlation.clone().map(Into::into),
            ..Default::default()
        };
        let mut packet = Packet::new("v1/a/b/cmd", QoS::AtLeastOnce, vec![0; 50], Some(properties));
        packet.pkid = 7;
        let publish = Publish {
            topic: "v1/a/b/cmd".into(),
            payload: vec![0; 50],
            response_topic: topic.map(str::to_owned),
            correlation,
            ..Publish::default()
        };
        assert_eq!(publish.packet_size(), packet.size());
    }
}

#[test]
fn filters_are_checked_shared_ones_too() {
    for good in ["a", "a/b", "#", "+", "a/+/b", "a/#", "/", "$share/g/a/#", "$SYS/#", "v1/+/+/m/+", "+/#"] {
        assert!(valid_filter(good), "{good}");
    }
    assert!(valid_filter(&"a".repeat(65_535)) && !valid_filter(&"a".repeat(65_536)));
    for bad in ["", "a#", "#/a", "a/+b", "$share/g", "$share//a", "$share/g/", "$share/+/a", "a\0b"] {
        assert!(!valid_filter(bad), "{bad:?}");
    }
}

#[test]
fn topics_with_wildcards_are_refused() {
    assert!(valid_topic("v1/a/b/h"));
    for bad in ["", "a/+", "a/#", "a\0"] {
        assert!(!valid_topic(bad), "{bad:?}");
    }
    assert!(!valid_topic(&"x".repeat(65_536)));
}

#[test]
fn a_password_is_never_shown() {
    let secret = Credentials { username: "edge-01".into(), password: "hunter2".into() };
    let shown = format!("{secret:?}");
    assert!(shown.contains("edge-01") && !shown.contains("hunter2"), "{shown}");
}
