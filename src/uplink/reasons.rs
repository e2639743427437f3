//! MQTT 5 reason codes of a PUBACK, and what each means for the records in the message.
//!
//! The one place that knows the numbers (MQTT 5.0, 3.4.2.1 and 3.14.2.1).

pub const SUCCESS: u8 = 0x00;
pub const NO_MATCHING_SUBSCRIBERS: u8 = 0x10;
pub const UNSPECIFIED: u8 = 0x80;
pub const IMPLEMENTATION_SPECIFIC: u8 = 0x83;
pub const NOT_AUTHORIZED: u8 = 0x87;
pub const TOPIC_NAME_INVALID: u8 = 0x90;
pub const PACKET_ID_IN_USE: u8 = 0x91;
/// In a DISCONNECT: another client has connected under our client id.
pub const SESSION_TAKEN_OVER: u8 = 0x8E;
/// In a DISCONNECT; also how the loop reports a publish that the transport refused for its size.
pub const PACKET_TOO_LARGE: u8 = 0x95;
pub const QUOTA_EXCEEDED: u8 = 0x97;
pub const PAYLOAD_FORMAT_INVALID: u8 = 0x99;

/// What a reason code says about a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The broker has taken responsibility.
    Accepted,
    /// Taken, but nobody subscribes: see [`super::Unheard`].
    Unheard,
    /// Not now: hold and back off.
    Busy,
    /// Not this topic.
    Forbidden,
    /// Not this content, now or ever: find the value that is at fault.
    Poison,
}

/// Codes below 0x80 are successes by the standard; unknown ones above are refusals that may pass.
pub fn verdict(code: u8) -> Verdict {
    match code {
        NO_MATCHING_SUBSCRIBERS => Verdict::Unheard,
        NOT_AUTHORIZED => Verdict::Forbidden,
        TOPIC_NAME_INVALID | PAYLOAD_FORMAT_INVALID | PACKET_TOO_LARGE => Verdict::Poison,
        ..UNSPECIFIED => Verdict::Accepted,
        _ => Verdict::Busy,
    }
}

/// The standard's name, for logs and problems.
pub fn name(code: u8) -> &'static str {
    match code {
        SUCCESS => "success",
        NO_MATCHING_SUBSCRIBERS => "no matching subscribers",
        UNSPECIFIED => "unspecified error",
        IMPLEMENTATION_SPECIFIC => "implementation specific error",
        NOT_AUTHORIZED => "not authorized",
        TOPIC_NAME_INVALID => "topic name invalid",
        PACKET_ID_IN_USE => "packet identifier in use",
        PACKET_TOO_LARGE => "packet too large",
        QUOTA_EXCEEDED => "quota exceeded",
        PAYLOAD_FORMAT_INVALID => "payload format invalid",
        0x81 => "malformed packet",
        0x82 => "protocol error",
        0x89 => "server busy",
        0x8B => "server shutting down",
        0x8D => "keep alive timeout",
        SESSION_TAKEN_OVER => "session taken over: another client uses this client id",
        0x93 => "receive maximum exceeded",
        0x96 => "message rate too high",
        0x98 => "administrative action",
        0x9C => "use another server",
        0x9D => "server moved",
        _ => "unknown reason",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_verdict_of_the_design() {
        for code in 0..=u8::MAX {
            let expected = match code {
                0x10 => Verdict::Unheard,
                0x87 => Verdict::Forbidden,
                0x90 | 0x95 | 0x99 => Verdict::Poison,
                0x00..=0x7F => Verdict::Accepted,
                0x80..=0xFF => Verdict::Busy,
            };
            assert_eq!(verdict(code), expected, "0x{code:02x}");
        }
    }

    #[test]
    fn what_brokers_answer_a_publish_with_or_end_a_connection_for_has_a_name_of_its_own() {
        let codes = [
            0x00, 0x10, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x90, 0x91, 0x93, 0x95, 0x96, 0x97, 0x98,
            0x99, 0x9c, 0x9d, 0xff,
        ];
        let names: std::collections::BTreeSet<_> = codes.iter().map(|code| name(*code)).collect();
        assert_eq!(names.len(), codes.len(), "one for each, and one for what is unknown");
        assert_eq!(name(0xff), name(0x42));
    }
}
