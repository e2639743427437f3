//! TCP sockets per state from the kernel's `NETLINK_SOCK_DIAG`: ten times cheaper than `/proc/net/tcp`, because the two
//! states that a busy host has thousands of (established and time-wait) are not listed; the caller knows their number
//! from elsewhere. Only for the machine and the network name space that we run in.

#![expect(clippy::host_endian_bytes, reason = "netlink messages are in the byte order of the host")]

use std::io;

use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, sendto, socket_with};

use super::tcp::{ESTABLISHED, States, TIME_WAIT};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const IPPROTO_TCP: u8 = 6;
const HEADER: usize = 16;
/// Header and `inet_diag_req_v2`.
const REQUEST: usize = HEADER + 56;
/// Bytes of one `recv`; the kernel fills a dump in pieces of at most 32 KiB.
const BUFFER: usize = 32 << 10;
/// A dump that never says that it is done ends here: some 2 million sockets.
const MAX_REPLIES: usize = 10_000;

/// Counts the sockets in all states but the two, over both address families.
pub(super) fn count() -> io::Result<States> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG))?;
    let mut states = States::default();
    let mut buffer = vec![0u8; BUFFER];
    for (seq, family) in [AddressFamily::INET, AddressFamily::INET6].into_iter().enumerate() {
        let request = request(u32::try_from(seq).unwrap_or(0), family);
        sendto(&socket, &request, SendFlags::empty(), &netlink::SocketAddrNetlink::new(0, 0))?;
        receive(&socket, &mut buffer, &mut states)?;
    }
    Ok(states)
}

fn request(seq: u32, family: AddressFamily) -> [u8; REQUEST] {
    let wanted = !((1u32 << ESTABLISHED) | (1 << TIME_WAIT));
    let mut message = [0u8; REQUEST];
    message[0..4].copy_from_slice(&(REQUEST as u32).to_ne_bytes());
    message[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message[6..8].copy_from_slice(&NLM_F_REQUEST_DUMP.to_ne_bytes());
    message[8..12].copy_from_slice(&seq.to_ne_bytes());
    message[HEADER] = family.as_raw() as u8;
    message[HEADER + 1] = IPPROTO_TCP;
    message[HEADER + 4..HEADER + 8].copy_from_slice(&wanted.to_ne_bytes());
    message
}

fn receive(socket: &OwnedFd, buffer: &mut [u8], states: &mut States) -> io::Result<()> {
    for _ in 0..MAX_REPLIES {
        let (_, len) = recv(socket, &mut *buffer, RecvFlags::empty())?;
        if read(&buffer[..len.min(buffer.len())], states)? {
            return Ok(());
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// One datagram of messages; true when the last one says that the dump is done.
fn read(mut datagram: &[u8], states: &mut States) -> io::Result<bool> {
    while let Some(header) = datagram.first_chunk::<HEADER>() {
        let [a, b, c, d, e, f, ..] = *header;
        let len = u32::from_ne_bytes([a, b, c, d]) as usize;
        let Some(message) = datagram.get(..len).filter(|m| m.len() >= HEADER) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        match (u16::from_ne_bytes([e, f]), &message[HEADER..]) {
            (NLMSG_DONE, _) => return Ok(true),
            (NLMSG_ERROR, [a, b, c, d, ..]) => {
                return Err(io::Error::from_raw_os_error(-i32::from_ne_bytes([*a, *b, *c, *d])));
            }
            // `inet_diag_msg`: family, state, ...
            (SOCK_DIAG_BY_FAMILY, [_, state, ..]) => states.add(*state),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_replies_are_errors_not_panics() {
        let mut states = States::default();
        assert!(!read(&[], &mut states).unwrap());
        let mut message = request(1, AddressFamily::INET).to_vec();
        assert!(!read(&message, &mut states).unwrap());
        for len in [0u32, 15, 73, u32::MAX] {
            message[..4].copy_from_slice(&len.to_ne_bytes());
            assert!(read(&message, &mut states).is_err(), "{len}");
        }
        let mut error = vec![0u8; 20];
        error[..4].copy_from_slice(&20u32.to_ne_bytes());
        error[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        error[16..].copy_from_slice(&(-2i32).to_ne_bytes());
        assert_eq!(read(&error, &mut states).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
