//! `holdover put`: standard input, in batches, to the running agent. What is answered as stored is durable; what is not
//! is told by its line, and the exit code says that there is some.

mod input;

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::PutArgs;
use super::exit::{Exit, Failure};
use super::{load, output};
use crate::clock;
use crate::platform::local;
use crate::put::{Answer, Header, Kind, Trouble, VERSION};
use input::{Batch, Input};

/// The agent answers within a minute, or not at all.
const ANSWER: Duration = Duration::from_secs(60);
/// The largest answer: a reason for each line of a batch.
const MAX_ANSWER: u64 = 1 << 20;
/// Between attempts while the agent is busy.
const AGAIN: Duration = Duration::from_millis(500);

/// Epochs that the summary names.
const STRETCHES: usize = 4;

/// What has been answered so far.
#[derive(Default)]
struct Account {
    stored: u64,
    refused: u64,
    /// Of each epoch, first and last seq; the latest few.
    stretches: Vec<(u64, u64, u64)>,
}

pub fn run(args: &PutArgs) -> Result<Exit, Failure> {
    let socket = socket(args)?;
    let tags = args.tags.iter().cloned().collect();
    let header = Header { put: VERSION, collector: args.collector.clone(), format: args.format, tags };
    header.check().map_err(|trouble| Failure::new(Exit::Usage, trouble.message))?;
    let mut first_line = serde_json::to_vec(&header).expect("a header is plain data");
    first_line.push(b'\n');
    let mut input = Input::new(io::stdin().lock(), header.max_lines());
    let mut sending = Sending { socket, first_line, patience: args.patience, account: Account::default() };
    let mut answers = Answers { json: args.json, out: output::stdout(), failed: None };
    loop {
        let batch = input.next().map_err(|error| unread(&error, &sending.account))?;
        let Some(batch) = batch else { break };
        sending.account.take(&batch, Answer { refused: Vec::new(), ..Answer::default() });
        sending.send(batch, &mut answers)?;
    }
    answers.finish(&sending.account)
}

/// Where lines go, and what became of them.
struct Sending {
    socket: PathBuf,
    first_line: Vec<u8>,
    patience: Duration,
    account: Account,
}

impl Sending {
    /// A batch that is too large in the agent's memory goes in parts.
    fn send(&mut self, batch: Batch, answers: &mut Answers) -> Result<(), Failure> {
        let mut left = vec![batch];
        while let Some(batch) = left.pop().filter(|batch| !batch.lines.is_empty()) {
            let answer = deliver(&self.socket, &self.first_line, &batch, self.patience);
            let trouble = answer.error.clone();
            if trouble.as_ref().is_some_and(|trouble| trouble.kind == Kind::Oversize) && batch.lines.len() > 1 {
                let (first, rest) = batch.halves();
                left.extend([rest, first]);
                continue;
            }
            answers.tell(&answer);
            self.account.take(&Batch { too_long: Vec::new(), ..batch.clone() }, answer);
            if let Some(trouble) = trouble {
                return Err(stopped(&self.socket, &trouble, &batch, &self.account));
            }
        }
        Ok(())
    }
}

/// Standard output. Whoever reads it may go away: what is stored and what is not is the exit code's to say.
struct Answers {
    json: bool,
    out: output::Stdout,
    failed: Option<io::Error>,
}

impl Answers {
    fn tell(&mut self, answer: &Answer) {
        if self.json {
            self.line(&serde_json::to_string(answer).expect("an answer is plain data"));
        }
    }

    fn line(&mut self, line: &str) {
        if self.failed.is_none() {
            self.failed = writeln!(self.out, "{line}").and_then(|()| self.out.flush()).err();
        }
    }

    fn finish(mut self, account: &Account) -> Result<Exit, Failure> {
        if !self.json {
            self.line(&account.told());
        }
        match self.failed {
            Some(error) => Err(Failure::failed(format!("cannot write the output: {error}; {}", account.told()))),
            None => Ok(if account.refused > 0 { Exit::Failed } else { Exit::Ok }),
        }
    }
}

fn socket(args: &PutArgs) -> Result<PathBuf, Failure> {
    if let Some(socket) = &args.socket {
        return Ok(socket.clone());
    }
    let put = load::config(&args.config)?.config.put;
    if !put.enabled {
        let message = "no application may put records here: set enabled = true in [put] of the agent's configuration \
                       and restart it; nothing was stored";
        return Err(Failure::failed(message));
    }
    Ok(put.socket)
}

/// The agent's answer; while it is busy it is asked again.
fn deliver(socket: &Path, first_line: &[u8], batch: &Batch, patience: Duration) -> Answer {
    let end = clock::now().mono + patience;
    loop {
        let answer = ask(socket, first_line, &batch.bytes)
            .unwrap_or_else(|trouble| Answer { error: Some(trouble), ..Answer::default() });
        let busy = answer.error.as_ref().is_some_and(|trouble| trouble.kind == Kind::Busy);
        if !busy || clock::now().mono + AGAIN > end {
            return answer;
        }
        wait(AGAIN);
    }
}

