//! Standard output and error of a script as they come in: bounded, and never waited for beyond a limit.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{ChildStderr, ChildStdout};
use tokio::time::{Instant, timeout_at};

use crate::collect::text;

/// How much of standard error's end is kept for the message.
const STDERR_TAIL: usize = 4096;

#[derive(Default)]
pub(super) struct Pipes {
    out: Option<ChildStdout>,
    err: Option<ChildStderr>,
    /// At most `max` bytes.
    pub stdout: Vec<u8>,
    /// The last [`STDERR_TAIL`] bytes, with some slack.
    stderr: Vec<u8>,
    stderr_total: usize,
    max: usize,
}

impl Pipes {
    pub fn new((out, err): (Option<ChildStdout>, Option<ChildStderr>), max: usize) -> Self {
        Self { out, err, stdout: Vec::new(), stderr: Vec::new(), stderr_total: 0, max }
    }

    fn is_open(&self) -> bool {
        self.out.is_some() || self.err.is_some()
    }

    /// Waits for some bytes or an end on either pipe; `Some` names the stream that went over the limit. Cancel-safe.
    pub async fn pump(&mut self) -> Option<&'static str> {
        let mut from_out = [0u8; 8192];
        let mut from_err = [0u8; 1024];
        tokio::select! {
            n = read(&mut self.out, &mut from_out) => {
                let room = self.max - self.stdout.len();
                self.stdout.extend_from_slice(&from_out[..n.min(room)]);
                (n > room).then_some("standard output")
            }
            n = read(&mut self.err, &mut from_err) => {
                self.stderr.extend_from_slice(&from_err[..n]);
                if self.stderr.len() > 2 * STDERR_TAIL {
                    self.stderr.drain(..self.stderr.len() - STDERR_TAIL);
                }
                self.stderr_total = self.stderr_total.saturating_add(n);
                (self.stderr_total > self.max).then_some("standard error")
            }
        }
    }

    /// As much as is there within `limit`, or until the last writer is gone.
    pub async fn drain(&mut self, limit: Duration) -> Option<&'static str> {
        let deadline = Instant::now() + limit;
        while self.is_open() {
            match timeout_at(deadline, self.pump()).await {
                Ok(None) => {}
                Ok(over) => return over,
                Err(_) => break,
            }
        }
        None
    }

    /// `: last line of standard error`, or nothing.
    pub fn last_words(&self) -> String {
        let line = self.stderr.split(|&b| b == b'\n').map(<[u8]>::trim_ascii).rfind(|line| !line.is_empty());
        line.map_or_else(String::new, |line| format!(": {}", text::clean(line, 200)))
    }
}

/// Bytes read; a pipe at its end, or broken, is dropped. Never ready once that has happened.
async fn read(pipe: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> usize {
    let Some(open) = pipe else { return std::future::pending().await };
    let n = open.read(buffer).await.unwrap_or(0);
    if n == 0 {
        *pipe = None;
    }
    n
}
