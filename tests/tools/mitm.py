#!/usr/bin/python3
"""A broker's front: ends the agent's TLS, opens its own to the broker, and can see and change every packet.

It holds the broker's certificate towards agents and an agent's towards the broker, so it stands for one host.
  --drop-seq N         takes the record with this seq out of every message that passes: the planted loss
  --drop-times N       takes it out so many times only
  --withhold-acks      passes no PUBACK to the agent while the file given exists
  --log FILE           one line per packet that has passed:
                       <monotonic seconds> <'>' to the broker | '<' to the agent> <TYPE> [<topic> <pid> <first> <last>]
                       and, for each line that appears in --commits,   <monotonic seconds> + COMMIT <epoch> <seq>
  --commits FILE       the agent's own witness file; polled every 2 ms
"""

import argparse
import asyncio
import os
import signal
import ssl
import time

import envelope
import mqtt5


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", type=int, required=True)
    parser.add_argument("--connect", type=int, required=True)
    for name in ("--ca", "--server-cert", "--server-key", "--cert", "--key", "--log"):
        parser.add_argument(name, required=True)
    parser.add_argument("--drop-seq", type=int)
    parser.add_argument("--drop-times", type=int)
    parser.add_argument("--withhold-acks")
    parser.add_argument("--commits")
    return parser.parse_args()


class Front:
    def __init__(self, args):
        self.args = args
        self.dropped = 0
        self.log_file = open(args.log, "a", encoding="ascii")
        self.inside = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=args.ca)
        self.inside.verify_mode = ssl.CERT_REQUIRED
        self.inside.load_cert_chain(args.server_cert, args.server_key)
        self.outside = ssl.create_default_context(cafile=args.ca)
        self.outside.load_cert_chain(args.cert, args.key)

    def log(self, *words):
        self.log_file.write(f"{time.monotonic():.4f} " + " ".join(str(word) for word in words) + "\n")
        self.log_file.flush()

    def publish(self, mark, publish):
        """Writes it down, and the packet as it shall pass."""
        first = last = "-"
        if publish.topic.endswith("/h") or publish.topic.split("/")[-2] == "m":
            if self.args.drop_seq is not None and self.dropped != self.args.drop_times:
                changed = envelope.without(publish.payload, self.args.drop_seq)
                if changed is not None:
                    self.dropped += 1
                    self.log("-", "DROPPED", self.args.drop_seq)
                    publish.payload = changed
            seqs = [record["seq"] for record, _ in envelope.split(publish.payload)[1]]
            if seqs:
                first, last = seqs[0], seqs[-1]
        self.log(mark, "PUBLISH", publish.topic, publish.pid, first, last)
        return publish.encode()

    async def pump(self, mark, reader, writer):
        buffer = bytearray()
        try:
            while data := await reader.read(1 << 16):
                buffer += data
                for kind, flags, body in mqtt5.split(buffer):
                    if mark == "<" and kind == mqtt5.PUBACK and self.withholding():
                        self.log("-", "WITHHELD", mqtt5.NAMES[kind])
                        continue
                    if kind == mqtt5.PUBLISH:
                        writer.write(self.publish(mark, mqtt5.Publish(flags, body)))
                    else:
                        self.log(mark, mqtt5.NAMES.get(kind, kind))
                        writer.write(mqtt5.packet(kind, flags, body))
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def withholding(self):
        return self.args.withhold_acks is not None and os.path.exists(self.args.withhold_acks)

    async def serve(self, reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection(
                "localhost", self.args.connect, ssl=self.outside, server_hostname="localhost")
        except OSError as error:
            self.log("-", "UNREACHABLE", type(error).__name__)
            writer.close()
            return
        await asyncio.gather(self.pump(">", reader, far_writer), self.pump("<", far_reader, writer))

    async def commits(self):
        """Follows the agent's witness file."""
        at, rest = 0, b""
        while True:
            await asyncio.sleep(0.002)
            if not os.path.exists(self.args.commits) or os.path.getsize(self.args.commits) == at:
                continue
            with open(self.args.commits, "rb") as file:
                file.seek(at)
                data = file.read()
            at += len(data)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                epoch, seq, _ = line.split(b" ", 2)
                self.log("+", "COMMIT", epoch.decode(), seq.decode())

    async def run(self):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: os._exit(0))
        await asyncio.start_server(self.serve, "127.0.0.1", self.args.listen, ssl=self.inside)
        if self.args.commits:
            await self.commits()
        await asyncio.Event().wait()


asyncio.run(Front(arguments()).run())
