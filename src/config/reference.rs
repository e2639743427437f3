//! The commented reference configuration, generated from the key table: what it says cannot differ from what is read.

use super::keys::{self, Key, SECTIONS};
use crate::collect::COLLECTORS;

const WIDTH: usize = 100;

/// A whole configuration file. Keys with a default carry it, other keys are commented out with an example, so that the
/// file as it stands means the same as one with nothing but a broker's address.
pub fn reference() -> String {
    let mut text = String::from(
        "# Holdover: every key with its default. Keys without one are commented out.\n\
         # Durations are \"500ms\", \"10s\", \"5m\", \"1h\", \"7d\"; sizes \"64KiB\", \"256MiB\", \"480kB\".\n\
         # The environment can set any key but those of collectors: HOLDOVER__BROKER__URL is url in [broker].\n",
    );
    for section in SECTIONS.iter().filter(|section| !keys::REPEATED.contains(&section.name)) {
        text.push('\n');
        comment(&mut text, section.about);
        text.push_str(&format!("[{}]\n", section.name));
        for (position, key) in section.keys.iter().enumerate() {
            if position > 0 {
                text.push('\n');
            }
            push_key(&mut text, key, section.name == "broker" && key.name == "url");
        }
    }
    push_repeated(&mut text, keys::COLLECTOR);
    push_builtins(&mut text);
    push_repeated(&mut text, keys::BLACKOUT);
    push_repeated(&mut text, keys::ALARM);
    text
}

/// A key with a default stands as it is, or as a comment; `shown` makes an example count.
fn push_key(text: &mut String, key: &Key, shown: bool) {
    comment(text, key.about);
    let literal = if key.default.is_empty() { key.example } else { key.default };
    let mark = if key.default.is_empty() && !shown { "# " } else { "" };
    text.push_str(&format!("{mark}{} = {literal}\n", key.name));
}

/// All of it commented out: an entry as it stands would be one more.
fn push_repeated(text: &mut String, name: &'static str) {
    let section = keys::section(name).expect("it is in the key table");
    text.push('\n');
    comment(text, section.about);
    text.push_str(&format!("# [[{name}]]\n"));
    for key in section.keys {
        let literal = if key.default.is_empty() { key.example } else { key.default };
        comment(text, key.about);
        text.push_str(&format!("# {} = {literal}\n", key.name));
    }
}

fn push_builtins(text: &mut String) {
    text.push_str("\n# The built-in collectors:\n");
    for spec in COLLECTORS {
        let on = if spec.default_on { "" } else { ", off unless named" };
        text.push_str("#\n");
        comment(text, &format!("{} (every {}{on}): {}", spec.name, spec.default_schedule, spec.about));
        for param in spec.params {
            comment(text, &format!("  params.{} = {}: {}", param.name, param.default, param.about));
        }
    }
}

/// Wrapped to [`WIDTH`] columns.
fn comment(text: &mut String, about: &str) {
    let indent = about.len() - about.trim_start().len();
    let mut line = String::from("#");
    line.push_str(&" ".repeat(indent));
    for word in about.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = format!("#{}", " ".repeat(indent));
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}
