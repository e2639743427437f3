use std::time::Duration;

use super::*;
use crate::hub::sinks::Found;
use crate::record::{Point, Value};
use crate::wire::Envelope;

fn now(s: i64) -> Now {
    Now { mono: Duration::ZERO, boot: Duration::ZERO, wall_ms: 1_790_000_000_000 + s * 1000 }
}

fn options(dir: &Path) -> SinkOptions {
    SinkOptions { dir: dir.to_owned(), file_bytes: 1 << 20, file_age: Duration::from_secs(3600) }
}

/// One batch of these seqs; the position to commit.
fn batch(sink: &mut dyn Sink, at: Option<&str>, seqs: std::ops::RangeInclusive<u64>, time: Now) -> String {
    assert_eq!(sink.begin(at, time).unwrap(), Begun::Ready);
    write(sink, seqs);
    sink.flush().unwrap()
}

/// Reads what the ledger does not know: the seqs, and where it then stands.
fn read_back(sink: &mut dyn Sink, at: Option<&str>) -> (Vec<u64>, Option<String>) {
    let (mut at, mut seqs) = (at.map(str::to_owned), Vec::new());
    while let Some(part) = sink.beyond(at.as_deref()).unwrap() {
        at = Some(part.position);
        seqs.extend(part.rows.iter().map(|row| match row {
            Found::Record { seq, .. } => *seq,
            Found::Correction { .. } => 0,
        }));
    }
    (seqs, at)
}

fn path_of(dir: &Path, position: &str) -> PathBuf {
    dir.join(position.split(' ').next().unwrap())
}

fn append(path: &Path, bytes: &[u8]) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

fn write(sink: &mut dyn Sink, seqs: std::ops::RangeInclusive<u64>) {
    let envelope = Envelope {
        v: 1,
        host: "edge-01".to_owned(),
        site: "lab".to_owned(),
        epoch: 7,
        boot: "b".to_owned(),
        synced: true,
        anchor: None,
        sent: 0,
        lane: Lane::Live,
        losses: Vec::new(),
        records: Vec::new(),
    };
    for seq in seqs {
        let fields = [("value".into(), Value::Int(seq as i64))].into();
        let point = Point { ts: 5, mono: 1, name: "m".into(), tags: Tags::new(), fields, error: None };
        let record = crate::record::Record::new(seq, point);
        let topic = "v1/lab/edge-01/m/x";
        sink.write(&Stored { envelope: &envelope, record: &record, topic, time_ms: 5, corrected: false }).unwrap();
    }
}

/// The seqs in all files, in their order, and the number of files.
fn seqs(dir: &Path) -> (Vec<u64>, usize) {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let text: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let seq = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64().unwrap();
    (text.lines().map(seq).collect(), files.len())
}

#[test]
fn a_line_is_what_tail_calls_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(&options(dir.path())).unwrap();
    batch(sink.as_mut(), None, 1..=1, now(0));
    let file = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap();
    assert_eq!(file.file_name(), "records-00000001-20260921T141320Z.ndjson");
    assert_eq!(
        std::fs::read_to_string(file.path()).unwrap(),
        "{\"type\":\"record\",\"host\":\"edge-01\",\"site\":\"lab\",\"epoch\":7,\"seq\":1,\"ts\":5,\
         \"time\":\"1970-01-01T00:00:00.005Z\",\"name\":\"m\",\"status\":\"ok\",\"tags\":{},\"fields\":{\"value\":1},\
         \"synced\":true,\"lane\":\"live\",\"topic\":\"v1/lab/edge-01/m/x\"}\n"
    );
}

#[test]
fn a_correction_is_a_line_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(&options(dir.path())).unwrap();
    let committed = batch(sink.as_mut(), None, 1..=1, now(0));
    assert_eq!(sink.begin(Some(&committed), now(1)).unwrap(), Begun::Ready);
    sink.correct(&Correction { host: "edge-01", site: "lab", boot: "b", offset_ms: 1_790_000_000_000 }).unwrap();
    let committed = sink.flush().unwrap();
    let file = dir.path().join(committed.split(' ').next().unwrap());
    let text = std::fs::read_to_string(file).unwrap();
    let line = "{\"type\":\"clock\",\"host\":\"edge-01\",\"site\":\"lab\",\"boot\":\"b\",\"offset\":1790000000000}";
    assert_eq!(text.lines().last(), Some(line));
}

