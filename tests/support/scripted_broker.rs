//! An MQTT 5 broker on loopback that does what its script says, faults included, and writes down what it saw.
//!
//! One script per connection. It routes nothing: what a client receives is in the script too. Speaks through
//! rumqttc's public codec. Runs as tasks of the test's own runtime and ends with it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnAckProperties, ConnectReturnCode, Disconnect, DisconnectProperties, DisconnectReasonCode, Packet,
    PingResp, PubAck, PubAckReason, Publish, SubAck, SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{Error, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::sleep;

/// When PUBACKs are sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Acks {
    #[default]
    AtOnce,
    Never,
    /// Gathered in groups of this size, each group acknowledged last first.
    Reversed(usize),
}

/// What one connection gets to see. The default behaves well.
#[derive(Clone, Debug)]
pub struct Script {
    pub refuse: Option<ConnectReturnCode>,
    pub session_present: bool,
    pub receive_max: Option<u16>,
    pub max_packet: Option<u32>,
    pub max_qos: Option<u8>,
    pub retain_available: Option<u8>,
    pub server_keep_alive: Option<u16>,
    pub acks: Acks,
    /// Reason for topics that contain the text; the first match counts, otherwise success.
    pub codes: Vec<(String, PubAckReason)>,
    /// The publish with this number (from 1) is not acknowledged.
    pub forget_ack_of: Option<usize>,
    /// The first publish is acknowledged only some time after the one with this number.
    pub hold_first_until: Option<usize>,
    /// After the acknowledgement of this publish the same is sent again.
    pub repeat_ack_of: Option<usize>,
    /// After this publish an id that was never in flight is acknowledged.
    pub invent_ack_after: Option<usize>,
    /// The connection is cut when this many bytes have been read.
    pub cut_after_bytes: Option<usize>,
    /// ... when this many publishes have been read and the last acknowledgement has been sent.
    pub cut_after_publishes: Option<usize>,
    /// DISCONNECT instead of the acknowledgement of this publish.
    pub disconnect_after: Option<(usize, DisconnectReasonCode)>,
    /// Nothing is read any more after this publish; the connection stays open.
    pub stop_reading_after: Option<usize>,
    /// Pause before each read of at most 2 KiB, until the first publish is in.
    pub read_slowly: Option<Duration>,
    /// No CONNACK.
    pub mute: bool,
    /// CONNACK and then not a byte more.
    pub silent: bool,
    /// Raw bytes in place of the CONNACK.
    pub instead_of_connack: Option<Vec<u8>>,
    /// Raw bytes right after the CONNACK, in the same write.
    pub after_connack: Vec<u8>,
    /// Codes of the SUBACK; empty sends none.
    pub suback: Option<Vec<SubscribeReasonCode>>,
    /// Sent to the client after its SUBSCRIBE, in order, as the receive maximum permits.
    pub deliver: Vec<Publish>,
    /// Do not wait for the client's acknowledgements when delivering.
    pub overrun: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            refuse: None,
            session_present: false,
            receive_max: None,
            max_packet: None,
            max_qos: None,
            retain_available: None,
            server_keep_alive: None,
            acks: Acks::AtOnce,
            codes: Vec::new(),
            forget_ack_of: None,
            hold_first_until: None,
            repeat_ack_of: None,
            invent_ack_after: None,
            cut_after_bytes: None,
            cut_after_publishes: None,
            disconnect_after: None,
            stop_reading_after: None,
            read_slowly: None,
            mute: false,
            silent: false,
            instead_of_connack: None,
            after_connack: Vec::new(),
            suback: None,
            deliver: Vec::new(),
            overrun: false,
        }
    }
}

/// What the broker saw and did on one connection.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub client_id: String,
    pub clean_start: bool,
    pub keep_alive: u16,
    pub announced_receive_max: Option<u16>,
    pub announced_max_packet: Option<u32>,
    pub session_expiry: Option<u32>,
    pub has_will: bool,
    pub publishes: Vec<Publish>,
    /// Payload and code of every PUBACK sent for a publish that was received, in order.
    pub acked: Vec<(Vec<u8>, u8)>,
    pub most_unacknowledged: usize,
    pub subscribed: Vec<String>,
    /// A SUBSCRIBE used the packet id of a publish in flight, or a publish one that is in use.
    pub id_misused: bool,
    /// Ids that the client acknowledged.
    pub client_acked: Vec<u16>,
    pub pings: usize,
    pub disconnect: bool,
    pub ended: bool,
}

