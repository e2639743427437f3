//! Asks a chronyd on this machine whether it has synchronised the clock: one datagram of its monitoring protocol
//! (version 6, since chrony 2.0), `tracking`, which it answers to every local user unless told otherwise.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

/// Where chronyd listens. Port 323 is a privileged one: an ordinary user cannot answer in its place.
pub(super) const LOCAL: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 323));

/// A local daemon answers within a millisecond, and an absent one is refused by the kernel at once.
const PATIENCE: Duration = Duration::from_millis(20);
const VERSION: u8 = 6;
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const TRACKING: [u8; 2] = 33u16.to_be_bytes();
const TRACKING_REPLY: [u8; 2] = 5u16.to_be_bytes();
const SUCCESS: [u8; 2] = 0u16.to_be_bytes();
/// Requests are padded to the length of their replies, which have this one.
const LEN: usize = 104;
/// The leap status that means "not synchronised".
const UNSYNCHRONISED: [u8; 2] = 3u16.to_be_bytes();
/// The reference "our own clock, for lack of a better one" (127.127.1.1).
const OWN_CLOCK: [u8; 4] = [127, 127, 1, 1];

/// What chronyd says of the clock that it keeps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tracking {
    pub synchronized: bool,
    /// Seconds that the clock is behind true time, as far as is known.
    pub offset: f64,
    /// Seconds that it may be off besides: root dispersion and half of the root delay.
    pub error: f64,
    pub stratum: u16,
}

pub(super) fn is_synchronised(chronyd: SocketAddr) -> bool {
    tracking(chronyd).is_some_and(|t| t.synchronized)
}

pub(super) fn tracking(chronyd: SocketAddr) -> Option<Tracking> {
    parse(&ask(chronyd).ok()?)
}

fn ask(chronyd: SocketAddr) -> io::Result<[u8; LEN]> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(chronyd)?;
    exchange(&socket)
}

fn exchange(socket: &UdpSocket) -> io::Result<[u8; LEN]> {
    let mut request = [0u8; LEN];
    request[..2].copy_from_slice(&[VERSION, REQUEST]);
    request[4..6].copy_from_slice(&TRACKING);
    socket.send(&request)?;
    let mut reply = [0u8; LEN];
    match socket.recv(&mut reply)? {
        LEN => Ok(reply),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Header (28 bytes): version, type, 2 reserved, command, reply, status, ... Then: reference id (4), address (20),
/// stratum (2), leap status (2), reference time (12), correction that is left (4), ... root delay (4, at 92), root
/// dispersion (4), ...
fn parse(reply: &[u8; LEN]) -> Option<Tracking> {
    let at = |offset: usize| [reply[offset], reply[offset + 1]];
    let answered = reply[..2] == [VERSION, REPLY] && at(4) == TRACKING && at(6) == TRACKING_REPLY && at(8) == SUCCESS;
    let number = |offset: usize| float([reply[offset], reply[offset + 1], reply[offset + 2], reply[offset + 3]]);
    let disciplined = reply[28..32] != OWN_CLOCK && reply[28..32] != [0; 4];
    answered.then(|| Tracking {
        synchronized: disciplined && at(54) != UNSYNCHRONISED,
        offset: number(68),
        error: number(96).abs() + number(92).abs() / 2.0,
        stratum: u16::from_be_bytes(at(52)),
    })
}

/// chrony's own format: 7 bits of exponent and 25 of coefficient, both two's complement, with the point before the latter.
fn float(bytes: [u8; 4]) -> f64 {
    let bits = i32::from_be_bytes(bytes);
    let (exponent, coefficient) = (bits >> 25, (bits << 7) >> 7);
    f64::from(coefficient) * 2f64.powi(exponent - 25)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An address where nothing listens.
    pub fn nobody() -> SocketAddr {
        UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    /// As recorded from chronyd 4.3, with that reference and leap status.
    fn reply(reference: [u8; 4], leap: u8) -> Vec<u8> {
        let mut reply = vec![0u8; LEN];
        reply[..8].copy_from_slice(&[6, 2, 0, 0, 0, 33, 0, 5]);
        reply[28..32].copy_from_slice(&reference);
        reply[53] = 2;
        reply[55] = leap;
        reply
    }

    fn answered_with(reply: Vec<u8>) -> bool {
        let chronyd = UdpSocket::bind("127.0.0.1:0").unwrap();
        chronyd.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let address = chronyd.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let mut request = [0u8; 200];
            let (len, client) = chronyd.recv_from(&mut request).unwrap();
            assert_eq!((len, &request[..6]), (LEN, &[6, 1, 0, 0, 0, 33][..]));
            chronyd.send_to(&reply, client).unwrap();
        });
        // As `ask`, without its haste: the machine may be busy.
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        client.connect(address).unwrap();
        let answer = exchange(&client);
        server.join().unwrap();
        answer.ok().and_then(|reply| parse(&reply)).is_some_and(|t| t.synchronized)
    }

    #[test]
    fn only_a_disciplined_clock_counts() {
        let server = [192, 0, 2, 1];
        assert!(answered_with(reply(server, 0)));
        assert!(answered_with(reply(server, 1)), "a leap second is announced");
        assert!(!answered_with(reply(server, 3)));
        assert!(!answered_with(reply([0; 4], 0)));
        assert!(!answered_with(reply(OWN_CLOCK, 0)), "its own clock, for lack of a better one");
    }

    #[test]
    fn offset_and_error_are_those_that_chronyc_prints() {
        let mut good: [u8; LEN] = reply([192, 0, 2, 1], 0).try_into().unwrap();
        for (bytes, number) in [([0; 4], 0.0), ([0x02, 0x80, 0, 0], 0.5), ([0x03, 0x80, 0, 0], -0.5)] {
            assert_eq!(float(bytes), number);
        }
        // 0.5 s slow; root delay 0.25 s, root dispersion 2 s.
        good[68..72].copy_from_slice(&[0x02, 0x80, 0, 0]);
        good[92..96].copy_from_slice(&[0x00, 0x80, 0, 0]);
        good[96..100].copy_from_slice(&[0x06, 0x80, 0, 0]);
        let tracking = parse(&good).unwrap();
        assert_eq!(tracking, Tracking { synchronized: true, offset: 0.5, error: 2.125, stratum: 2 });
    }

    #[test]
    fn other_answers_and_silence_are_no_proof() {
        let good = reply([192, 0, 2, 1], 0);
        assert!(!answered_with(good[..60].to_vec()));
        assert!(!answered_with(Vec::new()));
        for (at, byte) in [(0, 5), (1, 1), (5, 34), (7, 1), (9, 2)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert!(!answered_with(bad), "byte {at}");
        }
        assert!(!is_synchronised(nobody()));
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(!is_synchronised(silent.local_addr().unwrap()));
    }
}