#[test]
fn whole_lines_that_the_ledger_does_not_know_are_read_back_and_a_torn_one_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(&options(dir.path())).unwrap();
    let committed = batch(sink.as_mut(), None, 1..=3, now(0));
    // Flushed and never committed: the crash between the two.
    let flushed = batch(sink.as_mut(), Some(&committed), 4..=6, now(1));
    drop(sink);
    append(&path_of(dir.path(), &committed), b"{\"type\":\"rec");
    let mut sink = open(&options(dir.path())).unwrap();
    let (found, at) = read_back(sink.as_mut(), Some(&committed));
    assert_eq!((found, at.as_deref()), (vec![4, 5, 6], Some(flushed.as_str())));
    batch(sink.as_mut(), Some(&flushed), 7..=7, now(2));
    assert_eq!(seqs(dir.path()), (vec![1, 2, 3, 4, 5, 6, 7], 1));
}

#[test]
fn a_new_ledger_reads_all_files_and_a_torn_line_spoils_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut small = options(dir.path());
    small.file_bytes = 600;
    let mut sink = open(&small).unwrap();
    let at = batch(sink.as_mut(), None, 1..=3, now(0));
    let at = batch(sink.as_mut(), Some(&at), 4..=5, now(1));
    drop(sink);
    let torn = [&b"{\"type\":\"record\",\"host\":\""[..], &[b'x'; BUFFER]].concat();
    append(&path_of(dir.path(), &at), &torn);
    let mut sink = open(&small).unwrap();
    assert_eq!(read_back(sink.as_mut(), None), (vec![1, 2, 3, 4, 5], Some(at.clone())));
    batch(sink.as_mut(), Some(&at), 6..=6, now(2));
    assert_eq!(seqs(dir.path()), (vec![1, 2, 3, 4, 5, 6], 2), "every line whole");
}

#[test]
fn an_older_ledger_reads_back_what_came_since_in_every_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut small = options(dir.path());
    small.file_bytes = 600;
    let mut sink = open(&small).unwrap();
    let old = batch(sink.as_mut(), None, 1..=1, now(0));
    let mut at = old.clone();
    let mut made = Vec::new();
    for seq in 2..=9 {
        at = batch(sink.as_mut(), Some(&at), seq..=seq, now(seq as i64));
        made.push(path_of(dir.path(), &at));
    }
    made.dedup();
    assert!(made.len() >= 3, "{made:?}");
    // Somebody took one away.
    std::fs::remove_file(&made[1]).unwrap();
    let left = seqs(dir.path()).0;
    let mut sink = open(&small).unwrap();
    assert_eq!(read_back(sink.as_mut(), Some(&old)), (left[1..].to_vec(), Some(at.clone())));
    batch(sink.as_mut(), Some(&at), 10..=10, now(20));
    assert_eq!(seqs(dir.path()).0, [left, vec![10]].concat(), "and nothing is cut or written over");
}

#[test]
fn what_is_no_line_of_ours_is_passed_over_and_costs_no_line_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut small = options(dir.path());
    small.file_bytes = 1;
    let mut sink = open(&small).unwrap();
    let first = batch(sink.as_mut(), None, 1..=1, now(0));
    let second = batch(sink.as_mut(), Some(&first), 2..=2, now(1));
    drop(sink);
    let bad = b"\0\0\0 garbage\n{\"type\":\"record\",\"host\":\"h\",\"site\":\"s\",\"epoch\":1,\"seq\":99}\n";
    let garbage = [&bad[..], b"\0torn"].concat();
    append(&path_of(dir.path(), &first), &garbage);
    append(&path_of(dir.path(), &second), &garbage);
    let mut sink = open(&small).unwrap();
    let (found, at) = read_back(sink.as_mut(), None);
    assert_eq!(found, [1, 99, 2, 99]);
    let path = path_of(dir.path(), &second);
    let aside = |number: u64| std::fs::read(format!("{}.tail-{number}", path.display()));
    assert_eq!(aside(1).unwrap(), b"\0torn");
    assert!(std::fs::read(path_of(dir.path(), &first)).unwrap().ends_with(&garbage));
    assert!(std::fs::read(&path).unwrap().ends_with(bad), "only what has no newline is moved");
    // Again: a second one takes no place, and a long piece is one piece.
    append(&path, &[&vec![b'0'; 9 << 20][..], b"\n{\"type\":\"later\"}\nmore"].concat());
    let (found, later) = read_back(sink.as_mut(), at.as_deref());
    assert_eq!((found, aside(2).unwrap()), (vec![], b"more".to_vec()));
    let later = later.unwrap();
    assert!(later.ends_with(&format!(" {}", std::fs::metadata(&path).unwrap().len())), "{later}");
}

