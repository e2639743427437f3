//! Standard input as batches: what is there is sent at once, and a line that is too long costs itself only. At the end of the
//! input a line is whole without its line end, as from `printf`; where reading fails it is not, and is not sent.

use std::io::{self, BufRead, BufReader, Read};

use crate::put::MAX_BATCH;

/// With its line end.
pub const MAX_LINE: usize = MAX_BATCH;
/// What is read at once; what of it holds whole lines goes out before more is waited for.
const CHUNK: usize = 32 << 10;

/// Lines to be sent together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub bytes: Vec<u8>,
    /// The number in the input of each line in `bytes`.
    pub lines: Vec<u64>,
    /// Lines that were left out.
    pub too_long: Vec<u64>,
}

impl Batch {
    /// Two of about as many lines each, of one that has several.
    pub fn halves(mut self) -> (Self, Self) {
        let count = self.lines.len() / 2;
        let ends = self.bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        let end = ends.take(count).last().unwrap_or(0);
        let rest = Self { bytes: self.bytes.split_off(end), lines: self.lines.split_off(count), too_long: Vec::new() };
        (self, rest)
    }
}

pub struct Input<R> {
    reader: BufReader<R>,
    max_lines: usize,
    /// Lines read so far.
    at: u64,
    /// Read, and too much for the batch before.
    pending: Vec<u8>,
}

impl<R: Read> Input<R> {
    pub fn new(reader: R, max_lines: usize) -> Self {
        Self { reader: BufReader::with_capacity(CHUNK, reader), max_lines, at: 0, pending: Vec::new() }
    }

    /// The next lines; `None` at the end. Empty lines and comments are counted and not sent.
    pub fn next(&mut self) -> io::Result<Option<Batch>> {
        let mut batch = Batch::default();
        loop {
            if self.pending.is_empty() && !self.read_line(&mut batch)? {
                let empty = batch.lines.is_empty() && batch.too_long.is_empty();
                return Ok((!empty).then_some(batch));
            }
            if batch.bytes.len() + self.pending.len() > MAX_BATCH {
                return Ok(Some(batch));
            }
            if !self.pending.is_empty() {
                batch.bytes.append(&mut self.pending);
                batch.lines.push(self.at);
            }
            let full = batch.lines.len() >= self.max_lines || batch.too_long.len() >= self.max_lines;
            let more_is_here = self.reader.buffer().contains(&b'\n');
            if full || !more_is_here && !batch.lines.is_empty() {
                return Ok(Some(batch));
            }
        }
    }

