//! The bytes of one stored value: consecutive records under one clock context, or a range of burned seqs.
//!
//! A value proves itself: its checksum covers the epoch and the seqs, so a value read from the wrong place, a
//! damaged tree or a raw scan of the file is either right or refused. redb does not see bit rot on a read.

use std::io::BufRead;
use std::sync::Arc;

use bytes::Bytes;

use crate::record::ClockContext;
use crate::wire::{Chunk, LossReason};

/// The largest stored value. A little below 16 KiB, so that value and tree overhead fit a 16 KiB page: at
/// 16 KiB sharp each would take 32 KiB.
pub(super) const MAX_VALUE: usize = 16 * 1024 - 256;
/// The last byte is the version.
const CHUNK_MAGIC: [u8; 4] = *b"Hoc\x01";
const BURN_MAGIC: [u8; 4] = *b"Hob\x01";
/// magic, crc, epoch, first, count, t0, t1, synced, length of boot, length of maps.
const CHUNK_HEAD: usize = 4 + 4 + 8 + 8 + 4 + 8 + 8 + 1 + 1 + 4;
const BURN_LEN: usize = 4 + 4 + 8 + 8 + 8 + 8 + 8 + 1;

/// Of the oldest and newest record, milliseconds since 1970; 0 when not known. Of stored ones, when they were made by the
/// wall clock as it stood at their commit; of those that never were, their `ts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    pub t0: i64,
    pub t1: i64,
}

impl Times {
    pub(super) fn of(ts: i64) -> Self {
        Self { t0: ts, t1: ts }
    }

    /// The hull; an unknown side gives way to a known one.
    pub(super) fn join(self, other: Self) -> Self {
        if self == Self::default() {
            return other;
        }
        if other == Self::default() {
            return self;
        }
        Self { t0: self.t0.min(other.t0), t1: self.t1.max(other.t1) }
    }
}

/// Seqs that were drawn and hold no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Burn {
    pub first: u64,
    pub count: u64,
    pub reason: LossReason,
    pub times: Times,
}

impl Burn {
    pub(super) fn last(&self) -> u64 {
        self.first + self.count - 1
    }
}

/// Bytes that maps of this context may take in one value.
pub(super) fn maps_room(context: &ClockContext) -> usize {
    MAX_VALUE - CHUNK_HEAD - context.boot.len().min(255)
}

pub(super) fn encode_chunk(chunk: &Chunk, times: Times) -> Vec<u8> {
    let boot = &chunk.context.boot.as_bytes()[..chunk.context.boot.len().min(255)];
    let mut out = Vec::with_capacity(CHUNK_HEAD + boot.len() + chunk.maps.len());
    out.extend_from_slice(&CHUNK_MAGIC);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&chunk.epoch.to_le_bytes());
    out.extend_from_slice(&chunk.first.to_le_bytes());
    out.extend_from_slice(&chunk.count.to_le_bytes());
    out.extend_from_slice(&times.t0.to_le_bytes());
    out.extend_from_slice(&times.t1.to_le_bytes());
    out.push(u8::from(chunk.context.synced));
    out.push(boot.len() as u8);
    out.extend_from_slice(&(chunk.maps.len() as u32).to_le_bytes());
    out.extend_from_slice(boot);
    out.extend_from_slice(&chunk.maps);
    seal(&mut out);
    out
}

pub(super) fn encode_burn(epoch: u64, burn: &Burn) -> Vec<u8> {
    let mut out = Vec::with_capacity(BURN_LEN);
    out.extend_from_slice(&BURN_MAGIC);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&epoch.to_le_bytes());
    out.extend_from_slice(&burn.first.to_le_bytes());
    out.extend_from_slice(&burn.count.to_le_bytes());
    out.extend_from_slice(&burn.times.t0.to_le_bytes());
    out.extend_from_slice(&burn.times.t1.to_le_bytes());
    out.push(reason_code(burn.reason));
    seal(&mut out);
    out
}

/// A chunk where it lies.
pub(super) struct Lying<'a> {
    pub epoch: u64,
    pub first: u64,
    pub count: u32,
    pub times: Times,
    /// Of the whole value.
    pub len: usize,
    pub synced: bool,
    pub boot: &'a str,
    pub maps: &'a [u8],
}

impl Lying<'_> {
    pub(super) fn last(&self) -> u64 {
        self.first + u64::from(self.count) - 1
    }

    pub(super) fn is_of(&self, context: &ClockContext) -> bool {
        *context.boot == *self.boot && context.synced == self.synced
    }

    pub(super) fn context(&self) -> ClockContext {
        ClockContext { boot: Arc::from(self.boot), synced: self.synced }
    }

    /// A copy of it.
    fn chunk(&self) -> Chunk {
        let Self { epoch, first, count, .. } = *self;
        Chunk { epoch, first, count, context: self.context(), maps: Bytes::copy_from_slice(self.maps) }
    }
}