#[test]
fn a_last_line_is_kept_when_it_is_whole_and_dropped_when_it_is_torn_at_any_byte() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(&options(dir.path())).unwrap();
    let at = batch(sink.as_mut(), None, 1..=1, now(0));
    let all = batch(sink.as_mut(), Some(&at), 2..=2, now(1));
    drop(sink);
    let path = path_of(dir.path(), &at);
    let text = std::fs::read(&path).unwrap();
    let old = at.split(' ').nth(1).unwrap().parse().unwrap();
    for length in old + 1..=text.len() {
        for damage in [None, Some(b'X')] {
            let mut torn = text[..length].to_vec();
            if length == text.len()
                && let Some(byte) = damage
            {
                torn[length - 1] = byte;
            }
            std::fs::write(&path, &torn).unwrap();
            let mut sink = open(&options(dir.path())).unwrap();
            let whole = length + 1 >= text.len();
            let expected = if whole { (vec![2], Some(all.clone())) } else { (vec![], Some(at.clone())) };
            assert_eq!(read_back(sink.as_mut(), Some(&at)), expected, "{length} bytes");
            assert_eq!(std::fs::read(&path).unwrap(), text[..if whole { text.len() } else { old }]);
        }
    }
}

#[test]
fn a_line_of_another_type_or_of_any_length_is_passed() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(&options(dir.path())).unwrap();
    let at = batch(sink.as_mut(), None, 1..=1, now(0));
    drop(sink);
    append(&path_of(dir.path(), &at), b"{\"type\":\"later\",\"host\":\"h\",\"seq\":\"x\"}\n");
    let mut sink = open(&options(dir.path())).unwrap();
    let (found, later) = read_back(sink.as_mut(), Some(&at));
    assert_eq!(found, [0; 0]);
    append(&path_of(dir.path(), &at), &vec![b'0'; 9 << 20]);
    assert_eq!(read_back(sink.as_mut(), later.as_deref()), (vec![], later));
    let aside = format!("{}.tail-1", path_of(dir.path(), &at).display());
    assert_eq!(std::fs::metadata(aside).unwrap().len(), 9 << 20);
}

#[test]
fn a_batch_that_failed_is_dropped_by_the_next_in_the_same_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(&options(dir.path())).unwrap();
    let committed = batch(sink.as_mut(), None, 1..=3, now(0));
    assert_eq!(sink.begin(Some(&committed), now(1)).unwrap(), Begun::Ready);
    write(sink.as_mut(), 4..=5);
    batch(sink.as_mut(), Some(&committed), 4..=4, now(2));
    assert_eq!(seqs(dir.path()).0, [1, 2, 3, 4]);
}

#[test]
fn files_are_closed_by_size_and_age_and_an_uncommitted_new_one_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut small = options(dir.path());
    small.file_bytes = 600;
    let mut sink = open(&small).unwrap();
    let mut at = batch(sink.as_mut(), None, 1..=3, now(0));
    at = batch(sink.as_mut(), Some(&at), 4..=4, now(1));
    assert_eq!(seqs(dir.path()), (vec![1, 2, 3, 4], 2), "by size");
    at = batch(sink.as_mut(), Some(&at), 5..=5, now(2));
    at = batch(sink.as_mut(), Some(&at), 6..=6, now(4000));
    assert_eq!(seqs(dir.path()), (vec![1, 2, 3, 4, 5, 6], 3), "by age");
    batch(sink.as_mut(), Some(&at), 7..=7, now(9000));
    assert_eq!(seqs(dir.path()).1, 4);
    batch(sink.as_mut(), Some(&at), 7..=8, now(9001));
    assert_eq!(seqs(dir.path()), (vec![1, 2, 3, 4, 5, 6, 7, 8], 4), "the commit failed, and it came again");
}

