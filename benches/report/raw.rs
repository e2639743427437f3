//! The yardstick of the drain: a client that does nothing but send publishes that lie ready, pipelined, over TLS.
//!
//! One thread, one non-blocking socket, rustls with ring as the agent has it. Whatever may be in flight is handed to
//! TLS at once; answers are counted, not judged.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use holdover::uplink::transport::tls::{self, TlsFiles, VerificationTime};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::{ClockId, clock_gettime};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection};

/// What may be sent and not yet be acknowledged.
#[derive(Clone, Copy)]
pub struct InFlight {
    pub messages: usize,
    pub bytes: usize,
}

/// How one drain went.
#[derive(Clone, Copy)]
pub struct Drained {
    /// From the first publish to the last PUBACK.
    pub seconds: f64,
    /// Of the client.
    pub cpu_seconds: f64,
}

const PUBACK: u8 = 4;
const CONNACK: u8 = 2;

/// Sends every packet of `file` (see [`super::packets`]) to the broker on this port of the loopback.
pub fn drain(
    port: u16,
    files: &TlsFiles,
    client_id: &str,
    file: &Path,
    room: InFlight,
) -> Result<Drained, Box<dyn Error>> {
    let config = tls::load(files, VerificationTime::new(None))?.config;
    let connection = ClientConnection::new(Arc::clone(&config), ServerName::try_from("localhost")?)?;
    let socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_nodelay(true)?;
    let mut link = Link { tls: connection.into(), socket, input: Vec::new() };
    link.connect(client_id)?;
    link.socket.set_nonblocking(true)?;
    let mut packets = Packets { file: BufReader::with_capacity(256 << 10, File::open(file)?), next: None };
    let (began, cpu) = (Instant::now(), own_cpu());
    let (mut in_flight, mut bytes) = (std::collections::VecDeque::new(), 0);
    let mut id: u16 = 0;
    loop {
        while in_flight.len() < room.messages {
            let Some(packet) = packets.peek()? else { break };
            if bytes + packet.len() > room.bytes {
                break;
            }
            id = id % 60_000 + 1;
            bytes += packet.len();
            in_flight.push_back(packet.len());
            link.publish(packets.take(), id)?;
        }
        if in_flight.is_empty() {
            break;
        }
        for _ in 0..link.exchange()? {
            bytes -= in_flight.pop_front().ok_or("an acknowledgement of nothing")?;
        }
    }
    Ok(Drained { seconds: began.elapsed().as_secs_f64(), cpu_seconds: own_cpu() - cpu })
}

/// Of this thread.
fn own_cpu() -> f64 {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
}

/// Whole PUBLISH packets, each after its length, with the packet id left open.
struct Packets {
    file: BufReader<File>,
    next: Option<Vec<u8>>,
}

impl Packets {
    fn peek(&mut self) -> io::Result<Option<&Vec<u8>>> {
        if self.next.is_none() {
            let mut len = [0; 4];
            match self.file.read_exact(&mut len) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
                other => other?,
            }
            let mut packet = vec![0; u32::from_be_bytes(len) as usize];
            self.file.read_exact(&mut packet)?;
            self.next = Some(packet);
        }
        Ok(self.next.as_ref())
    }

    fn take(&mut self) -> Vec<u8> {
        self.next.take().unwrap_or_default()
    }
}

struct Link {
    tls: Connection,
    socket: TcpStream,
    /// Decrypted and not yet a whole packet.
    input: Vec<u8>,
}

impl Link {
    fn connect(&mut self, client_id: &str) -> Result<(), Box<dyn Error>> {
        self.tls.set_buffer_limit(None);
        let mut packet = vec![0x10, 10 + 1 + 2 + client_id.len() as u8];
        // MQTT 5, clean start, keep-alive 60 s, no properties.
        packet.extend_from_slice(b"\x00\x04MQTT\x05\x02\x00\x3c\x00");
        packet.extend_from_slice(&(client_id.len() as u16).to_be_bytes());
        packet.extend_from_slice(client_id.as_bytes());
        self.tls.writer().write_all(&packet)?;
        loop {
            self.tls.complete_io(&mut self.socket)?;
            let mut answer = [0; 256];
            match self.tls.reader().read(&mut answer) {
                Ok(n) if n > 3 && answer[0] >> 4 == CONNACK && answer[3] == 0 => return Ok(()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return Err(format!("the broker does not let the raw client in: {other:?}").into()),
            }
        }
    }

    /// The id goes where [`super::packets`] left room for it.
    fn publish(&mut self, mut packet: Vec<u8>, id: u16) -> io::Result<()> {
        let at = super::packets::id_at(&packet);
        packet[at..at + 2].copy_from_slice(&id.to_be_bytes());
        self.tls.writer().write_all(&packet)
    }

    /// Moves what can be moved, waiting if nothing can; how many PUBACKs arrived.
    fn exchange(&mut self) -> Result<usize, Box<dyn Error>> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                other => other?,
            };
        }
        let wanted = if self.tls.wants_write() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        poll(&mut [PollFd::new(&self.socket, wanted)], None)?;
        match self.tls.read_tls(&mut self.socket) {
            Ok(0) => return Err("the broker hung up on the raw client".into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error.into()),
        }
        self.tls.process_new_packets()?;
        match self.tls.reader().read_to_end(&mut self.input) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error.into()),
            _ => {}
        }
        self.acks()
    }

    fn acks(&mut self) -> Result<usize, Box<dyn Error>> {
        let (mut at, mut acks) = (0, 0);
        while let [kind, len, ..] = self.input[at..] {
            let end = at + 2 + usize::from(len);
            if end > self.input.len() {
                break;
            }
            if kind >> 4 != PUBACK {
                return Err(format!("the broker sent packet type {} to the raw client", kind >> 4).into());
            }
            acks += 1;
            at = end;
        }
        self.input.drain(..at);
        Ok(acks)
    }
}
