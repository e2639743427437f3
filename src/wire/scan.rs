//! One pass over MessagePack bytes before anything is built from them.
//!
//! Proves that a payload is exactly one value of bounded depth, with text keys and without ext or bin (wire v1 has
//! neither), and finds the records' own bytes. Allocates nothing; every length is checked against the bytes present.

use rmp::Marker;

use super::decode::{DecodeError, DecodeLimits};

/// What a value's first bytes announce.
enum Head {
    Scalar,
    Text(usize),
    Array(usize),
    Map(usize),
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let rest = &self.bytes[self.at..];
        let Some(taken) = rest.get(..len) else {
            let (at, left) = (self.at, rest.len());
            return Err(DecodeError::malformed(format!("cut off: {len} bytes announced at byte {at}, {left} present")));
        };
        self.at += len;
        Ok(taken)
    }

    /// A big-endian length of `width` bytes.
    fn length(&mut self, width: usize) -> Result<usize, DecodeError> {
        Ok(self.take(width)?.iter().fold(0, |n, &b| n << 8 | usize::from(b)))
    }

    fn head(&mut self) -> Result<Head, DecodeError> {
        let at = self.at;
        let marker = Marker::from_u8(self.take(1)?[0]);
        Ok(match marker {
            Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => Head::Scalar,
            Marker::U8 | Marker::I8 => self.scalar(1)?,
            Marker::U16 | Marker::I16 => self.scalar(2)?,
            Marker::U32 | Marker::I32 | Marker::F32 => self.scalar(4)?,
            Marker::U64 | Marker::I64 | Marker::F64 => self.scalar(8)?,
            Marker::FixStr(len) => Head::Text(len.into()),
            Marker::Str8 => Head::Text(self.length(1)?),
            Marker::Str16 => Head::Text(self.length(2)?),
            Marker::Str32 => Head::Text(self.length(4)?),
            Marker::FixArray(len) => Head::Array(len.into()),
            Marker::Array16 => Head::Array(self.length(2)?),
            Marker::Array32 => Head::Array(self.length(4)?),
            Marker::FixMap(len) => Head::Map(len.into()),
            Marker::Map16 => Head::Map(self.length(2)?),
            Marker::Map32 => Head::Map(self.length(4)?),
            other => {
                return Err(DecodeError::malformed(format!(
                    "{other:?} at byte {at}: only maps, arrays, text, numbers, booleans and nil may occur"
                )));
            }
        })
    }

    fn scalar(&mut self, width: usize) -> Result<Head, DecodeError> {
        self.take(width)?;
        Ok(Head::Scalar)
    }

    fn key(&mut self) -> Result<&'a [u8], DecodeError> {
        let at = self.at;
        match self.head()? {
            Head::Text(len) => self.take(len),
            _ => Err(DecodeError::malformed(format!("the key at byte {at} is not text"))),
        }
    }

    /// Passes one value, at most `depth` containers deep.
    fn skip(&mut self, depth: usize) -> Result<(), DecodeError> {
        let at = self.at;
        let head = self.head()?;
        if depth == 0 && matches!(head, Head::Array(_) | Head::Map(_)) {
            return Err(DecodeError::malformed(format!("nested too deeply at byte {at}")));
        }
        match head {
            Head::Scalar => {}
            Head::Text(len) => _ = self.take(len)?,
            Head::Array(len) => {
                for _ in 0..len {
                    self.skip(depth - 1)?;
                }
            }
            Head::Map(len) => {
                for _ in 0..len {
                    self.key()?;
                    self.skip(depth - 1)?;
                }
            }
        }
        Ok(())
    }
}

/// Checks that `payload` is one well-formed value and nothing else.
pub(super) fn check(payload: &[u8], max_depth: usize) -> Result<(), DecodeError> {
    let mut cursor = Cursor { bytes: payload, at: 0 };
    cursor.skip(max_depth)?;
    match payload.len() - cursor.at {
        0 => Ok(()),
        left => Err(DecodeError::malformed(format!("{left} bytes follow the message"))),
    }
}

/// The MessagePack bytes of each record of an envelope, in order: what was appended, byte for byte.
///
/// Errors when `payload` is not a MessagePack map of bounded depth; the records themselves are not decoded.
pub fn raw_records(payload: &[u8]) -> Result<RawRecords<'_>, DecodeError> {
    let depth = DecodeLimits::default().max_depth;
    check(payload, depth)?;
    let mut cursor = Cursor { bytes: payload, at: 0 };
    let Head::Map(len) = cursor.head()? else {
        return Err(DecodeError::malformed("not a map"));
    };
    for _ in 0..len {
        if cursor.key()? == b"records" {
            let Head::Array(left) = cursor.head()? else {
                return Err(DecodeError::malformed("`records` is not an array"));
            };
            return Ok(RawRecords { cursor, left });
        }
        cursor.skip(depth)?;
    }
    Ok(RawRecords { cursor, left: 0 })
}

/// See [`raw_records`].
pub struct RawRecords<'a> {
    cursor: Cursor<'a>,
    left: usize,
}

impl<'a> Iterator for RawRecords<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let from = self.cursor.at;
        self.cursor.skip(usize::MAX).expect("the whole payload was checked before the first record");
        Some(&self.cursor.bytes[from..self.cursor.at])
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for RawRecords<'_> {}

/// The records of a chunk's maps, one slice each; ends early where the bytes are no MessagePack.
pub(super) fn record_slices(maps: &[u8]) -> impl Iterator<Item = &[u8]> {
    let depth = DecodeLimits::default().max_depth;
    let mut cursor = Cursor { bytes: maps, at: 0 };
    std::iter::from_fn(move || {
        let from = cursor.at;
        if from == maps.len() {
            return None;
        }
        cursor.skip(depth).ok()?;
        Some(&maps[from..cursor.at])
    })
}

#[cfg(test)]
mod tests;
