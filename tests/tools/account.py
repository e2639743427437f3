"""Counts what a hub wrote, from nothing but the sequence numbers: NDJSON of `holdover-hub` on standard input.

account.py HOST    prints one line, exit code 1 unless HOST's records are of one epoch and without a hole, some of them
                   of the built-in collectors (`system.`), none twice and none of another host
"""

import json
import sys

host = sys.argv[1]
seqs, epochs, others, system, twice = set(), set(), set(), 0, 0
for line in sys.stdin:
    if not line.startswith("{"):
        continue
    entry = json.loads(line)
    if entry["type"] != "record":
        continue
    if entry["host"] != host:
        others.add(entry["host"])
        continue
    epochs.add(entry["epoch"])
    system += entry["name"].startswith("system.")
    twice += entry["seq"] in seqs
    seqs.add(entry["seq"])
if not seqs:
    sys.exit(f"nothing of {host} arrived")
holes = max(seqs) - min(seqs) + 1 - len(seqs)
print(
    f"{len(seqs)} records of {host}, seq {min(seqs)} to {max(seqs)}, {holes} missing, {twice} twice, {system} of them"
    f" system.*, epochs {', '.join(sorted(map(str, epochs)))}"
)
if holes or twice or len(epochs) != 1 or not system or others:
    sys.exit(f"not as it should be; other hosts: {sorted(others)}")
