//! Which lines are shown. Applied after tracking: what is filtered out is still counted and still fills gaps.
//!
//! Pure. Never consulted for identity or limits.

use crate::wire::Lane;

/// Empty lists let everything through; several patterns of one kind are alternatives, kinds combine.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub hosts: Vec<String>,
    pub sites: Vec<String>,
    pub collectors: Vec<String>,
    pub names: Vec<String>,
    pub lane: Option<Lane>,
}

impl Filter {
    /// For everything that is said of a host.
    pub fn host(&self, site: &str, host: &str) -> bool {
        any(&self.sites, site) && any(&self.hosts, host)
    }

    /// For a record of a host that passed. History carries no collector, so `collectors` shows live records only.
    pub fn record(&self, collector: Option<&str>, name: &str, lane: Lane) -> bool {
        let collected = match collector {
            Some(collector) => any(&self.collectors, collector),
            None => self.collectors.is_empty(),
        };
        collected && any(&self.names, name) && self.lane.is_none_or(|wanted| wanted == lane)
    }
}

fn any(patterns: &[String], text: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern, text))
}

/// `*` stands for any run of characters, everything else for itself. Linear in the text for each `*`.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or_default();
    for part in parts {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run() {
        for (pattern, text, expected) in [
            ("edge-01", "edge-01", true),
            ("edge-01", "edge-010", false),
            ("edge-*", "edge-", true),
            ("*-01", "edge-01", true),
            ("e*-*1", "edge-01", true),
            ("*", "", true),
            ("a*a", "a", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxcyyb", false),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn kinds_combine_and_alternatives_do_not() {
        let filter = Filter {
            hosts: vec!["a".into(), "b*".into()],
            names: vec!["system.*".into()],
            lane: Some(Lane::Live),
            ..Filter::default()
        };
        assert!(filter.host("any", "bob"));
        assert!(!filter.host("any", "c"));
        assert!(filter.record(Some("cpu"), "system.cpu", Lane::Live));
        assert!(!filter.record(Some("cpu"), "system.cpu", Lane::History));
        assert!(!filter.record(Some("cpu"), "backup", Lane::Live));
    }

    #[test]
    fn a_collector_filter_hides_history_which_names_none() {
        let filter = Filter { collectors: vec!["cpu".into()], ..Filter::default() };
        assert!(filter.record(Some("cpu"), "x", Lane::Live));
        assert!(!filter.record(None, "x", Lane::History));
    }
}