    /// One line into `pending`, if it is to be sent; what was read of one before an error is dropped. False at the end.
    fn read_line(&mut self, batch: &mut Batch) -> io::Result<bool> {
        let mut line = Vec::new();
        // Room for the line end that the last line may lack.
        let read = (&mut self.reader).take(MAX_LINE as u64).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(false);
        }
        self.at += 1;
        if !line.ends_with(b"\n") {
            if line.len() == MAX_LINE {
                batch.too_long.push(self.at);
                self.skip_line()?;
                return Ok(true);
            }
            line.push(b'\n');
        }
        let text = line.trim_ascii();
        if !text.is_empty() && !text.starts_with(b"#") {
            self.pending = line;
        }
        Ok(true)
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let chunk = self.reader.fill_buf()?;
            if chunk.is_empty() {
                return Ok(());
            }
            let (used, ended) = match chunk.iter().position(|&b| b == b'\n') {
                Some(end) => (end + 1, true),
                None => (chunk.len(), false),
            };
            self.reader.consume(used);
            if ended {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(text: &[u8], max_lines: usize) -> Vec<Batch> {
        let mut input = Input::new(text, max_lines);
        std::iter::from_fn(|| input.next().unwrap()).collect()
    }

    #[test]
    fn every_line_goes_once_under_its_own_number_in_batches_that_fit() {
        let line = |n: usize| format!("m n={n},text=\"{}\"\n", "x".repeat(n * 37 % 900));
        let text: String = (0..2000).map(|n| if n % 7 == 0 { "\n# c\n".to_owned() } else { line(n) }).collect();
        let all = batches(text.as_bytes(), 100);
        let lines: Vec<&str> = text.lines().collect();
        let mut sent = 0;
        for batch in &all {
            assert!(batch.bytes.len() <= MAX_BATCH && batch.lines.len() <= 100, "{}", batch.bytes.len());
            let bytes = String::from_utf8(batch.bytes.clone()).unwrap();
            let expected: Vec<&str> = batch.lines.iter().map(|at| lines[*at as usize - 1]).collect();
            assert_eq!(bytes.lines().collect::<Vec<_>>(), expected);
            sent += batch.lines.len();
        }
        assert_eq!(sent, lines.iter().filter(|line| line.starts_with('m')).count());
    }

    #[test]
    fn the_halves_of_a_batch_are_its_lines_in_their_order() {
        let all = batches(b"a n=1\n\nb n=2\nc n=3\n", 100).remove(0);
        let (first, rest) = all.clone().halves();
        assert_eq!((&*first.bytes, &*first.lines), (&b"a n=1\n"[..], &[1][..]));
        assert_eq!((&*rest.bytes, &*rest.lines), (&b"b n=2\nc n=3\n"[..], &[3, 4][..]));
        let (first, last) = rest.halves();
        assert_eq!([first.bytes, last.bytes].concat(), b"b n=2\nc n=3\n");
    }

    #[test]
    fn a_line_without_end_or_beyond_all_bounds_costs_itself_only() {
        let mut text = b"a n=1\n".to_vec();
        text.extend(vec![b'x'; 5 * MAX_LINE]);
        text.extend_from_slice(b"\nb n=2");
        let all = batches(&text, 100);
        let too_long: Vec<u64> = all.iter().flat_map(|batch| batch.too_long.clone()).collect();
        let sent: Vec<u8> = all.iter().flat_map(|batch| batch.bytes.clone()).collect();
        assert_eq!((too_long, sent), (vec![2], b"a n=1\nb n=2\n".to_vec()));
        assert_eq!(all.iter().flat_map(|batch| batch.lines.clone()).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn a_last_line_needs_no_end_and_one_that_a_failed_read_cut_is_not_sent() {
        struct Ends(&'static [u8], bool);
        impl Read for Ends {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if self.0.is_empty() && self.1 {
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                // In pieces, as from a slow pipe.
                let (piece, rest) = self.0.split_at(self.0.len().min(3));
                buffer[..piece.len()].copy_from_slice(piece);
                self.0 = rest;
                Ok(piece.len())
            }
        }
        for (text, sent) in [(&b"a n=1\nb n=23"[..], "a n=1\nb n=23\n"), (b"b n=2", "b n=2\n"), (b"a n=1\n", "a n=1\n")]
        {
            for fails in [false, true] {
                let mut input = Input::new(Ends(text, fails), 100);
                let (mut bytes, mut failed) = (Vec::new(), false);
                loop {
                    match input.next() {
                        Ok(Some(batch)) => bytes.extend(batch.bytes),
                        Ok(None) => break,
                        Err(error) => {
                            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                            failed = true;
                            break;
                        }
                    }
                }
                let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
                let expected = if fails { &sent[..whole] } else { sent };
                assert_eq!((String::from_utf8(bytes).unwrap().as_str(), failed), (expected, fails), "{text:?}");
            }
        }
    }

    #[test]
    fn what_is_there_goes_before_more_is_waited_for() {
        struct Pieces(Vec<&'static [u8]>);
        impl Read for Pieces {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let piece = self.0.pop().unwrap_or_default();
                buffer[..piece.len()].copy_from_slice(piece);
                Ok(piece.len())
            }
        }
        let mut input = Input::new(Pieces(vec![b"=3\n", b"c n", b"a n=1\nb n=2\n"]), 100);
        assert_eq!(input.next().unwrap().unwrap().lines, [1, 2]);
        assert_eq!(input.next().unwrap().unwrap().lines, [3]);
        assert_eq!(input.next().unwrap(), None);
    }
}
