//! TCP connections per state, and segment totals.
//!
//! On the machine that we run on, the kernel is asked for the sockets of the rarer states; established and time-wait
//! come from `/proc/net/snmp` and `sockstat`, so that the cost stays near 0.5 ms with thousands of connections (1.4 ms
//! at 10,000). Elsewhere, and where the kernel refuses, `/proc/net/tcp` and `tcp6` are read line by line: 8 ms, and 30 ms
//! at 10,000. Neither is for every second.

use super::text::{self, words};
use super::{Collector, CollectorSpec, Context, HostRoot, MetricSpec, ParamError, Params, Points};
use crate::record::{ErrorKind, RunError};

pub const SPEC: CollectorSpec = CollectorSpec {
    name: "tcp",
    about: "TCP connections per state, segments sent and sent again",
    default_schedule: "30s",
    default_on: true,
    params: &[],
    metrics: METRICS,
    build,
};

const NAME: &str = "system.tcp";

const METRICS: &[MetricSpec] = &[
    MetricSpec::updown(NAME, "established", "{connection}")
        .is("system.network.connection.count{network.connection.state=established}", "connections in this state"),
    MetricSpec::updown(NAME, "syn_sent", "{connection}")
        .is("system.network.connection.count{network.connection.state=syn_sent}", "connections in this state"),
    MetricSpec::updown(NAME, "syn_received", "{connection}")
        .is("system.network.connection.count{network.connection.state=syn_received}", "connections in this state"),
    MetricSpec::updown(NAME, "fin_wait_1", "{connection}")
        .is("system.network.connection.count{network.connection.state=fin_wait_1}", "connections in this state"),
    MetricSpec::updown(NAME, "fin_wait_2", "{connection}")
        .is("system.network.connection.count{network.connection.state=fin_wait_2}", "connections in this state"),
    MetricSpec::updown(NAME, "time_wait", "{connection}")
        .is("system.network.connection.count{network.connection.state=time_wait}", "connections in this state"),
    MetricSpec::updown(NAME, "close_wait", "{connection}").is(
        "system.network.connection.count{network.connection.state=close_wait}",
        "connections that the other side closed and a program here has not",
    ),
    MetricSpec::updown(NAME, "last_ack", "{connection}")
        .is("system.network.connection.count{network.connection.state=last_ack}", "connections in this state"),
    MetricSpec::updown(NAME, "listen", "{connection}")
        .is("system.network.connection.count{network.connection.state=listen}", "sockets that wait for connections"),
    MetricSpec::updown(NAME, "closing", "{connection}")
        .is("system.network.connection.count{network.connection.state=closing}", "connections in this state"),
    MetricSpec::counter(NAME, "opens_active", "{connection}").ours("connections opened from here since boot"),
    MetricSpec::counter(NAME, "opens_passive", "{connection}").ours("connections accepted since boot"),
    MetricSpec::counter(NAME, "failed", "{connection}").ours("connections that failed to open since boot"),
    MetricSpec::counter(NAME, "resets", "{connection}").ours("connections reset since boot"),
    MetricSpec::counter(NAME, "segments_transmit", "{segment}").ours("segments sent since boot, less those sent again"),
    MetricSpec::counter(NAME, "segments_retransmit", "{segment}").ours("segments sent again since boot"),
    MetricSpec::counter(NAME, "listen_overflows", "{connection}")
        .ours("connections refused since boot because a program accepts too slowly"),
    MetricSpec::counter(NAME, "listen_drops", "{connection}")
        .ours("connections refused on listening sockets since boot, for any reason"),
];

/// The kernel's numbers.
pub(super) const ESTABLISHED: u8 = 1;
pub(super) const TIME_WAIT: u8 = 6;
const CLOSE_WAIT: u8 = 8;
/// State and field. 7 (closed) is not told: such sockets hold no connection. 12 is a connection about to be accepted.
const STATES: [(u8, &str); 10] = [
    (ESTABLISHED, "established"),
    (2, "syn_sent"),
    (3, "syn_received"),
    (4, "fin_wait_1"),
    (5, "fin_wait_2"),
    (TIME_WAIT, "time_wait"),
    (CLOSE_WAIT, "close_wait"),
    (9, "last_ack"),
    (10, "listen"),
    (11, "closing"),
];
const NEW_SYN_RECEIVED: u8 = 12;
const SYN_RECEIVED: u8 = 3;

/// Sockets per state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct States([u64; 13]);

impl States {
    /// One more socket in that state; a state that no kernel has is ignored.
    pub(super) fn add(&mut self, state: u8) {
        let state = if state == NEW_SYN_RECEIVED { SYN_RECEIVED } else { state };
        if let Some(count) = self.0.get_mut(usize::from(state)) {
            *count += 1;
        }
    }

    fn get(&self, state: u8) -> u64 {
        self.0.get(usize::from(state)).copied().unwrap_or(0)
    }

    fn set(&mut self, state: u8, count: u64) {
        if let Some(slot) = self.0.get_mut(usize::from(state)) {
            *slot = count;
        }
    }
}

struct Tcp;

fn build(_: &Params) -> Result<Box<dyn Collector>, ParamError> {
    Ok(Box::new(Tcp))
}

