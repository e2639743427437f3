#!/usr/bin/python3
"""The judge of the whole way: what agents committed against what a hub stored, as sets, byte for byte, value by value.

  judge.py --commits FILE.. --stored DIR [--host HOST]
A commit file has a line `<epoch> <seq> <hex of the record's MessagePack map>` for each record; DIR has the hub's NDJSON
files. Decodes with libraries of its own, no code of the product. Prints one JSON document:
  committed, stored   how many records
  missing             committed and not stored: [[epoch, first seq, last seq], ..]
  moved               not stored under their seq, but with equal content in another epoch
  twice               (epoch, seq) stored more than once
  changed             stored with another name, time, tag, field, status or error than was committed
  strange             stored and never committed
  reused              (epoch, seq) under which two different records were committed
"""

import argparse
import collections
import glob
import json
import os

import msgpack


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--commits", nargs="+", required=True)
    parser.add_argument("--stored", required=True)
    parser.add_argument("--host")
    return parser.parse_args()


def whole_lines(path):
    with open(path, "rb") as file:
        # What follows the last newline is not written yet, or never will be.
        return file.read().split(b"\n")[:-1]


def committed(paths):
    records = collections.defaultdict(set)
    for path in paths:
        for line in whole_lines(path):
            epoch, seq, raw = line.split(b" ")
            records[int(epoch), int(seq)].add(raw)
    return records


def stored(folder, host):
    lines = collections.defaultdict(list)
    for path in sorted(glob.glob(os.path.join(folder, "*.ndjson"))):
        for text in whole_lines(path):
            line = json.loads(text)
            if host is None or line["host"] == host:
                lines[line["epoch"], line["seq"]].append(line)
    return lines


def content(record):
    return json.dumps([record.get(name) for name in ("ts", "name", "status", "tags", "fields", "error")], sort_keys=True)


def decoded(raw):
    return msgpack.unpackb(bytes.fromhex(raw.decode()), raw=False)


def ranges(keys):
    out = []
    for epoch, seq in sorted(keys):
        if out and out[-1][0] == epoch and out[-1][2] + 1 == seq:
            out[-1][2] = seq
        else:
            out.append([epoch, seq, seq])
    return out


def main():
    args = arguments()
    # In this order: what is stored has been committed before.
    lines = stored(args.stored, args.host)
    records = committed(args.commits)
    epochs_of = collections.defaultdict(set)
    for (epoch, _), all_of_one in lines.items():
        for line in all_of_one:
            epochs_of[content(line)].add(epoch)
    found = collections.defaultdict(set)
    for key, raws in records.items():
        here = {content(line) for line in lines.get(key, ())}
        for record in map(decoded, raws):
            same = content(record)
            if record["seq"] != key[1]:
                found["changed"].add(key)
            elif same not in here:
                found["moved" if epochs_of.get(same, set()) - {key[0]} else "changed" if here else "missing"].add(key)
    print(json.dumps({
        "committed": sum(len(raws) for raws in records.values()),
        "stored": sum(len(all_of_one) for all_of_one in lines.values()),
        "missing": ranges(found["missing"]),
        "moved": ranges(found["moved"]),
        "twice": ranges(key for key, all_of_one in lines.items() if len(all_of_one) > 1),
        "changed": ranges(found["changed"]),
        "strange": ranges(lines.keys() - records.keys()),
        "reused": ranges(key for key, raws in records.items() if len(raws) > 1),
    }))


main()
