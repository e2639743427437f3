"""Splits a Holdover envelope into its records without decoding and encoding them again.

Depends on the wire format alone (schemas/), not on any code of the agent: a witness that shared the agent's encoder
would agree with its mistakes.
"""

import msgpack
import zstandard

FRAME = b"\x28\xb5\x2f\xfd"


def plain(payload):
    """What is in the zstd frame, if it is one. Raises ValueError when that is broken."""
    if payload[:4] != FRAME:
        return payload
    try:
        return zstandard.decompress(payload)
    except zstandard.ZstdError as error:
        raise ValueError(f"not a zstd frame: {error}") from error


def split(payload):
    """(header dict without records, [(record dict, its raw bytes)]). Raises ValueError when it is no envelope."""
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=True, max_buffer_size=0)
    payload = plain(payload)
    unpacker.feed(payload)
    try:
        head, records = {}, []
        for _ in range(unpacker.read_map_header()):
            key = unpacker.unpack()
            if key != "records":
                head[key] = unpacker.unpack()
                continue
            for _ in range(unpacker.read_array_header()):
                start = unpacker.tell()
                record = unpacker.unpack()
                records.append((record, payload[start:unpacker.tell()]))
    except (msgpack.exceptions.UnpackException, ValueError) as error:
        raise ValueError(f"not a MessagePack envelope: {error!r}") from error
    if unpacker.tell() != len(payload):
        raise ValueError(f"{len(payload) - unpacker.tell()} bytes after the envelope")
    for key in ("v", "host", "epoch", "lane"):
        if key not in head:
            raise ValueError(f"the envelope has no {key!r}")
    return head, records


def without(payload, victim):
    """The envelope minus the record whose seq is `victim`, every other byte of a record as it was; None if absent."""
    head, records = split(payload)
    kept = [raw for record, raw in records if record["seq"] != victim]
    if len(kept) == len(records):
        return None
    packer = msgpack.Packer(use_bin_type=True)
    out = packer.pack_map_header(len(head) + 1)
    for key, value in head.items():
        out += packer.pack(key) + packer.pack(value)
    return out + packer.pack("records") + packer.pack_array_header(len(kept)) + b"".join(kept)
