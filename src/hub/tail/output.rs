//! Standard output on a thread of its own: a reader that stops reading must not stop the connection's pings.
//!
//! Owns the order of what is written and says when a piece has been handed to the operating system. Bounded: a few
//! pieces wait here, the rest waits with the caller, which then leaves its messages unacknowledged.

use std::io::{self, Write};

use tokio::sync::mpsc;

/// Pieces that may wait for the thread.
const WAITING: usize = 8;

/// What to write, and what is known to be safe once it is written.
#[derive(Debug)]
pub(super) struct Piece<T> {
    pub bytes: Vec<u8>,
    pub then: T,
}

/// The caller's end. Dropping it ends the thread once everything is written.
#[derive(Debug)]
pub(super) struct Output<T> {
    pub pieces: mpsc::Sender<Piece<T>>,
    /// `then` of each piece in order; an error is the last that comes.
    pub written: mpsc::Receiver<io::Result<T>>,
}

impl<T: Send + 'static> Output<T> {
    pub fn start(mut to: impl Write + Send + 'static) -> io::Result<Self> {
        let (pieces, mut waiting) = mpsc::channel::<Piece<T>>(WAITING);
        let (done, written) = mpsc::channel(WAITING);
        std::thread::Builder::new().name("output".to_owned()).spawn(move || {
            while let Some(Piece { bytes, then }) = waiting.blocking_recv() {
                let result = to.write_all(&bytes).and_then(|()| to.flush());
                let failed = result.is_err();
                if done.blocking_send(result.map(|()| then)).is_err() || failed {
                    return;
                }
            }
        })?;
        Ok(Self { pieces, written })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits for a word before each write; fails from the second one on.
    struct Full {
        writes: usize,
        go: std::sync::mpsc::Receiver<()>,
    }

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.go.recv().map_err(|_| io::ErrorKind::Other)?;
            self.writes += 1;
            if self.writes > 1 { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(bytes.len()) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_piece_is_reported_after_it_was_written_and_an_error_is_the_last_report() {
        let (word, go) = std::sync::mpsc::sync_channel(2);
        let mut output = Output::start(Full { writes: 0, go }).unwrap();
        // All wait before anything is written: after the error the thread takes none.
        for then in 1..=3 {
            // Who has failed takes no more.
            let sent = output.pieces.blocking_send(Piece { bytes: b"x".to_vec(), then });
            assert!(sent.is_ok() || then == 3);
        }
        assert!(output.written.try_recv().is_err(), "nothing is written yet");
        word.send(()).unwrap();
        assert_eq!(output.written.blocking_recv().unwrap().unwrap(), 1);
        word.send(()).unwrap();
        assert_eq!(output.written.blocking_recv().unwrap().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(output.written.blocking_recv().is_none());
    }
}
