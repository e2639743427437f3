//! The judge: compares what the agent committed with what the witness received, as sets and byte for byte.
//!
//! It knows nothing of the product's code: two text files in, complaints out. Its own tests plant a removed record,
//! a changed byte, a reused seq and a phantom, because a judge that has never convicted proves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// (epoch, seq)
pub type Key = (u64, u64);

/// A text file that grows; gives complete lines only.
struct Follow {
    path: PathBuf,
    at: u64,
    rest: Vec<u8>,
}

impl Follow {
    fn new(path: &Path) -> Follow {
        Follow { path: path.to_owned(), at: 0, rest: Vec::new() }
    }

    fn lines(&mut self) -> Vec<String> {
        let Ok(mut file) = File::open(&self.path) else { return Vec::new() };
        file.seek(SeekFrom::Start(self.at)).expect("seek in a regular file");
        let size = file.read_to_end(&mut self.rest).expect("read of a regular file");
        self.at += size as u64;
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        String::from_utf8(lines).expect("the witnesses write ASCII").lines().map(str::to_owned).collect()
    }
}

/// What one agent process said it had committed, in its order. A process that is killed may leave half a line.
pub struct Commits {
    follow: Follow,
    pub list: Vec<(Key, String)>,
    pub killed: bool,
}

impl Commits {
    pub fn new(path: &Path) -> Commits {
        Commits { follow: Follow::new(path), list: Vec::new(), killed: false }
    }

    pub fn update(&mut self) {
        for line in self.follow.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [epoch, seq, bytes] = words[..] else { panic!("not a commit line: {line:?}") };
            let key = (epoch.parse().expect("an epoch"), seq.parse().expect("a seq"));
            self.list.push((key, bytes.to_owned()));
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    pub epoch: u64,
    pub from: u64,
    pub to: Option<u64>,
    pub count: u64,
    pub reason: String,
}

impl Declared {
    fn covers(&self, (epoch, seq): Key) -> bool {
        self.epoch == epoch && self.from <= seq && self.to.is_none_or(|to| seq <= to)
    }
}

/// What one host's subscriber received.
pub struct Received {
    follow: Follow,
    host: String,
    /// In the order of arrival, duplicates included: key, history?, bytes.
    pub arrivals: Vec<(Key, bool, String)>,
    pub records: BTreeMap<Key, String>,
    /// Keys that arrived with two different contents.
    pub contradictions: BTreeSet<Key>,
    pub losses: Vec<Declared>,
    /// topic, payload as hex
    pub others: Vec<(String, String)>,
    pub malformed: Vec<String>,
    pub subscriptions: usize,
    /// Of each message that was a zstd frame: topic, bytes, bytes inside.
    pub frames: Vec<(String, u64, u64)>,
    /// Hosts other than this one that were heard.
    pub strangers: BTreeSet<String>,
}

impl Received {
    pub fn new(path: &Path, host: &str) -> Received {
        Received {
            follow: Follow::new(path),
            host: host.to_owned(),
            arrivals: Vec::new(),
            records: BTreeMap::new(),
            contradictions: BTreeSet::new(),
            losses: Vec::new(),
            others: Vec::new(),
            malformed: Vec::new(),
            subscriptions: 0,
            frames: Vec::new(),
            strangers: BTreeSet::new(),
        }
    }

    pub fn update(&mut self) {
        for line in self.follow.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["R", host, epoch, seq, lane, bytes] if host == self.host => {
                    let key = (epoch.parse().expect("an epoch"), seq.parse().expect("a seq"));
                    self.arrivals.push((key, lane == "history", bytes.to_owned()));
                    let first = self.records.entry(key).or_insert_with(|| bytes.to_owned());
                    if first != bytes {
                        self.contradictions.insert(key);
                    }
                }
                ["L", host, epoch, from, to, count, reason] if host == self.host => {
                    let loss = Declared {
                        epoch: epoch.parse().expect("an epoch"),
                        from: from.parse().expect("a seq"),
                        to: to.parse().ok(),
                        count: count.parse().expect("a count"),
                        reason: reason.to_owned(),
                    };
                    if !self.losses.contains(&loss) {
                        self.losses.push(loss);
                    }
                }
                ["R" | "L", host, ..] => {
                    self.strangers.insert(host.to_owned());
                }
                ["S", topic, payload] => self.others.push((topic.to_owned(), payload.to_owned())),
                ["C", _] => self.subscriptions += 1,
                ["Z", topic, bytes, inside] => {
                    let number = |text: &str| text.parse().expect("a size");
                    self.frames.push((topic.to_owned(), number(bytes), number(inside)));
                }
                _ => self.malformed.push(line),
            }
        }
    }

    pub fn has(&self, key: Key) -> bool {
        self.records.contains_key(&key) || self.losses.iter().any(|loss| loss.covers(key))
    }

    pub fn duplicates(&self) -> usize {
        self.arrivals.len() - self.records.len()
    }
}