/// How many records the chunk at the start of `bytes` says it has, and what lies behind it. Proves nothing.
pub(super) fn passed(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut rest = Reader(bytes.strip_prefix(&CHUNK_MAGIC)?);
    rest.take(4 + 8 + 8)?;
    let count = rest.u32()?;
    rest.take(8 + 8 + 1)?;
    let (boot_len, maps_len) = (rest.u8()? as usize, rest.u32()? as usize);
    rest.take(boot_len)?;
    rest.take(maps_len)?;
    Some((count, rest.0))
}

/// The chunk at the start of `bytes`, if its checksum proves it. `epoch` is the one it must belong to.
pub(super) fn prove_chunk(bytes: &[u8], epoch: u64) -> Option<Lying<'_>> {
    let mut rest = Reader(bytes.strip_prefix(&CHUNK_MAGIC)?);
    let crc = rest.u32()?;
    let (found, first, count) = (rest.u64()?, rest.u64()?, rest.u32()?);
    let times = Times { t0: rest.u64()? as i64, t1: rest.u64()? as i64 };
    let (synced, boot_len, maps_len) = (rest.u8()?, rest.u8()? as usize, rest.u32()? as usize);
    let len = CHUNK_HEAD.checked_add(boot_len)?.checked_add(maps_len)?;
    if found != epoch || first == 0 || count == 0 || len > MAX_VALUE || crc != checksum(bytes.get(..len)?) {
        return None;
    }
    first.checked_add(u64::from(count))?;
    let boot = std::str::from_utf8(rest.take(boot_len)?).ok()?;
    let maps = rest.take(maps_len)?;
    Some(Lying { epoch, first, count, times, len, synced: synced == 1, boot, maps })
}

/// A copy of the chunk at the start of `bytes`, its times and its length there, if its checksum proves it.
pub(super) fn decode_chunk(bytes: &[u8], epoch: u64) -> Option<(Chunk, Times, usize)> {
    prove_chunk(bytes, epoch).map(|lying| (lying.chunk(), lying.times, lying.len))
}

/// As [`decode_chunk`], for a burn.
pub(super) fn decode_burn(bytes: &[u8], epoch: u64) -> Option<Burn> {
    let mut rest = Reader(bytes.strip_prefix(&BURN_MAGIC)?);
    let crc = rest.u32()?;
    let (found, first, count) = (rest.u64()?, rest.u64()?, rest.u64()?);
    let times = Times { t0: rest.u64()? as i64, t1: rest.u64()? as i64 };
    let reason = reason_of(rest.u8()?);
    let sound = found == epoch && first > 0 && count > 0 && crc == checksum(bytes.get(..BURN_LEN)?);
    first.checked_add(count)?;
    sound.then_some(Burn { first, count, reason, times })
}

/// Every value that begins in the first `until` of raw bytes and that its checksum proves, chunks and burns, whatever
/// lies around them. Returns where to go on: there, or behind the last value.
pub(super) fn scan_raw<'a>(
    bytes: &'a [u8],
    until: usize,
    epoch: u64,
    mut found: impl FnMut(usize, Proven<'a>),
) -> usize {
    let mut at = 0;
    while at < until && at + BURN_LEN <= bytes.len() {
        let here = &bytes[at..];
        if here[0] != b'H' {
            at += next_magic(here);
        } else if let Some(chunk) = prove_chunk(here, epoch) {
            let len = chunk.len;
            found(at, Proven::Chunk(chunk));
            at += len;
        } else if let Some(burn) = decode_burn(here, epoch) {
            found(at, Proven::Burn(burn));
            at += BURN_LEN;
        } else {
            at += 1;
        }
    }
    at.max(until)
}

/// Bytes before the next one that a value may begin with. By way of the library's `memchr`: half of a file may be empty.
fn next_magic(mut bytes: &[u8]) -> usize {
    let passed = bytes.skip_until(b'H').unwrap_or_default();
    if bytes.is_empty() { passed } else { passed - 1 }
}

pub(super) enum Proven<'a> {
    Chunk(Lying<'a>),
    Burn(Burn),
}

fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(&bytes[8..])
}

