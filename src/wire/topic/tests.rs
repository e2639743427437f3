use proptest::prelude::*;

use super::*;

fn level() -> impl Strategy<Value = String> {
    "[A-Za-z0-9-][A-Za-z0-9_-]{0,15}".prop_filter("reserved", |level| level != VERSION_LEVEL)
}

#[test]
fn every_topic_of_the_contract_is_built() {
    let topics = TopicScheme::new("", "plant-a", "edge-01").unwrap();
    let built = [
        topics.live("cpu"),
        topics.history(),
        topics.status(),
        topics.meta(),
        topics.event(),
        topics.cmd(),
        topics.ack("hub-1"),
        topics.reply("hub-1"),
    ];
    let leaves = ["m/cpu", "h", "status", "meta", "event", "cmd", "ack/hub-1", "reply/hub-1"];
    assert_eq!(built.map(|t| t.to_string()), leaves.map(|leaf| format!("v1/plant-a/edge-01/{leaf}")));
}

#[test]
fn bad_levels_are_refused() {
    for bad in ["", "a.b", "a b", "a/b", "+", "#", "$SYS", "\u{e9}", "a\0"] {
        assert_eq!(TopicScheme::new("", bad, "h").unwrap_err(), TopicError::Level(bad.to_owned()));
        assert_eq!(TopicScheme::new("", "s", bad).unwrap_err(), TopicError::Level(bad.to_owned()));
    }
    for bad in ["/", "a/", "/a", "a//b", "a.b"] {
        assert!(matches!(TopicScheme::new(bad, "s", "h"), Err(TopicError::Level(_))), "{bad}");
    }
}

#[test]
fn reserved_levels_are_refused() {
    for (prefix, site) in [("_a", "s"), ("v1", "s"), ("a/v1", "s"), ("", "_hubs")] {
        assert!(matches!(TopicScheme::new(prefix, site, "h"), Err(TopicError::Reserved(_))), "{prefix} {site}");
    }
    assert!(TopicScheme::new("a/_b", "s", "_h").is_ok(), "only first levels are reserved");
    assert!(TopicScheme::new("", "v1", "v1").is_ok(), "behind the version the word is free");
    assert_eq!(TopicScheme::new("a/b/c/d", "s", "h").unwrap_err(), TopicError::PrefixDepth(4));
}

#[test]
fn length_is_checked_for_the_longest_name_allowed() {
    let fits = "h".repeat(MAX_TOPIC - "v1/s/".len() - "/reply/".len() - MAX_NAME);
    let topics = TopicScheme::new("", "s", &fits).unwrap();
    let name = "n".repeat(MAX_NAME);
    assert_eq!(topics.reply(&name).as_str().len(), MAX_TOPIC);
    assert!([topics.live(&name), topics.ack(&name)].iter().all(|t| t.as_str().len() <= MAX_TOPIC));
    let error = TopicScheme::new("", "s", &format!("{fits}h")).unwrap_err();
    assert!(matches!(error, TopicError::TooLong(_, 201)), "{error}");
    let hubs = HubTopics::new(&"p".repeat(60)).unwrap();
    assert!(matches!(hubs.worker_state(&name, &name), Err(TopicError::TooLong(..))));
}

#[test]
fn a_name_that_was_not_checked_still_makes_a_valid_topic() {
    let topics = TopicScheme::new("", "s", "h").unwrap();
    assert_eq!(topics.live("a/b.+#").as_str(), "v1/s/h/m/a_b___");
    assert_eq!(topics.live("").as_str(), "v1/s/h/m/_");
    assert_eq!(topics.live(&"\u{e9}".repeat(100)).as_str(), format!("v1/s/h/m/{}", "_".repeat(64)));
}

#[test]
fn replies_go_to_the_hosts_own_subtree_only() {
    let topics = TopicScheme::new("p", "s", "h").unwrap();
    assert_eq!(topics.own_reply("p/v1/s/h/reply/hub"), Some(topics.reply("hub")));
    for foreign in
        ["p/v1/s/h2/reply/hub", "p/v1/s/h/cmd", "p/v1/s/h/reply/", "p/v1/s/h/reply/a/b", "p/v1/s/h/reply/#", ""]
    {
        assert_eq!(topics.own_reply(foreign), None, "{foreign}");
    }
}

