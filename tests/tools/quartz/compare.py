#!/usr/bin/env python3
"""How far others agree with Quartz: compare.py CASES QUARTZ NAME=ANSWERS..

Counts cases by what both said; what one calls `outside` of its dialect is none. A case with times on both sides that differ is listed, the first few of each.
"""

import sys
from collections import Counter


def word(answer):
    return answer.split(" ", 1)[0] if answer[:1].isalpha() else "times"


def lines(path):
    with open(path) as file:
        return [line.rstrip("\n") for line in file]


def main():
    cases, quartz = lines(sys.argv[1]), lines(sys.argv[2])
    for argument in sys.argv[3:]:
        name, path = argument.split("=", 1)
        counts, differ = Counter(), []
        for case, theirs, answer in zip(cases, quartz, lines(path), strict=True):
            if answer == "outside":
                continue
            both = word(theirs), word(answer)
            same = theirs == answer or (both[0] == both[1] and both[0] != "times")
            counts["agree" if same else f"Quartz {both[0]}, {name} {both[1]}"] += 1
            if not same and both == ("times", "times"):
                differ.append(f"  {case}\n    Quartz {theirs}\n    {name} {answer}")
        print(f"{name}: {sum(counts.values())} cases")
        for what, count in counts.most_common():
            print(f"{count:7} {what}")
        print(*differ[:5], sep="\n")


if __name__ == "__main__":
    main()