fn seal(bytes: &mut [u8]) {
    let crc = checksum(bytes);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Stored codes: never renumber.
const fn reason_code(reason: LossReason) -> u8 {
    match reason {
        LossReason::Other => 0,
        LossReason::Quota => 1,
        LossReason::Age => 2,
        LossReason::Oversize => 3,
        LossReason::WriteFailure => 4,
        LossReason::Corrupt => 5,
        LossReason::Memory => 6,
        LossReason::Mixed => 7,
        LossReason::Epoch => 8,
        LossReason::Quarantined => 9,
    }
}

fn reason_of(code: u8) -> LossReason {
    match code {
        1 => LossReason::Quota,
        2 => LossReason::Age,
        3 => LossReason::Oversize,
        4 => LossReason::WriteFailure,
        5 => LossReason::Corrupt,
        6 => LossReason::Memory,
        7 => LossReason::Mixed,
        8 => LossReason::Epoch,
        9 => LossReason::Quarantined,
        _ => LossReason::Other,
    }
}

/// Takes little-endian numbers off the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }
    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }
    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }
    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stored_reason_comes_back() {
        for code in 0..=9 {
            assert_eq!(reason_code(reason_of(code)), code);
        }
    }

    fn chunk(len: usize) -> (Chunk, Times) {
        let context = ClockContext { boot: Arc::from("b0071d"), synced: true };
        let maps: Bytes = (0..len).map(|i| (i * 7) as u8).collect();
        (Chunk { epoch: 42, first: 1000, count: 3, context, maps }, Times { t0: -5, t1: 1_700_000_000_000 })
    }

    #[test]
    fn values_are_read_back_as_written() {
        let (chunk, times) = chunk(500);
        let bytes = encode_chunk(&chunk, times);
        assert_eq!(decode_chunk(&bytes, 42), Some((chunk, times, bytes.len())));
        let burn = Burn { first: 9, count: 77, reason: LossReason::Oversize, times };
        assert_eq!(decode_burn(&encode_burn(42, &burn), 42), Some(burn));
        for reason in (0..=9).map(reason_of) {
            assert_eq!(reason_of(reason_code(reason)), reason);
        }
    }

    #[test]
    fn every_single_bit_flip_is_refused() {
        let (chunk, times) = chunk(60);
        let burn = Burn { first: 9, count: 77, reason: LossReason::Memory, times };
        for (sound, burned) in [(encode_chunk(&chunk, times), false), (encode_burn(42, &burn), true)] {
            for bit in 0..sound.len() * 8 {
                let mut bytes = sound.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(decode_chunk(&bytes, 42).is_none() && decode_burn(&bytes, 42).is_none(), "bit {bit} {burned}");
            }
        }
    }

    #[test]
    fn a_value_of_another_epoch_is_refused() {
        let (chunk, times) = chunk(60);
        assert_eq!(decode_chunk(&encode_chunk(&chunk, times), 43), None);
    }

    #[test]
    fn what_no_value_can_be_is_refused_whatever_its_checksum_says() {
        let sized = |first, count, room| {
            let (chunk, times) = chunk(maps_room(&chunk(0).0.context) + room - 1);
            encode_chunk(&Chunk { first, count, ..chunk }, times)
        };
        for (bytes, sound) in [
            (sized(1, 1, 1), true),
            (sized(1, 1, 2), false),
            (sized(1, 0, 1), false),
            (sized(0, 1, 1), false),
            (sized(u64::MAX, 1, 1), false),
        ] {
            assert_eq!(decode_chunk(&bytes, 42).is_some(), sound, "{} bytes: {:?}", bytes.len(), &bytes[..28]);
        }
    }

    #[test]
    fn a_value_at_the_end_of_what_is_looked_through_is_left_to_the_next_look() {
        let (chunk, times) = chunk(300);
        let bytes = [vec![b'x'; 50], encode_chunk(&chunk, times)].concat();
        for (until, found) in [(50, 0), (51, 1)] {
            let mut seen = 0;
            let end = scan_raw(&bytes, until, 42, |_, _| seen += 1);
            assert_eq!((seen, end), (found, if found == 0 { until } else { bytes.len() }));
        }
    }

    #[test]
    fn a_raw_scan_finds_values_between_rubbish() {
        let (chunk, times) = chunk(300);
        let burn = Burn { first: 1003, count: 2, reason: LossReason::Memory, times };
        let mut bytes = b"HHoHoc".to_vec();
        bytes.extend(encode_chunk(&chunk, times));
        bytes.extend(b"Hob\x01xx");
        bytes.extend(encode_burn(42, &burn));
        let mut seen = Vec::new();
        let end = scan_raw(&bytes, bytes.len(), 42, |at, proven| seen.push((at, proven)));
        assert_eq!((seen.len(), end), (2, bytes.len()));
        assert!(matches!(&seen[0], (6, Proven::Chunk(Lying { first: 1000, count: 3, .. }))));
        assert!(matches!(&seen[1].1, Proven::Burn(found) if *found == burn));
        // Cut where the first one lies, nothing is found twice and nothing is missed.
        let (mut firsts, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            at += scan_raw(&bytes[at..], 50, 42, |_, proven| {
                firsts.push(match proven {
                    Proven::Chunk(chunk) => chunk.first,
                    Proven::Burn(burn) => burn.first,
                });
            });
        }
        assert_eq!(firsts, [1000, 1003]);
    }
}