impl Collector for Tcp {
    fn collect(&mut self, ctx: &Context<'_>, out: &mut Points) -> Result<(), RunError> {
        let snmp = ctx.host.read(&ctx.host.namespace("net/snmp")).ok();
        let tcp = |key: &str| snmp.as_deref().and_then(|text| table(text, b"Tcp:", key));
        let mut draft =
            out.add(NAME).uint("opens_active", tcp("ActiveOpens")).uint("opens_passive", tcp("PassiveOpens"));
        draft = draft.uint("failed", tcp("AttemptFails")).uint("resets", tcp("EstabResets"));
        draft = draft.uint("segments_transmit", tcp("OutSegs")).uint("segments_retransmit", tcp("RetransSegs"));
        let netstat = ctx.host.read(&ctx.host.namespace("net/netstat")).ok();
        let more = |key: &str| netstat.as_deref().and_then(|text| table(text, b"TcpExt:", key));
        draft = draft.uint("listen_overflows", more("ListenOverflows")).uint("listen_drops", more("ListenDrops"));
        let states = match ask_kernel(ctx.host, tcp("CurrEstab")) {
            Some(states) => states,
            None => read_files(ctx.host)?,
        };
        for (state, field) in STATES {
            draft = draft.uint(field, states.get(state));
        }
        Ok(())
    }
}

/// Rare states from the kernel, the two common ones from its own sums. `CurrEstab` counts close-wait as well.
fn ask_kernel(host: &HostRoot, open: Option<u64>) -> Option<States> {
    if !host.is_live() {
        return None;
    }
    let waiting = host.read("proc/self/net/sockstat").ok().and_then(|text| time_wait(&text))?;
    let mut states = super::sock_diag::count()
        .inspect_err(|e| tracing::debug!(error = %e, "the kernel does not list sockets; reading /proc/net/tcp"))
        .ok()?;
    // Taken at two moments, so the difference may be off by those that changed in between.
    states.set(ESTABLISHED, open?.saturating_sub(states.get(CLOSE_WAIT)));
    states.set(TIME_WAIT, waiting);
    Some(states)
}

/// `TCP: inuse 7 orphan 0 tw 3 alloc 9 mem 2`.
fn time_wait(text: &[u8]) -> Option<u64> {
    let line = text::lines(text).find(|line| line.starts_with(b"TCP:"))?;
    words(line).skip_while(|word| *word != b"tw").nth(1).and_then(text::uint)
}

/// `/proc/net/snmp` is pairs of lines: names, then numbers. Negative ones (`MaxConn`) are no totals.
fn table(text: &[u8], prefix: &[u8], key: &str) -> Option<u64> {
    let mut pair = text::lines(text).filter(|line| line.starts_with(prefix));
    let (names, numbers) = (pair.next()?, pair.next()?);
    let at = words(names).position(|word| word == key.as_bytes())?;
    words(numbers).nth(at).and_then(text::uint)
}

fn read_files(host: &HostRoot) -> Result<States, RunError> {
    let mut states = States::default();
    let four = host.namespace("net/tcp");
    add_file(&host.read(&four)?, &four, &mut states)?;
    let six = host.namespace("net/tcp6");
    match host.read(&six) {
        Ok(text) => add_file(&text, &six, &mut states)?,
        // A kernel without IPv6.
        Err(error) if error.kind == ErrorKind::Unsupported => {}
        Err(error) => return Err(error),
    }
    Ok(states)
}

/// `   0: 0100007F:0CEA 00000000:0000 0A 00000000:00000000 ...`, below a line of titles.
fn add_file(text: &[u8], file: &str, states: &mut States) -> Result<(), RunError> {
    let mut lines = text::lines(text);
    let title = lines.next().unwrap_or_default();
    if words(title).next() != Some(b"sl") {
        return Err(text::malformed(file, "a line of titles", title));
    }
    for line in lines {
        let hex = words(line).nth(3).filter(|word| word.len() == 2).and_then(|word| std::str::from_utf8(word).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(state) => states.add(state),
            None => return Err(text::malformed(file, "a state in the 4th column", line)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::super::{AgentFigures, run};
    use super::*;
    use crate::clock;
    use crate::record::Value;

    #[test]
    fn the_kernel_and_its_files_agree_on_sockets_that_we_open() {
        let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
        let more: Vec<_> = (0..20).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let client = TcpStream::connect(v4.local_addr().unwrap()).unwrap();
        let (server, _) = v4.accept().unwrap();
        drop(client); // the server's end is now in close-wait, the client's in fin-wait-2
        let host = HostRoot::default();
        let states = read_files(&host).unwrap();
        let point = run(&SPEC, &mut Tcp, &Context { host: &host, now: &clock::now(), agent: &AgentFigures::default() });
        let field = |name: &str| match point[0].fields[name] {
            Value::Int(n) => n as u64,
            ref other => panic!("{other:?}"),
        };
        assert!(states.get(10) > more.len() as u64 && states.get(CLOSE_WAIT) >= 1, "{states:?}");
        assert!(field("listen") > more.len() as u64 && field("close_wait") >= 1, "{point:?}");
        assert!(
            super::super::sock_diag::count().is_ok_and(|s| s.get(10) > more.len() as u64),
            "this kernel answers sock_diag"
        );
        drop(server);
    }

    #[test]
    fn tables_of_snmp_are_read_by_name() {
        let text = b"Ip: A B\nIp: 1 2\nTcp: MaxConn OutSegs\nTcp: -1 7\nTcp: X\n";
        assert_eq!(table(text, b"Tcp:", "OutSegs"), Some(7));
        assert_eq!(table(text, b"Tcp:", "MaxConn"), None);
        assert_eq!(table(text, b"Udp:", "OutSegs"), None);
        assert_eq!(time_wait(b"sockets: used 1\nTCP: inuse 7 orphan 0 tw 3 alloc 9\n"), Some(3));
        assert_eq!(time_wait(b"TCP: inuse 7 tw\n"), None);
    }
}
