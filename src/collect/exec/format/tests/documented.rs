//! docs/scripts.md shows each format by an example; what it says comes out, comes out.

use serde_json::{Value as Json, json};

use super::*;

const PAGE: &str = include_str!("../../../../../docs/scripts.md");

/// The fenced blocks: what is in them, and what they are.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let fenced = PAGE.split("```").skip(1).step_by(2);
    fenced.map(|block| block.split_once('\n').expect("a block has lines")).collect()
}

fn record(point: Point) -> Json {
    assert_eq!(point.error, None);
    let ts = point.ts;
    let mut json = serde_json::to_value(crate::record::Record::new(1, point)).unwrap();
    let map = json.as_object_mut().unwrap();
    map.retain(|key, _| ["name", "tags", "fields"].contains(&key.as_str()) || (key == "ts" && ts != DEFAULTS.ts));
    json
}

#[test]
fn every_format_has_an_example_that_is_read_as_the_page_says() {
    let blocks = blocks();
    for spec in FORMATS {
        let at = blocks.iter().position(|(format, _)| *format == spec.name);
        let at = at.unwrap_or_else(|| panic!("docs/scripts.md has no example of {}", spec.name));
        let (text, (kind, records)) = (blocks[at].1, blocks[at + 1]);
        assert_eq!(kind, "records", "after the example of {}", spec.name);
        let records: Vec<Json> = records.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let exit = if spec.name == "nagios" { 1 } else { 0 };
        let output = Output { whole: exit == 0, exit: Some(exit), ..output(text.as_bytes()) };
        assert_eq!(told_of(&output), spec.name);
        for format in ["auto", spec.name] {
            let read: Vec<Json> = read_output(&output, format).into_iter().map(record).collect();
            assert_eq!(json!(read), json!(records), "{}", spec.name);
        }
        assert!(PAGE.contains(&format!("| `{}` |", spec.name)), "{} is in the table", spec.name);
    }
}
