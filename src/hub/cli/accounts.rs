//! `holdover-hub hosts`, `gaps` and `resend`: what the ledger says, by a running hub's mouth or from the file.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::de::DeserializeOwned;

use super::{EXIT_CONFIG, EXIT_FAILED, EXIT_OK, EXIT_UNAVAILABLE};
use crate::clock;
use crate::hub::accounts::{GapsDocument, HostsDocument, Question};
use crate::hub::ingest::{Request, ResendRequest, ask};
use crate::hub::ledger::{LedgerError, View};
use crate::hub::line::word;
use crate::hub::text::{grouped, shown};

#[derive(Debug, Args)]
pub struct DirArgs {
    /// Directory of `holdover-hub ingest`
    #[arg(long, value_name = "DIR", env = "HOLDOVER_HUB_DIR")]
    dir: PathBuf,
    /// JSON, one document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct HostsArgs {
    #[command(flatten)]
    dir: DirArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
States:
  missing  the host's last status neither promised nor declared them lost; ingest asks for them again
  open     newer than the host's last status: they may be on their way
  pending  the host says that they are to come

Exit status:
  0   nothing is missing
  1   something is missing
  69  the running hub does not answer, the ledger is in use or the disk fails; try again
  78  the ledger is absent, damaged or of a newer version")]
pub struct GapsArgs {
    /// Only this host
    host: Option<String>,
    #[command(flatten)]
    dir: DirArgs,
}

#[derive(Debug, Args)]
pub struct ResendArgs {
    host: String,
    /// First and last seq, such as 1042-1100; one number is one record
    #[arg(value_name = "FROM-TO", value_parser = seqs)]
    seqs: (u64, u64),
    /// Of the seqs; the one heard last if not given
    #[arg(long, value_name = "EPOCH")]
    epoch: Option<u64>,
    #[command(flatten)]
    dir: DirArgs,
}

/// What a command says, and how it ends.
#[derive(Debug)]
pub struct Said {
    pub text: String,
    pub code: u8,
}

#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    #[error("the hub that runs in {dir} does not answer: {why}")]
    Silent { dir: PathBuf, why: String },
    #[error("no hub runs in {0}: start `holdover-hub ingest`, which does the asking")]
    NotRunning(PathBuf),
    #[error("{0}")]
    Refused(String),
}

impl LedgerError {
    /// What passes by itself is not a reason for a service manager to give up.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::InUse(_) | Self::Io { .. } => EXIT_UNAVAILABLE,
            Self::Newer(..) | Self::Damaged { .. } | Self::Absent(_) => EXIT_CONFIG,
        }
    }
}

impl AccountsError {
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Ledger(error) => error.exit_code(),
            Self::Silent { .. } | Self::NotRunning(_) => EXIT_UNAVAILABLE,
            Self::Refused(_) => EXIT_FAILED,
        }
    }
}

impl HostsArgs {
    pub fn run(&self) -> Result<Said, AccountsError> {
        let (text, hosts): (String, HostsDocument) = self.dir.document(&Question::Hosts)?;
        Ok(Said { text: if self.dir.json { text + "\n" } else { hosts_text(&hosts) }, code: EXIT_OK })
    }
}

impl GapsArgs {
    pub fn run(&self) -> Result<Said, AccountsError> {
        let (text, gaps): (String, GapsDocument) = self.dir.document(&Question::Gaps { host: self.host.clone() })?;
        let code = if gaps.missing > 0 { EXIT_FAILED } else { EXIT_OK };
        Ok(Said { text: if self.dir.json { text + "\n" } else { gaps_text(&gaps) }, code })
    }
}

impl ResendArgs {
    pub fn run(&self) -> Result<Said, AccountsError> {
        let (from, to) = self.seqs;
        let request = ResendRequest { resend: self.host.clone(), epoch: self.epoch, from, to };
        let dir = &self.dir.dir;
        let text = match asked(dir, &Request::Resend(request))? {
            Some(text) => refused(&text)?,
            None => return Err(AccountsError::NotRunning(dir.clone())),
        };
        if self.dir.json {
            return Ok(Said { text: text + "\n", code: EXIT_OK });
        }
        let text = format!(
            "{} was asked for {from}..={to}; `holdover-hub gaps {}` tells what became of it\n",
            self.host, self.host
        );
        Ok(Said { text, code: EXIT_OK })
    }
}

