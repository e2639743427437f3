//! zstd frames around a payload: made where they save bytes, opened within a limit. A build without feature `zstd` does
//! neither, and says so.

use super::decode::DecodeError;

pub(super) const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Below it a frame saves next to nothing.
#[cfg(feature = "zstd")]
const WORTH_IT: usize = 256;

/// Level 3 makes batches of records a seventh smaller for four times the time.
#[cfg(feature = "zstd")]
const LEVEL: i32 = 1;

/// A window of at most 8 MiB, which every encoder keeps to unless told otherwise.
#[cfg(feature = "zstd")]
const WINDOW_LOG: u32 = 23;

/// Whether this build can make and open frames.
pub const COMPRESSES: bool = cfg!(feature = "zstd");

/// The payload as a frame that names its content's size, or `None` where that is not smaller.
///
/// Nothing is kept between two calls: the tables are as large as the payload asks for and given back.
#[cfg(feature = "zstd")]
pub fn compress(payload: &[u8]) -> Option<Vec<u8>> {
    if payload.len() < WORTH_IT {
        return None;
    }
    let frame = zstd::bulk::compress(payload, LEVEL).ok()?;
    (frame.len() < payload.len()).then_some(frame)
}

#[cfg(not(feature = "zstd"))]
pub fn compress(_: &[u8]) -> Option<Vec<u8>> {
    None
}

#[cfg(feature = "zstd")]
pub(super) fn decompress(payload: &[u8], max_bytes: usize) -> Result<Vec<u8>, DecodeError> {
    use std::io::Read;
    let bad = |e: std::io::Error| DecodeError::Malformed(format!("zstd: {e}"));
    let mut decoder = zstd::stream::read::Decoder::with_buffer(payload).map_err(bad)?;
    decoder.window_log_max(WINDOW_LOG).map_err(bad)?;
    let mut plain = Vec::new();
    decoder.take(max_bytes as u64 + 1).read_to_end(&mut plain).map_err(bad)?;
    if plain.len() > max_bytes {
        return Err(DecodeError::TooLarge(plain.len(), max_bytes));
    }
    Ok(plain)
}

#[cfg(not(feature = "zstd"))]
pub(super) fn decompress(_: &[u8], _: usize) -> Result<Vec<u8>, DecodeError> {
    Err(DecodeError::malformed("it is compressed with zstd, which this build cannot read"))
}

#[cfg(all(test, feature = "zstd"))]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_made_only_where_it_is_smaller_and_opens_to_the_same_bytes() {
        let records = b"system.cpu system.memory ".repeat(40);
        let frame = compress(&records).unwrap();
        assert!(frame.starts_with(&MAGIC) && frame.len() < records.len() / 4);
        assert_eq!(decompress(&frame, records.len()).unwrap(), records);
        assert_eq!(compress(&records[..WORTH_IT - 1]), None);
        assert_eq!(compress(&[]), None);
    }

    #[test]
    fn what_does_not_get_smaller_stays_plain() {
        let mut state = 1_u64;
        let noise = std::iter::from_fn(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            Some((state >> 56) as u8)
        });
        let noise: Vec<u8> = noise.take(60_000).collect();
        for bytes in [256, 4_000, 60_000] {
            assert_eq!(compress(&noise[..bytes]), None, "{bytes}");
        }
    }
}