#[test]
fn files_that_were_taken_away_are_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(&options(dir.path())).unwrap();
    let at = batch(sink.as_mut(), None, 1..=3, now(0));
    std::fs::remove_file(dir.path().join(at.split(' ').next().unwrap())).unwrap();
    let mut sink = open(&options(dir.path())).unwrap();
    let at = batch(sink.as_mut(), Some(&at), 4..=4, now(1));
    assert!(at.starts_with("records-00000002-"), "{at}");
    assert_eq!(seqs(dir.path()), (vec![4], 1));
}

#[test]
fn a_ledger_older_than_the_files_deletes_nothing_unread() {
    let dir = tempfile::tempdir().unwrap();
    let mut small = options(dir.path());
    small.file_bytes = 1;
    let mut sink = open(&small).unwrap();
    let old = batch(sink.as_mut(), None, 1..=1, now(0));
    let mut at = old.clone();
    for seq in 2..=4 {
        at = batch(sink.as_mut(), Some(&at), seq..=seq, now(1));
    }
    let mut sink = open(&small).unwrap();
    for time in 2..=3 {
        assert_eq!(sink.begin(Some(&old), now(time)).unwrap(), Begun::Beyond);
    }
    assert_eq!(seqs(dir.path()), (vec![1, 2, 3, 4], 4));
    assert_eq!(read_back(sink.as_mut(), Some(&old)), (vec![2, 3, 4], Some(at.clone())));
    batch(sink.as_mut(), Some(&at), 5..=5, now(4));
    assert_eq!(seqs(dir.path()).0, [1, 2, 3, 4, 5]);
}

#[test]
fn what_others_put_beside_a_failed_batch_is_not_taken_back_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(&options(dir.path())).unwrap();
    let at = batch(sink.as_mut(), None, 1..=2, now(0));
    assert_eq!(sink.begin(Some(&at), now(1)).unwrap(), Begun::Ready);
    write(sink.as_mut(), 3..=3);
    sink.flush().unwrap();
    // The same file, longer than we made it.
    let path = path_of(dir.path(), &at);
    let lines = std::fs::read(&path).unwrap();
    append(&path, &lines);
    assert_eq!(sink.begin(Some(&at), now(2)).unwrap(), Begun::Beyond);
    assert_eq!(seqs(dir.path()).0, [1, 2, 3, 1, 2, 3]);
}

#[test]
fn a_file_shorter_than_it_was_is_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(&options(dir.path())).unwrap();
    let at = batch(sink.as_mut(), None, 1..=2, now(0));
    drop(sink);
    File::create(dir.path().join(at.split(' ').next().unwrap())).unwrap();
    let mut sink = open(&options(dir.path())).unwrap();
    assert!(batch(sink.as_mut(), Some(&at), 3..=3, now(1)).starts_with("records-00000002-"));
}

/// By whoever ships files and does not know that the newest still grows: with a `mv`, or as logrotate's `copytruncate` does.
#[test]
fn a_file_that_is_taken_cut_or_replaced_while_it_grows_is_left_for_the_next() {
    type Deed = fn(&Path);
    let deeds: [(Deed, &[u64]); 4] = [
        (|path| std::fs::remove_file(path).unwrap(), &[4]),
        (|path| std::fs::rename(path, path.with_extension("mine")).unwrap(), &[1, 2, 3, 4]),
        (|path| drop(File::create(path).unwrap()), &[4]),
        // The same in another file, such as an editor leaves.
        (
            |path| {
                std::fs::copy(path, path.with_extension("new")).unwrap();
                std::fs::rename(path.with_extension("new"), path).unwrap();
            },
            &[1, 2, 3, 4],
        ),
    ];
    for (at, (deed, left)) in deeds.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = open(&options(dir.path())).unwrap();
        let position = batch(sink.as_mut(), None, 1..=3, now(0));
        deed(&path_of(dir.path(), &position));
        batch(sink.as_mut(), Some(&position), 4..=4, now(1));
        assert_eq!(seqs(dir.path()).0, left, "deed {at}");
    }
}