#[derive(Clone)]
pub struct ScriptedBroker {
    pub port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl ScriptedBroker {
    /// `script` is asked for each connection, numbered from 0.
    pub fn start(script: impl Fn(usize) -> Script + Send + 'static) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // Small, so that a script that stops reading is felt soon.
        socket.set_recv_buffer_size(4096).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(64).unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(accept(listener, seen.clone(), script));
        Self { port, seen }
    }

    /// A copy of the record of connection `n`; empty if there was none.
    pub fn seen(&self, n: usize) -> Seen {
        self.seen.lock().unwrap().get(n).cloned().unwrap_or_default()
    }

    /// Waits (30 s at most) until the record of connection `n` is as wanted, and returns it.
    pub async fn wait(&self, n: usize, wanted: impl Fn(&Seen) -> bool) -> Seen {
        for _ in 0..3000 {
            let seen = self.seen(n);
            if wanted(&seen) {
                return seen;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("connection {n} never got there: {:?}", self.seen(n));
    }
}

async fn accept(listener: TcpListener, seen: Arc<Mutex<Vec<Seen>>>, script: impl Fn(usize) -> Script) {
    for n in 0.. {
        let Ok((stream, _)) = listener.accept().await else { return };
        seen.lock().unwrap().push(Seen::default());
        let peer = Peer {
            stream,
            script: script(n),
            seen: seen.clone(),
            n,
            input: BytesMut::new(),
            read: 0,
            pending: Vec::new(),
            held: None,
            release: false,
            in_flight: 0,
            to_deliver: VecDeque::new(),
        };
        tokio::spawn(async move {
            let (seen, n) = (peer.seen.clone(), peer.n);
            peer.serve().await;
            seen.lock().unwrap()[n].ended = true;
        });
    }
}

struct Peer {
    stream: TcpStream,
    script: Script,
    seen: Arc<Mutex<Vec<Seen>>>,
    n: usize,
    input: BytesMut,
    read: usize,
    /// Received and not yet acknowledged: id, payload, code.
    pending: Vec<(u16, Vec<u8>, PubAckReason)>,
    /// The one that is held back.
    held: Option<(u16, Vec<u8>, PubAckReason)>,
    /// It may go when nothing more comes for a while.
    release: bool,
    /// Delivered to the client and not acknowledged by it.
    in_flight: usize,
    to_deliver: VecDeque<Publish>,
}

/// The connection is over.
struct Cut;

impl Peer {
    async fn serve(mut self) {
        while let Ok(packet) = self.next_packet().await {
            if self.answer(packet).await.is_err() {
                return;
            }
        }
    }

    fn note(&self, f: impl FnOnce(&mut Seen)) {
        f(&mut self.seen.lock().unwrap()[self.n]);
    }

    async fn next_packet(&mut self) -> Result<Packet, Cut> {
        loop {
            // The codec cannot read a DISCONNECT without content, which is what a client sends.
            let kind = self.input.first().copied().unwrap_or_default() & 0xf0;
            match Packet::read(&mut self.input, None) {
                Ok(packet) => return Ok(packet),
                Err(Error::PayloadRequired) if kind == 0xe0 => {
                    return Ok(Packet::Disconnect(Disconnect::new(DisconnectReasonCode::NormalDisconnection)));
                }
                Err(Error::InsufficientBytes(_)) => self.fill().await?,
                Err(_) => return Err(Cut),
            }
        }
    }

    async fn fill(&mut self) -> Result<(), Cut> {
        let left = self.script.cut_after_bytes.map_or(usize::MAX, |cut| cut.saturating_sub(self.read));
        if left == 0 {
            return Err(Cut);
        }
        if let Some(pause) = self.script.read_slowly {
            sleep(pause).await;
        }
        let mut buffer = [0; 2048];
        let room = left.min(buffer.len());
        let n = match self.stream.try_read(&mut buffer[..room]) {
            Ok(n) => n,
            Err(_) => {
                self.idle().await?;
                self.stream.read(&mut buffer[..room]).await.map_err(|_| Cut)?
            }
        };
        self.read += n;
        self.input.extend_from_slice(&buffer[..n]);
        match n {
            0 => Err(Cut),
            _ => Ok(()),
        }
    }

    /// An unfinished group and what was held back are acknowledged when nothing more comes for a while.
    async fn idle(&mut self) -> Result<(), Cut> {
        if self.release && self.held.is_some() {
            if tokio::time::timeout(Duration::from_millis(200), self.stream.readable()).await.is_err() {
                self.pending.extend(self.held.take());
                return self.acknowledge_group(Vec::new()).await;
            }
            return Ok(());
        }
        if !matches!(self.script.acks, Acks::Reversed(_)) || self.pending.is_empty() {
            return Ok(());
        }
        match tokio::time::timeout(Duration::from_millis(5), self.stream.readable()).await {
            Ok(_) => Ok(()),
            Err(_) => self.acknowledge_group(Vec::new()).await,
        }
    }

    async fn send(&mut self, packets: &[Packet]) -> Result<(), Cut> {
        let mut out = BytesMut::new();
        for packet in packets {
            packet.write(&mut out, None).expect("a packet of the script can be encoded");
        }
        self.stream.write_all(&out).await.map_err(|_| Cut)
    }

    async fn answer(&mut self, packet: Packet) -> Result<(), Cut> {
        match packet {
            Packet::Connect(connect, will, _) => {
                self.note(|s| {
                    s.client_id = connect.client_id;
                    s.clean_start = connect.clean_start;
                    s.keep_alive = connect.keep_alive;
                    s.has_will = will.is_some();
                    if let Some(p) = connect.properties {
                        s.announced_receive_max = p.receive_maximum;
                        s.announced_max_packet = p.max_packet_size;
                        s.session_expiry = p.session_expiry_interval;
                    }
                });
                self.connack().await
            }
            Packet::Publish(publish) => self.on_publish(publish).await,
            Packet::PingReq(_) => {
                self.note(|s| s.pings += 1);
                match self.script.silent {
                    true => Ok(()),
                    false => self.send(&[Packet::PingResp(PingResp)]).await,
                }
            }
            Packet::Subscribe(subscribe) => {
                let used = self.in_use(subscribe.pkid);
                let granted = vec![SubscribeReasonCode::Success(QoS::AtLeastOnce); subscribe.filters.len()];
                self.note(|s| {
                    s.id_misused |= used;
                    s.subscribed.extend(subscribe.filters.iter().map(|f| f.path.clone()));
                });
                let return_codes = self.script.suback.clone().unwrap_or(granted);
                if return_codes.is_empty() {
                    return Ok(());
                }
                self.send(&[Packet::SubAck(SubAck { pkid: subscribe.pkid, return_codes, properties: None })]).await?;
                self.to_deliver = self.script.deliver.drain(..).collect();
                self.deliver().await
            }
            Packet::PubAck(ack) => {
                self.note(|s| s.client_acked.push(ack.pkid));
                self.in_flight = self.in_flight.saturating_sub(1);
                self.deliver().await
            }
            Packet::Disconnect(_) => {
                self.note(|s| s.disconnect = true);
                Err(Cut)
            }
            _ => Err(Cut),
        }
    }

    async fn connack(&mut self) -> Result<(), Cut> {
        if self.script.mute {
            return Ok(());
        }
        if let Some(raw) = &self.script.instead_of_connack {
            let raw = raw.clone();
            return self.stream.write_all(&raw).await.map_err(|_| Cut);
        }
        let properties = ConnAckProperties {
            receive_max: self.script.receive_max,
            max_packet_size: self.script.max_packet,
            max_qos: self.script.max_qos,
            retain_available: self.script.retain_available,
            server_keep_alive: self.script.server_keep_alive,
            ..no_properties()
        };
        let code = self.script.refuse.unwrap_or(ConnectReturnCode::Success);
        let session_present = self.script.session_present && self.script.refuse.is_none();
        let connack = ConnAck { session_present, code, properties: Some(properties) };
        let mut out = BytesMut::new();
        Packet::ConnAck(connack).write(&mut out, None).expect("CONNACK can be encoded");
        out.extend_from_slice(&self.script.after_connack);
        self.stream.write_all(&out).await.map_err(|_| Cut)?;
        match self.script.refuse {
            Some(_) => Err(Cut),
            None => Ok(()),
        }
    }

    async fn on_publish(&mut self, publish: Publish) -> Result<(), Cut> {
        let number = self.seen.lock().unwrap()[self.n].publishes.len() + 1;
        self.script.read_slowly = None;
        let topic = String::from_utf8_lossy(&publish.topic).into_owned();
        let code = self.script.codes.iter().find(|(part, _)| topic.contains(part.as_str()));
        let reason = code.map_or(PubAckReason::Success, |(_, reason)| *reason);
        let used = self.in_use(publish.pkid);
        self.pending.push((publish.pkid, publish.payload.to_vec(), reason));
        let unacknowledged = self.pending.len();
        self.note(|s| {
            s.id_misused |= used;
            s.most_unacknowledged = s.most_unacknowledged.max(unacknowledged);
            s.publishes.push(publish);
        });
        if let Some((at, code)) = self.script.disconnect_after
            && at == number
        {
            // Without properties the codec writes a byte too many.
            let properties = DisconnectProperties {
                session_expiry_interval: None,
                reason_string: Some("the script says so".into()),
                user_properties: Vec::new(),
                server_reference: None,
            };
            self.send(&[Packet::Disconnect(Disconnect { reason_code: code, properties: Some(properties) })]).await?;
            return Err(Cut);
        }
        self.acknowledge(number).await?;
        if self.script.cut_after_publishes == Some(number) {
            return Err(Cut);
        }
        if self.script.stop_reading_after == Some(number) {
            sleep(Duration::from_secs(3600)).await;
        }
        Ok(())
    }

    /// The packet id stands for a publish that is not acknowledged.
    fn in_use(&self, wanted: u16) -> bool {
        self.pending.iter().chain(&self.held).any(|(id, ..)| *id == wanted)
    }

    async fn acknowledge(&mut self, number: usize) -> Result<(), Cut> {
        let group = match self.script.acks {
            _ if self.script.silent => return Ok(()),
            Acks::Never => return Ok(()),
            Acks::AtOnce => 1,
            Acks::Reversed(n) => n,
        };
        if self.script.forget_ack_of == Some(number) {
            self.pending.pop();
            return Ok(());
        }
        if self.script.hold_first_until.is_some() && number == 1 {
            self.held = self.pending.pop();
            return Ok(());
        }
        if self.script.hold_first_until == Some(number) {
            self.release = true;
        }
        if self.pending.len() < group {
            return Ok(());
        }
        let mut faults = Vec::new();
        if self.script.repeat_ack_of == Some(number) {
            let (pkid, _, reason) = self.pending[0];
            faults.push(Packet::PubAck(PubAck { pkid, reason, properties: None }));
        }
        if self.script.invent_ack_after == Some(number) {
            faults.push(Packet::PubAck(PubAck { pkid: 60_000, reason: PubAckReason::Success, properties: None }));
        }
        self.acknowledge_group(faults).await
    }

    /// Everything pending, last first, and the faults behind it in the same write.
    async fn acknowledge_group(&mut self, faults: Vec<Packet>) -> Result<(), Cut> {
        let mut out = Vec::new();
        for (pkid, payload, reason) in self.pending.drain(..).rev() {
            self.seen.lock().unwrap()[self.n].acked.push((payload, code(reason)));
            out.push(Packet::PubAck(PubAck { pkid, reason, properties: None }));
        }
        out.extend(faults);
        self.send(&out).await
    }

    async fn deliver(&mut self) -> Result<(), Cut> {
        let allowed = self.seen.lock().unwrap()[self.n].announced_receive_max.unwrap_or(u16::MAX).into();
        let largest = self.seen.lock().unwrap()[self.n].announced_max_packet.unwrap_or(u32::MAX) as usize;
        while self.script.overrun || self.in_flight < allowed {
            let Some(publish) = self.to_deliver.pop_front() else { return Ok(()) };
            // As MQTT says: what the client cannot take is not sent, as if it had been.
            if publish.size() > largest && !self.script.overrun {
                continue;
            }
            self.in_flight += usize::from(publish.qos == QoS::AtLeastOnce);
            self.send(&[Packet::Publish(publish)]).await?;
        }
        Ok(())
    }
}

pub fn code(reason: PubAckReason) -> u8 {
    match reason {
        PubAckReason::Success => 0x00,
        PubAckReason::NoMatchingSubscribers => 0x10,
        PubAckReason::UnspecifiedError => 0x80,
        PubAckReason::ImplementationSpecificError => 0x83,
        PubAckReason::NotAuthorized => 0x87,
        PubAckReason::TopicNameInvalid => 0x90,
        PubAckReason::PacketIdentifierInUse => 0x91,
        PubAckReason::QuotaExceeded => 0x97,
        PubAckReason::PayloadFormatInvalid => 0x99,
    }
}

fn no_properties() -> ConnAckProperties {
    ConnAckProperties {
        session_expiry_interval: None,
        receive_max: None,
        max_qos: None,
        retain_available: None,
        max_packet_size: None,
        assigned_client_identifier: None,
        topic_alias_max: None,
        reason_string: None,
        user_properties: Vec::new(),
        wildcard_subscription_available: None,
        subscription_identifiers_available: None,
        shared_subscription_available: None,
        server_keep_alive: None,
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    }
}
