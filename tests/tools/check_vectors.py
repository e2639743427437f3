"""Usage: check_vectors.py <directory>

Decodes every *.msgpack with Python's msgpack library and compares it, kinds included, with the *.json of its name.
What is in a *.zst must be the file that it is named after.
"""
import json
import pathlib
import sys

import msgpack
import zstandard


def difference(one, other, path="$"):
    """Where two values differ, or None. 1, 1.0 and True are three things."""
    if type(one) is not type(other):
        return f"{path}: {one!r} is not of the kind of {other!r}"
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return f"{path}: keys {sorted(one)} and {sorted(other)}"
        found = (difference(one[key], other[key], f"{path}.{key}") for key in one)
        return next((where for where in found if where), None)
    if isinstance(one, list):
        if len(one) != len(other):
            return f"{path}: {len(one)} and {len(other)} elements"
        found = (difference(a, b, f"{path}[{at}]") for at, (a, b) in enumerate(zip(one, other)))
        return next((where for where in found if where), None)
    return None if one == other else f"{path}: {one!r} and {other!r}"


def unique(pairs):
    keys = [key for key, _ in pairs]
    assert len(keys) == len(set(keys)), f"a key occurs twice: {keys}"
    return dict(pairs)


def main(directory):
    files = sorted(pathlib.Path(directory).glob("*.msgpack"))
    problems = []
    for file in files:
        binary = msgpack.unpackb(file.read_bytes(), raw=False, strict_map_key=True, object_pairs_hook=unique)
        text = json.loads(file.with_suffix(".json").read_text(), object_pairs_hook=unique)
        where = difference(binary, text)
        if where:
            problems.append(f"{file.name}: {where}")
    for frame in sorted(pathlib.Path(directory).glob("*.zst")):
        if zstandard.decompress(frame.read_bytes()) != frame.with_suffix("").read_bytes():
            problems.append(f"{frame.name}: holds another message")
    if problems:
        sys.exit("\n".join(problems))
    print(f"{len(files)} vectors agree")


main(sys.argv[1])