#[test]
fn hub_filters_take_a_shared_group() {
    let hubs = HubTopics::new("").unwrap();
    assert_eq!(hubs.data_filters(Some("g")).unwrap(), ["$share/g/v1/+/+/m/+", "$share/g/v1/+/+/h"]);
    assert!(hubs.data_filters(Some("a/b")).is_err());
    assert_eq!(hubs.host_filters(), ["v1/+/+/status", "v1/+/+/meta", "v1/+/+/event"]);
    assert_eq!(hubs.reply_filter("hub-1").unwrap(), "v1/+/+/reply/hub-1");
    assert_eq!(hubs.worker_filter(), "v1/_hubs/+/+/state");
}

#[test]
fn foreign_topics_are_refused() {
    for foreign in [
        "",
        "v1",
        "v1/s",
        "v1/s/h",
        "v1/s/h/m",
        "v1/s/h/m/a/b",
        "v1/s/h/unknown",
        "v1/s/h/h/h",
        "s/h/m/cpu",
        "v2/s/h/m/cpu",
        "v1/_x/h/m/cpu",
        "v1/_hubs/a/state",
        "v1/_hubs/a/b/c/state",
        "_p/v1/s/h/h",
        "a/b/c/d/v1/s/h/h",
        "v1/s/h.x/h",
        "v1/s/+/h",
        "$SYS/v1/s/h/h",
    ] {
        assert!(foreign.parse::<ParsedTopic>().is_err(), "{foreign}");
    }
    let long = format!("v1/s/h/m/{}", "x".repeat(MAX_NAME + 1));
    assert!(matches!(long.parse::<ParsedTopic>(), Err(TopicError::LongName(_, 65))));
    assert!(matches!("x".repeat(201).parse::<ParsedTopic>(), Err(TopicError::TooLong(_, 201))));
}

proptest! {
    #[test]
    fn what_is_built_parses_back(
        prefix in proptest::collection::vec(level(), 0..=3), site in level(), host in level(), name in level(), other in level(),
    ) {
        let prefix = prefix.join("/");
        let topics = TopicScheme::new(&prefix, &site, &host).unwrap();
        for (topic, kind) in [
            (topics.live(&name), TopicKind::Live(name.clone())),
            (topics.history(), TopicKind::History),
            (topics.status(), TopicKind::Status),
            (topics.meta(), TopicKind::Meta),
            (topics.event(), TopicKind::Event),
            (topics.cmd(), TopicKind::Cmd),
            (topics.ack(&name), TopicKind::Ack(name.clone())),
            (topics.reply(&name), TopicKind::Reply(name.clone())),
        ] {
            let (prefix, site, host) = (prefix.clone(), site.clone(), host.clone());
            prop_assert!(topic.as_str().len() <= MAX_TOPIC);
            prop_assert_eq!(topic.as_str().parse::<ParsedTopic>(), Ok(ParsedTopic::Host { prefix, site, host, kind }));
        }
        let state = HubTopics::new(&prefix).unwrap().worker_state(&name, &other).unwrap();
        prop_assert_eq!(state.as_str().parse::<ParsedTopic>(), Ok(ParsedTopic::HubState { prefix, hub: name, worker: other }));
    }

    #[test]
    fn arbitrary_topics_never_panic(topic in "\\PC{0,60}", levels in proptest::collection::vec("v1|_hubs|m|h|s|state|\\PC?", 0..9)) {
        prop_assert!(topic.parse::<ParsedTopic>().is_err());
        let topic = levels.join("/");
        if let Ok(ParsedTopic::Host { prefix, site, host, .. }) = topic.parse() {
            prop_assert!(TopicScheme::new(&prefix, &site, &host).is_ok());
        }
    }
}