/// Of the records in `required`, those neither received nor declared lost.
pub fn missing(required: &[Commits], received: &Received) -> Vec<Key> {
    let all = required.iter().flat_map(|run| run.list.iter().map(|(key, _)| *key));
    all.filter(|key| !received.has(*key)).collect()
}

/// Everything that must never be, in words; empty when the run was sound. `runs` in the order in which they ran and
/// read after `received` was: a record is witnessed before it is published.
pub fn complaints(runs: &[Commits], received: &Received) -> Vec<String> {
    let mut found = Vec::new();
    let mut committed: BTreeMap<Key, &str> = BTreeMap::new();
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    for ((epoch, seq), bytes) in runs.iter().flat_map(|run| &run.list) {
        let before = last.insert(*epoch, *seq).unwrap_or(0);
        if *seq <= before {
            found.push(format!("seq {seq} of epoch {epoch} was committed after {before}: reused or out of order"));
        }
        committed.entry((*epoch, *seq)).or_insert(bytes);
    }
    for key in &received.contradictions {
        found.push(format!("{key:?} arrived twice with different bytes"));
    }
    for (key, bytes) in &received.records {
        match committed.get(key) {
            Some(own) if own != bytes => found.push(format!("{key:?} was changed: {own} committed, {bytes} received")),
            Some(_) => {}
            None if lost_by_the_witness(*key, runs) => {}
            None => found.push(format!("{key:?} was received and never committed")),
        }
    }
    for line in &received.malformed {
        found.push(format!("the witness could not read: {line}"));
    }
    found
}

/// The newest seq of each epoch that the agent says it has committed.
pub fn newest(runs: &[Commits]) -> BTreeMap<u64, u64> {
    let mut newest = BTreeMap::new();
    for ((epoch, seq), _) in runs.iter().flat_map(|run| &run.list) {
        let seen: &mut u64 = newest.entry(*epoch).or_default();
        *seen = (*seen).max(*seq);
    }
    newest
}

/// Up to these seqs, those neither received nor declared: what a subscriber calls a gap. Also finds seqs that were
/// drawn and never committed, which nobody but the agent could explain.
pub fn gaps(received: &Received, upto: &BTreeMap<u64, u64>) -> Vec<Key> {
    let all = upto.iter().flat_map(|(epoch, top)| (1..=*top).map(move |seq| (*epoch, seq)));
    all.filter(|key| !received.has(*key)).collect()
}

