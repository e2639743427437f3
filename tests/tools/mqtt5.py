"""Just enough of MQTT 5 for the test tools: framing, PUBLISH, and what a subscriber has to send.

Written against the OASIS standard rather than on a client library, for two reasons: the tools must show packets as
they were on the wire, and a witness must go on reading what a dying broker has already sent when an acknowledgement
can no longer be written, where client libraries hang up.
"""

import struct

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = 1, 2, 3, 4, 8, 9, 12, 13, 14
NAMES = {1: "CONNECT", 2: "CONNACK", 3: "PUBLISH", 4: "PUBACK", 5: "PUBREC", 6: "PUBREL", 7: "PUBCOMP",
         8: "SUBSCRIBE", 9: "SUBACK", 10: "UNSUBSCRIBE", 11: "UNSUBACK", 12: "PINGREQ", 13: "PINGRESP",
         14: "DISCONNECT", 15: "AUTH"}


def varint(value):
    out = bytearray()
    while True:
        value, digit = value >> 7, value & 0x7F
        out.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(out)


def read_varint(data, at):
    """(value, offset after it), or None when `data` ends before it does."""
    value = 0
    for shift in range(4):
        if at + shift >= len(data):
            return None
        value |= (data[at + shift] & 0x7F) << (7 * shift)
        if data[at + shift] < 0x80:
            return value, at + shift + 1
    raise ValueError("variable byte integer longer than 4 bytes")


def text(value):
    raw = value.encode()
    return struct.pack(">H", len(raw)) + raw


def packet(kind, flags, body):
    return bytes([kind << 4 | flags]) + varint(len(body)) + body


def split(buffer):
    """Takes whole packets off the front of the bytearray `buffer`: a list of (kind, flags, body)."""
    packets = []
    while len(buffer) >= 2:
        length = read_varint(buffer, 1)
        if length is None or len(buffer) < length[1] + length[0]:
            break
        size, start = length
        packets.append((buffer[0] >> 4, buffer[0] & 0xF, bytes(buffer[start:start + size])))
        del buffer[:start + size]
    return packets


class Publish:
    """A PUBLISH: topic, qos, packet id, raw properties (with their length), payload, retain, dup."""

    def __init__(self, flags, body):
        self.flags, self.qos, self.retain, self.dup = flags, flags >> 1 & 3, bool(flags & 1), bool(flags & 8)
        size = struct.unpack_from(">H", body)[0]
        self.topic = body[2:2 + size].decode()
        at = 2 + size
        self.pid = 0
        if self.qos:
            self.pid = struct.unpack_from(">H", body, at)[0]
            at += 2
        length, start = read_varint(body, at)
        self.properties = body[at:start + length]
        self.payload = body[start + length:]

    def encode(self):
        pid = struct.pack(">H", self.pid) if self.qos else b""
        return packet(PUBLISH, self.flags, text(self.topic) + pid + self.properties + self.payload)


def connect(client_id, keep_alive, clean_start, expiry, receive_maximum):
    """CONNECT without will or password; `expiry` seconds of session, `receive_maximum` QoS 1 messages in flight."""
    properties = b"\x11" + struct.pack(">I", expiry) + b"\x21" + struct.pack(">H", receive_maximum)
    flags = 0x02 if clean_start else 0
    return packet(CONNECT, 0, text("MQTT") + bytes([5, flags]) + struct.pack(">H", keep_alive)
                  + varint(len(properties)) + properties + text(client_id))


def subscribe(pid, filters):
    body = struct.pack(">H", pid) + b"\x00"
    for name in filters:
        body += text(name) + b"\x01"  # at QoS 1
    return packet(SUBSCRIBE, 2, body)


def puback(pid):
    return packet(PUBACK, 0, struct.pack(">H", pid))
