//! What is said of a message that is not used, by the host of its topic: one that sends nothing else hides no other.

use std::time::Duration;

use crate::hub::read::Bad;
use crate::hub::repeats::HostRepeats;
use crate::hub::text::shown;

pub(super) fn refused(news: &mut HostRepeats, bad: &Bad, topic: &str, bytes: usize, now: Duration) -> Option<String> {
    let host = bad.source.as_ref().map_or("", |(_, host)| host);
    let said = news.say(host, "a message was not used", now)?;
    // What differs from message to message is the sender's to choose, so it is cut, and does not make it news.
    Some(format!("{said}: {} (on {}, {bytes} bytes)", shown(&bad.reason, 200), shown(topic, 200)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_whose_messages_are_refused_hides_no_other() {
        let mut news = HostRepeats::default();
        let mut say = |host: &str, s| {
            let bad = Bad { source: Some(("lab".to_owned(), host.to_owned())), reason: "it is torn".to_owned() };
            refused(&mut news, &bad, "t", 9, Duration::from_secs(s))
        };
        assert_eq!(say("noisy", 0).as_deref(), Some("a message was not used: it is torn (on t, 9 bytes)"));
        assert!(say("noisy", 1).is_none());
        assert!(say("other", 1).is_some());
        assert!(say("noisy", 30).is_some_and(|text| text.contains("(3 times): it is torn")));
    }
}