/// A process killed between its commit and its witness line leaves records that nobody vouches for: they lie between
/// the last line of the killed run and the first of a later one.
fn lost_by_the_witness((epoch, seq): Key, runs: &[Commits]) -> bool {
    let of_epoch = |run: &Commits| -> Vec<u64> {
        run.list.iter().filter(|((its, _), _)| *its == epoch).map(|((_, seq), _)| *seq).collect()
    };
    (0..runs.len()).filter(|index| runs[*index].killed).any(|index| {
        let before = runs[..=index].iter().flat_map(of_epoch).max().unwrap_or(0);
        let after = runs[index + 1..].iter().flat_map(of_epoch).min().unwrap_or(u64::MAX);
        before < seq && seq < after
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seqs: &[(u64, &str)]) -> Commits {
        let mut commits = Commits::new(Path::new("/nonexistent"));
        commits.list = seqs.iter().map(|(seq, bytes)| ((7, *seq), (*bytes).to_owned())).collect();
        commits
    }

    fn received(lines: &str) -> Received {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("received");
        std::fs::write(&path, lines).unwrap();
        let mut received = Received::new(&path, "edge");
        received.update();
        received
    }

    const THREE: &str = "C 0\nR edge 7 1 live aa\nR edge 7 2 history bb\nR edge 7 2 history bb\nR edge 7 3 live cc\n";

    #[test]
    fn sound_run_has_no_complaint() {
        let (runs, received) = ([run(&[(1, "aa"), (2, "bb"), (3, "cc")])], received(THREE));
        assert_eq!(complaints(&runs, &received), Vec::<String>::new());
        assert!(missing(&runs, &received).is_empty() && gaps(&received, &newest(&runs)).is_empty());
        assert_eq!(received.duplicates(), 1);
    }

    #[test]
    fn removed_record_is_missing_and_a_gap() {
        let received = received("R edge 7 1 live aa\nR edge 7 3 live cc\n");
        let runs = [run(&[(1, "aa"), (2, "bb"), (3, "cc")])];
        assert_eq!(missing(&runs, &received), [(7, 2)]);
        assert_eq!(gaps(&received, &newest(&runs)), [(7, 2)]);
        let drawn_only = [run(&[(1, "aa"), (3, "cc")])];
        assert_eq!(gaps(&received, &newest(&drawn_only)), [(7, 2)]);
    }

    #[test]
    fn declared_loss_excuses_absence_in_its_range_only() {
        let received = received("R edge 7 1 live aa\nL edge 7 2 3 2 quota\nR edge 7 5 live ee\n");
        let runs = [run(&[(1, "aa"), (2, "bb"), (3, "cc"), (4, "dd"), (5, "ee")])];
        assert_eq!(missing(&runs, &received), [(7, 4)]);
        let open = Declared { epoch: 7, from: 2, to: None, count: 0, reason: "epoch".to_owned() };
        assert!(open.covers((7, 900)) && !open.covers((7, 1)) && !open.covers((8, 900)));
    }

    #[test]
    fn changed_byte_is_a_complaint() {
        let received = received("R edge 7 1 live ab\n");
        assert_eq!(complaints(&[run(&[(1, "aa")])], &received).len(), 1);
    }

    #[test]
    fn two_contents_under_one_seq_are_a_complaint() {
        let received = received("R edge 7 1 live aa\nR edge 7 1 history ab\n");
        assert_eq!(complaints(&[run(&[(1, "aa")])], &received).len(), 1);
    }

    #[test]
    fn reused_seq_is_a_complaint_even_across_processes() {
        let nothing = received("");
        assert_eq!(complaints(&[run(&[(1, "aa"), (1, "aa")])], &nothing).len(), 1);
        assert_eq!(complaints(&[run(&[(1, "aa"), (2, "bb")]), run(&[(2, "cc")])], &nothing).len(), 1);
    }

    #[test]
    fn phantom_is_a_complaint_unless_a_kill_explains_it() {
        let received = received(THREE);
        let mut runs = [run(&[(1, "aa")]), run(&[(3, "cc")])];
        assert_eq!(complaints(&runs, &received).len(), 1);
        runs[0].killed = true;
        assert_eq!(complaints(&runs, &received), Vec::<String>::new());
        let runs = [runs.into_iter().next().unwrap(), run(&[(2, "bb")])];
        assert_eq!(complaints(&runs, &received).len(), 1, "3 is after the last run, which was not killed");
    }

    #[test]
    fn half_a_line_waits_for_its_other_half() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("commits");
        std::fs::write(&path, "7 1 aa\n7 2 b").unwrap();
        let mut commits = Commits::new(&path);
        commits.update();
        assert_eq!(commits.list, [((7, 1), "aa".to_owned())]);
        std::fs::write(&path, "7 1 aa\n7 2 bb\n").unwrap();
        commits.update();
        assert_eq!(commits.list.len(), 2);
    }

    #[test]
    fn malformed_message_and_stranger_are_seen() {
        let received = received("X v1/s/edge/h not an envelope\nR other 9 1 live aa\nS v1/s/edge/status 7b7d\n");
        assert_eq!(complaints(&[], &received).len(), 1);
        assert!(received.strangers.contains("other") && received.others.len() == 1);
    }
}
