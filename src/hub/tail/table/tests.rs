use super::*;
use crate::hub::filter::Filter;
use crate::wire::Lane;

const NOW: Now = Now { mono: Duration::from_secs(100), boot: Duration::ZERO, wall_ms: 1_790_000_000_000 };

/// What a terminal would show of a frame: escape codes removed, lines as they are.
fn plain(frame: &str) -> Vec<String> {
    let mut out = String::new();
    let mut chars = frame.chars();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            chars.by_ref().find(|c| c.is_ascii_alphabetic());
        } else {
            out.push(c);
        }
    }
    out.split("\r\n").map(str::to_owned).collect()
}

fn observer(hosts: usize) -> Observer {
    let mut observer = Observer::new("", Filter::default(), true);
    for i in 0..hosts {
        let host = format!("edge-{i:02}");
        for seqs in [[1, 2, 3], [4, 7, 8]].iter().take(if i == 5 { 2 } else { 1 }) {
            observer.see_for_test(&host, seqs, NOW);
        }
    }
    observer
}

#[test]
fn a_frame_fits_any_terminal() {
    let observer = observer(40);
    let mut table = Table::new(true, "mqtts://broker.example:8883".into());
    table.listening = true;
    for i in 0..300 {
        table.note(&format!("line {i} {}", "\u{6e29}x".repeat(100)), NOW);
    }
    for (columns, rows) in [(80, 24), (200, 60), (20, 5), (1, 1), (120, 2)] {
        let frame = table.draw(&observer, Duration::from_secs(3723), NOW, Size { columns, rows });
        for line in frame.split("\r\n").filter(|line| line.ends_with("\x1b[K")) {
            assert_eq!(line, "\x1b[K", "nothing is erased behind a text");
        }
        let lines = plain(&frame);
        assert!(lines.len() <= rows, "{} lines in {rows}", lines.len());
        for line in &lines {
            let width: usize = line.chars().map(|c| if c < '\u{1100}' { 1 } else { 2 }).sum();
            assert!(width <= columns, "{width} in {columns}: {line:?}");
        }
    }
}

#[test]
fn hosts_in_trouble_are_shown_when_not_all_fit() {
    let table = Table::new(false, "mqtts://b".into());
    let lines = plain(&table.draw(&observer(40), Duration::from_secs(1), NOW, Size { columns: 120, rows: 12 }));
    assert!(lines[0].contains("NOT CONNECTED"), "{lines:#?}");
    assert!(lines[3].starts_with("edge-05 "), "{lines:#?}");
    assert!(lines.iter().any(|l| l.starts_with("... and 37 more hosts, 0 of them")), "{lines:#?}");
}

#[test]
fn what_is_notable_is_not_pushed_out_by_records() {
    let mut table = Table::new(false, "b".into());
    table.note("loss     edge-01 seq 1..=2 of epoch 9 declared lost: quota", NOW);
    for i in 0..300 {
        remember(&mut table.records, format!("record {i}"));
    }
    let lines = plain(&table.draw(&observer(2), Duration::ZERO, NOW, Size { columns: 80, rows: 24 }));
    let expected = ["14:13:20 loss     edge-01 seq 1..=2 of epoch 9 declared lost: quota", "", "record 284"];
    assert_eq!(lines[6..9], expected, "{lines:#?}");
    assert_eq!(lines[23], "record 299");
    assert_eq!(lines.len(), 24);
}

#[test]
fn the_table_looks_like_this() {
    let lines = plain(&Table::new(false, "mqtts://b:8883".into()).draw(
        &observer(6),
        Duration::from_secs(3723),
        Now { wall_ms: NOW.wall_ms + 125_000, ..NOW },
        Size { columns: 120, rows: 24 },
    ));
    let expected = [
        "holdover-hub tail  mqtts://b:8883 NOT CONNECTED  01:02:03  0 records in 7 messages",
        "",
        "HOST                       STATE SEEN   RECORDS RATE/s   DUP   LATE   GAPS   LOST BACKLOG SITE        ",
        "edge-00                   online   2m         3    0.0     0      0      0      0       0 site        ",
    ];
    assert_eq!(lines[..4], expected);
    let last = "edge-05                   online   2m         6    0.0     0      0      2      0       0 site        ";
    assert_eq!(lines[8], last);
}

#[test]
fn without_color_there_are_no_color_codes() {
    let observer = observer(6);
    let size = Size { columns: 100, rows: 24 };
    let bare = Table::new(false, "b".into()).draw(&observer, Duration::ZERO, NOW, size);
    assert!(!bare.contains('m') || !bare.contains("\x1b[3"), "{bare:?}");
    let colored = Table::new(true, "b".into()).draw(&observer, Duration::ZERO, NOW, size);
    assert!(colored.contains(YELLOW), "a host with an open gap");
    assert_eq!(plain(&bare), plain(&colored));
}

impl Observer {
    fn see_for_test(&mut self, host: &str, seqs: &[u64], now: Now) {
        let topic = format!("v1/site/{host}/status");
        let status = format!(
            r#"{{"v":1,"state":"online","session":"s","host":"{host}","site":"site","sent":0,"version":"0","epoch":9,
            "next_seq":1,"pending":[],"backlog":0,"level":"broker"}}"#
        );
        self.take(&topic, status.as_bytes(), true, now);
        self.tracker.observe(host, 9, seqs, Lane::Live, now);
    }
}
