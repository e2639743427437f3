#!/usr/bin/env python3
"""Prints every record once, as JSON lines, and every gap: durable_subscriber.py HOST PORT CA CERT KEY [PREFIX/]

Like subscriber.py, and the broker keeps what arrives while it is away. Needs msgpack and paho-mqtt (1.6 or 2). ../README.md explains the payloads.
"""
import json
import sys

import msgpack
import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

broker, port, ca, cert, key, prefix = (sys.argv[1:] + [""])[:6]
seen, lost, suspects = {}, {}, {}  # by (host, epoch); a long-running reader keeps ranges instead of sets


def say(**line):
    print(json.dumps(line), flush=True)


def on_message(client, userdata, message):
    payload = message.payload
    if payload[:4] == b"\x28\xb5\x2f\xfd":  # history of an agent with compression = "zstd"
        import zstandard  # Debian: python3-zstandard; needed for such agents only

        payload = zstandard.decompress(payload)
    m = json.loads(payload) if payload[:1] == b"{" else msgpack.unpackb(payload)
    if m.get("state") == "offline":
        return
    for loss in m.get("losses", []):
        # `to` is null when the host cannot know it: everything from there on.
        lost.setdefault((m["host"], loss["epoch"]), set()).add((loss["from"], loss["to"] or 2**53))
    who = (m["host"], m["epoch"])
    have = seen.setdefault(who, set())
    for record in m.get("records", []):
        if record["seq"] not in have:  # else a duplicate: at least once is what MQTT promises
            have.add(record["seq"])
            say(host=m["host"], epoch=m["epoch"], lane=m["lane"], **record)
    if "next_seq" in m:  # a heartbeat: what exists, is not on its way, not declared lost and not here, is missing
        excused = {(r["from"], r["to"]) for r in m["pending"] if r["epoch"] == m["epoch"]} | lost.get(who, set())
        missing = set(range(min(have, default=m["next_seq"]), m["next_seq"])) - have
        missing = {seq for seq in missing if not any(a <= seq <= b for a, b in excused)}
        for seq in sorted(missing & suspects.get(who, set())):  # for two heartbeats: it may just have been under way
            say(gap=seq, host=m["host"], epoch=m["epoch"])
        suspects[who] = missing


def on_connect(client, userdata, flags, reason, properties=None):
    print("connected:", reason, file=sys.stderr, flush=True)
    client.subscribe([(f"{prefix}v1/+/+/{leaf}", 1) for leaf in ("m/+", "h", "status")])


version = [mqtt.CallbackAPIVersion.VERSION2] if hasattr(mqtt, "CallbackAPIVersion") else []
client = mqtt.Client(*version, client_id="holdover-example", protocol=mqtt.MQTTv5)
client.on_connect, client.on_message = on_connect, on_message
client.on_subscribe = lambda *_: print("subscribed", file=sys.stderr, flush=True)
client.tls_set(ca, cert, key)
session = Properties(PacketTypes.CONNECT)
session.SessionExpiryInterval = 86400  # the broker keeps what arrives while this is away, as far as its queue goes
client.connect(broker, int(port), clean_start=False, properties=session)
client.loop_forever()