#[expect(clippy::disallowed_methods, reason = "a command of one thread: there is no loop to block")]
fn wait(time: Duration) {
    std::thread::sleep(time);
}

fn ask(socket: &Path, first_line: &[u8], lines: &[u8]) -> Result<Answer, Trouble> {
    let mut stream = local::dial(socket).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Trouble::new(Kind::Busy, "too many applications wait for the agent"),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            Trouble::new(Kind::Unwritable, "no agent runs there, or its [put] is not enabled")
        }
        io::ErrorKind::PermissionDenied => {
            Trouble::new(Kind::Unwritable, format!("{error}: see group and mode in [put], and the folder's mode"))
        }
        _ => Trouble::new(Kind::Unwritable, error.to_string()),
    })?;
    let unknown = |error: io::Error| {
        Trouble::new(Kind::Unknown, format!("the agent did not answer ({error}): these records may be stored or not"))
    };
    stream.set_read_timeout(Some(ANSWER)).and_then(|()| stream.set_write_timeout(Some(ANSWER))).map_err(unknown)?;
    let sent = stream.write_all(first_line).and_then(|()| stream.write_all(lines));
    // It may have answered before it had read everything, and then says why.
    let sent = sent.and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    let read = stream.take(MAX_ANSWER).read_to_end(&mut answer);
    match serde_json::from_slice(&answer) {
        Ok(answer) => Ok(answer),
        Err(error) => Err(unknown(sent.and(read.map(drop)).err().unwrap_or_else(|| error.into()))),
    }
}

impl Account {
    /// Books a batch, and says what was refused in it by the line of the input.
    fn take(&mut self, batch: &Batch, answer: Answer) {
        for line in &batch.too_long {
            self.refuse(*line, &format!("it is longer than {} bytes", input::MAX_LINE));
        }
        for refused in answer.refused {
            let line = refused.line.checked_sub(1).and_then(|at| batch.lines.get(at)).copied();
            self.refuse(line.unwrap_or(0), &refused.reason);
        }
        if let (Some((first, _)), Some((_, last))) = (answer.seqs.first(), answer.seqs.last()) {
            let epoch = answer.epoch.unwrap_or(0);
            match self.stretches.last_mut().filter(|(of, ..)| *of == epoch) {
                Some((_, _, end)) => *end = *last,
                None => self.stretches.push((epoch, *first, *last)),
            }
            if self.stretches.len() > STRETCHES {
                self.stretches.remove(0);
            }
        }
        self.stored += answer.stored;
    }

    fn refuse(&mut self, line: u64, reason: &str) {
        self.refused += 1;
        output::complain(&format!("line {line} is refused: {reason}"));
    }

    fn told(&self) -> String {
        let within: Vec<String> =
            self.stretches.iter().map(|(epoch, first, last)| format!("{first} to {last} of epoch {epoch}")).collect();
        let stored = match within.is_empty() {
            false => format!("{} records stored, within seqs {}", self.stored, within.join(" and ")),
            true => "no record stored".to_owned(),
        };
        if self.refused > 0 { format!("{stored}; {} lines refused", self.refused) } else { stored }
    }
}

fn stopped(socket: &Path, trouble: &Trouble, batch: &Batch, account: &Account) -> Failure {
    let exit = match trouble.kind {
        Kind::Invalid | Kind::Oversize => Exit::Failed,
        Kind::Busy | Kind::Unwritable | Kind::Unknown => Exit::Temporary,
    };
    let from = batch.lines.first().copied().unwrap_or(0);
    let state = match trouble.kind {
        Kind::Unknown => "it is not known whether lines from there on are stored",
        _ => "nothing from there on is stored",
    };
    let message =
        format!("stopped at line {from}, {}: {}; {state}; {}", socket.display(), trouble.message, account.told());
    Failure::new(exit, message)
}

fn unread(error: &io::Error, account: &Account) -> Failure {
    Failure::failed(format!("standard input cannot be read: {error}; {}", account.told()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_two_epochs_are_told_under_both() {
        let mut account = Account::default();
        assert_eq!(account.told(), "no record stored");
        for (epoch, from, to) in [(7, 5, 6), (7, 9, 9), (8, 1, 2)] {
            let answer =
                Answer { stored: to - from + 1, epoch: Some(epoch), seqs: vec![(from, to)], ..Answer::default() };
            account.take(&Batch::default(), answer);
        }
        assert_eq!(account.told(), "5 records stored, within seqs 5 to 9 of epoch 7 and 1 to 2 of epoch 8");
    }
}
