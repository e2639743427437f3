#!/usr/bin/env python3
"""The least a subscriber does: prints each record once, and what is missing. subscriber.py HOST PORT CA CERT KEY"""
import json
import sys

import msgpack
import paho.mqtt.client as mqtt

broker, port, ca, cert, key = sys.argv[1:]
seen, lost, suspects = {}, {}, {}  # by (host, epoch)


def on_message(client, userdata, message):
    payload = message.payload
    if payload[:4] == b"\x28\xb5\x2f\xfd":  # history of an agent with compression = "zstd"
        import zstandard  # Debian: python3-zstandard; needed for such agents only

        payload = zstandard.decompress(payload)
    m = json.loads(payload) if payload[:1] == b"{" else msgpack.unpackb(payload)
    who = m.get("host"), m.get("epoch")
    have = seen.setdefault(who, set())
    for record in m.get("records", []):
        if record["seq"] not in have:  # else a duplicate: delivery is at least once
            have.add(record["seq"])
            print(json.dumps({"host": m["host"], "epoch": m["epoch"], "lane": m["lane"], **record}), flush=True)
    for loss in m.get("losses", []):  # `to` is null when the host cannot know it
        lost.setdefault((m["host"], loss["epoch"]), set()).add((loss["from"], loss["to"] or 2**53))
    if "next_seq" in m:  # a heartbeat: what is not here, not on its way and not declared lost, twice, is missing
        excused = {(r["from"], r["to"]) for r in m["pending"] if r["epoch"] == m["epoch"]} | lost.get(who, set())
        absent = set(range(min(have, default=m["next_seq"]), m["next_seq"])) - have
        absent = {seq for seq in absent if not any(a <= seq <= b for a, b in excused)}
        for seq in sorted(absent & suspects.get(who, set())):
            print(json.dumps({"gap": seq, "host": m["host"], "epoch": m["epoch"]}), flush=True)
        suspects[who] = absent


version = [mqtt.CallbackAPIVersion.VERSION2] if hasattr(mqtt, "CallbackAPIVersion") else []  # paho-mqtt 2, or 1.6
client = mqtt.Client(*version)
client.on_message = on_message
client.on_connect = lambda client, *_: client.subscribe([(f"v1/+/+/{leaf}", 1) for leaf in ("m/+", "h", "status")])
client.on_subscribe = lambda *_: print("subscribed", file=sys.stderr, flush=True)
client.tls_set(ca, cert, key)
client.connect(broker, int(port))
client.loop_forever()
