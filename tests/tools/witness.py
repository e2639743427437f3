#!/usr/bin/python3
"""The witness: subscribes over mutual TLS and writes down every record that arrives, byte for byte.

One line per event in the output file, flushed before the message is acknowledged:
  R <host> <epoch> <seq> <live|history> <hex of the record's MessagePack map>
  L <host> <epoch> <from> <to|-> <count> <reason>
  S <topic> <payload as hex>             status, meta, event and everything else below v1/
  C <session present: 0|1>               subscribed (again)
  Z <topic> <bytes> <bytes inside>       the message was a zstd frame; its content follows
  X <topic> <what is wrong with it>
Keeps one session for as long as it runs and comes back by itself. Ends on SIGTERM.
"""

import argparse
import signal
import socket
import ssl
import sys
import time

import envelope
import mqtt5

KEEP_ALIVE = 30


def arguments():
    parser = argparse.ArgumentParser()
    for name in ("--host", "--ca", "--cert", "--key", "--id", "--out"):
        parser.add_argument(name, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--filter", action="append")
    return parser.parse_args()


class Witness:
    def __init__(self, args):
        self.args = args
        self.out = open(args.out, "a", encoding="ascii")
        self.tls = ssl.create_default_context(cafile=args.ca)
        self.tls.load_cert_chain(args.cert, args.key)
        self.first = True

    def note(self, *words):
        self.out.write(" ".join(str(word) for word in words) + "\n")

    def message(self, publish):
        parts = publish.topic.split("/")
        if len(parts) < 4 or not (parts[-1] == "h" or parts[-2] == "m"):
            self.note("S", publish.topic, publish.payload.hex() or "-")
            return
        try:
            head, records = envelope.split(publish.payload)
            host = parts[-2] if parts[-1] == "h" else parts[-3]
            if head["host"] != host:
                raise ValueError(f"says it is of host {head['host']}")
            if head["lane"] != ("history" if parts[-1] == "h" else "live"):
                raise ValueError(f"says lane {head['lane']}")
        except (ValueError, KeyError, TypeError) as error:
            self.note("X", publish.topic, error)
            return
        if publish.payload.startswith(envelope.FRAME):
            self.note("Z", publish.topic, len(publish.payload), len(envelope.plain(publish.payload)))
        for record, raw in records:
            self.note("R", host, head["epoch"], record["seq"], head["lane"], raw.hex())
        for loss in head.get("losses", ()):
            end = "-" if loss["to"] is None else loss["to"]
            self.note("L", host, loss["epoch"], loss["from"], end, loss["count"], loss["reason"])

    def connection(self):
        """Serves one connection until it ends."""
        raw = socket.create_connection((self.args.host, self.args.port), timeout=5)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.tls.wrap_socket(raw, server_hostname=self.args.host) as sock:
            sock.settimeout(5)
            sock.sendall(mqtt5.connect(self.args.id, KEEP_ALIVE, self.first, 3600, 1000))
            self.first = False
            buffer, writable, pinged = bytearray(), True, time.monotonic()
            while True:
                try:
                    data = sock.recv(1 << 16)
                    if not data:
                        return
                except socket.timeout:
                    data = b""
                buffer += data
                replies = bytearray()
                for kind, flags, body in mqtt5.split(buffer):
                    replies += self.packet(kind, flags, body)
                if time.monotonic() - pinged > KEEP_ALIVE / 2:
                    replies += mqtt5.packet(mqtt5.PINGREQ, 0, b"")
                    pinged = time.monotonic()
                self.out.flush()
                # A broker that is gone may still have left messages in the socket: read on when writing fails.
                if replies and writable:
                    try:
                        sock.sendall(replies)
                    except OSError:
                        writable = False

    def packet(self, kind, flags, body):
        """What to answer."""
        if kind == mqtt5.CONNACK:
            if body[1] != 0:
                sys.exit(f"witness: the broker refused the connection with reason {body[1]:#04x}")
            self.session_present = body[0] & 1
            return mqtt5.subscribe(1, self.args.filter or ["v1/#"])
        if kind == mqtt5.SUBACK:
            if any(code >= 0x80 for code in body[3:]):
                sys.exit(f"witness: the broker refused the subscription: {body[3:].hex()}")
            self.note("C", self.session_present)
        if kind == mqtt5.PUBLISH:
            publish = mqtt5.Publish(flags, body)
            self.message(publish)
            if publish.qos:
                return mqtt5.puback(publish.pid)
        return b""


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    witness = Witness(arguments())
    while True:
        try:
            witness.connection()
        except OSError as error:  # ssl.SSLError is one
            print("witness:", error, file=sys.stderr, flush=True)
        witness.out.flush()
        time.sleep(0.05)


main()