impl DirArgs {
    /// From the hub that runs there, or else from the ledger itself.
    fn document<T: DeserializeOwned>(&self, question: &Question) -> Result<(String, T), AccountsError> {
        let text = match asked(&self.dir, &Request::Question(question.clone()))? {
            Some(text) => refused(&text)?,
            None => question.document(&View::open(&self.dir)?, clock::now())?,
        };
        let silent = |why: String| AccountsError::Silent { dir: self.dir.clone(), why };
        let document = serde_json::from_str(&text).map_err(|e| silent(e.to_string()))?;
        Ok((text, document))
    }
}

/// `None`: no hub runs there.
fn asked(dir: &Path, request: &Request) -> Result<Option<String>, AccountsError> {
    match ask(dir, request) {
        Ok(text) => Ok(Some(text)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(None),
        Err(e) => Err(AccountsError::Silent { dir: dir.to_owned(), why: e.to_string() }),
    }
}

/// The answer, unless it says why there is none.
fn refused(text: &str) -> Result<String, AccountsError> {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    match value.get("error").and_then(|error| error.as_str()) {
        Some(error) => Err(AccountsError::Refused(error.to_owned())),
        None => Ok(text.to_owned()),
    }
}

fn hosts_text(document: &HostsDocument) -> String {
    let columns = ["stored", "declared", "pending", "open", "missing", "backlog"].map(|c| format!("{c:>11}"));
    let mut out = format!("{:<24} {:<12} {:<8} {:<20}{}\n", "host", "site", "state", "heard", columns.join(""));
    for host in &document.hosts {
        let heard = host.last_heard.as_deref().and_then(|time| time.get(..19)).unwrap_or("?");
        let state = host.state.as_ref().map_or_else(|| "?".to_owned(), word);
        let absent = host.absent;
        let counts = [host.stored, absent.declared, absent.pending, absent.open, absent.missing];
        let counts = counts.map(|n| format!("{:>11}", grouped(n))).join("");
        let backlog = host.backlog.map_or_else(|| "?".to_owned(), grouped);
        let (name, site) = (shown(&host.host, 24), shown(&host.site, 12));
        out += &format!("{name:<24} {site:<12} {state:<8} {heard:<20}{counts}{backlog:>11}\n");
    }
    out
}

fn gaps_text(document: &GapsDocument) -> String {
    let mut out = String::new();
    for gap in &document.gaps {
        let (host, state) = (shown(&gap.host, 64), word(&gap.state));
        let count = grouped(gap.to - gap.from + 1);
        out += &format!("{state:<8} {host} seq {}..={} of epoch {} ({count} records)\n", gap.from, gap.to, gap.epoch);
    }
    for loss in &document.losses {
        let (host, to) = (shown(&loss.host, 64), loss.to.map_or_else(|| "?".to_owned(), |to| to.to_string()));
        out += &format!("lost     {host} seq {}..={to} of epoch {}: {}\n", loss.from, loss.epoch, word(&loss.reason));
    }
    if document.not_listed > 0 {
        out += &format!("... and {} more ranges\n", document.not_listed);
    }
    let missing = grouped(document.missing);
    out + &if document.missing == 0 {
        "nothing is missing\n".to_owned()
    } else {
        format!("{missing} records are missing\n")
    }
}

fn seqs(text: &str) -> Result<(u64, u64), String> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u64>().map_err(|_| "write it as FROM-TO, such as 1042-1100".to_owned());
    match (number(from)?, number(to)?) {
        (0, _) => Err("the first seq is 1".to_owned()),
        (from, to) if to < from => Err(format!("{to} is before {from}")),
        range => Ok(range),
    }
}
