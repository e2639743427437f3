//! Runs `tests/tools/judge.py`, which compares what agents committed with what a hub stored and knows no code of ours.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use super::agent::Agent;
use super::hub::Hub;
use super::{pass_time, python, tail_of, tool};

/// What it found.
#[derive(Debug)]
pub struct Verdict(Json);

/// Every kind of fault.
const FAULTS: [&str; 5] = ["missing", "twice", "changed", "strange", "reused"];

impl Verdict {
    /// Of everything that these commit files name.
    pub fn of(commits: &[PathBuf], stored: &Path) -> Verdict {
        let mut command = python();
        command.arg(tool("judge.py")).arg("--stored").arg(stored).arg("--commits").args(commits);
        let output = command.output().expect("python3 starts");
        let said = String::from_utf8_lossy(&output.stderr);
        Verdict(serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("judge.py: {error}: {said}")))
    }

    pub fn count(&self, what: &str) -> u64 {
        self.0[what].as_u64().unwrap_or_else(|| panic!("no count {what}: {self:?}"))
    }

    /// The ranges of one kind of fault: epoch, first seq, last seq.
    pub fn ranges(&self, fault: &str) -> Vec<(u64, u64, u64)> {
        let ranges = self.0[fault].as_array().unwrap_or_else(|| panic!("no ranges {fault}: {self:?}"));
        let number = |range: &Json, at: usize| range[at].as_u64().expect("a number");
        ranges.iter().map(|range| (number(range, 0), number(range, 1), number(range, 2))).collect()
    }

    /// How many seqs are so.
    pub fn seqs(&self, fault: &str) -> u64 {
        self.ranges(fault).iter().map(|(_, from, to)| to - from + 1).sum()
    }

    /// The kinds of fault that it found.
    pub fn faults(&self) -> Vec<&'static str> {
        FAULTS.into_iter().filter(|fault| !self.ranges(fault).is_empty()).collect()
    }
}

/// Waits until every record committed up to now is stored, then wants it to be there once and unchanged. `meanwhile`
/// is called about once a second.
pub fn wait_for_all(agent: &mut Agent, hub: &mut Hub, limit: Duration, mut meanwhile: impl FnMut(&mut Agent)) {
    agent.update_commits();
    let needed = agent.committed() as u64;
    let end = Instant::now() + limit;
    loop {
        agent.check();
        hub.check();
        let verdict = Verdict::of(&agent.commit_files(), &hub.dir);
        // What was drawn under a seq for the second time counts as changed until it comes under another.
        let grave = |fault: &&str| ["twice", "strange"].contains(fault);
        let grave: Vec<_> = verdict.faults().into_iter().filter(grave).collect();
        assert!(grave.is_empty(), "{verdict:?}");
        // Those that came after are on their way.
        if verdict.count("committed") >= needed && verdict.seqs("changed") == 0 && newest_missing(&verdict, agent) {
            return;
        }
        let log = || tail_of(&agent.log, 20);
        assert!(Instant::now() < end, "not all stored after {limit:?}: {verdict:?}; the agent's log ends:\n{}", log());
        meanwhile(agent);
        pass_time(Duration::from_millis(500));
    }
}

/// Whether what is missing is newer than all that was committed when the waiting began.
fn newest_missing(verdict: &Verdict, agent: &Agent) -> bool {
    let known = super::oracle::newest(&agent.runs);
    verdict.ranges("missing").iter().all(|(epoch, from, _)| known.get(epoch).is_none_or(|top| from > top))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seqs 1 and 2, each with its number in field x.
    const ONE: &str =
        "87a373657101a2747305a46d6f6e6f01a46e616d65a161a6737461747573a26f6ba47461677380a66669656c647381a17801";
    const TWO: &str =
        "87a373657102a2747305a46d6f6e6f01a46e616d65a161a6737461747573a26f6ba47461677380a66669656c647381a17802";

    fn line(epoch: u64, seq: u64, x: u64) -> String {
        format!(
            "{{\"host\":\"h\",\"epoch\":{epoch},\"seq\":{seq},\"ts\":5,\"name\":\"a\",\"status\":\"ok\",\"tags\":{{}},\"fields\":{{\"x\":{x}}}}}\n"
        )
    }

    fn verdict(commits: &[&str], stored: &str) -> Verdict {
        let dir = tempfile::tempdir().unwrap();
        let path = |n: usize| dir.path().join(format!("commits-{n}"));
        for (n, text) in commits.iter().enumerate() {
            std::fs::write(path(n), text).unwrap();
        }
        std::fs::write(dir.path().join("a.ndjson"), stored).unwrap();
        Verdict::of(&(0..commits.len()).map(path).collect::<Vec<_>>(), dir.path())
    }

    /// A judge that has never convicted proves nothing.
    #[test]
    fn every_planted_fault_is_found_and_nothing_else() {
        let both = format!("7 1 {ONE}\n7 2 {TWO}\n");
        let sound = line(7, 1, 1) + &line(7, 2, 2);
        let faults = |stored: &str| verdict(&[&both], stored).faults();
        assert!(faults(&sound).is_empty());
        assert_eq!(faults(&line(7, 2, 2)), ["missing"]);
        assert_eq!(faults(&(sound.clone() + &line(7, 1, 1))), ["twice"]);
        assert_eq!(faults(&(line(7, 1, 1) + &line(7, 2, 3))), ["changed"]);
        assert_eq!(faults(&(sound.clone() + &line(7, 3, 3))), ["strange"]);
        assert_eq!(faults(&(sound.clone() + "{\"half")), [""; 0], "not written yet");
        let again = verdict(&[&both, &format!("7 1 {}\n", ONE.replace("7801", "7809"))], &sound);
        assert_eq!((again.faults(), again.ranges("reused")), (vec!["changed", "reused"], vec![(7, 1, 1)]));
        let moved = verdict(&[&both, &format!("8 1 {ONE}\n")], &(line(8, 1, 1) + &line(7, 2, 2)));
        assert!(moved.faults().is_empty() && moved.ranges("moved") == [(7, 1, 1)], "{moved:?}");
    }
}
