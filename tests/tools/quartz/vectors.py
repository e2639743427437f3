#!/usr/bin/env python3
"""Cases and Quartz's answers as one vector file: times as seconds after the case's instant, refusals without their words.

Usage: vectors.py CASES ANSWERS HEAD..., to standard output; HEAD are words of the first line, a comment.
"""

import sys


def short(start, answer):
    word = answer.split(" ", 1)[0]
    if word in ("refused", "failed", "never"):
        return word
    return " ".join(str(int(time) - start) for time in answer.split())


def main():
    with open(sys.argv[1]) as cases, open(sys.argv[2]) as answers:
        print("#", *sys.argv[3:])
        for case, answer in zip(cases, answers, strict=True):
            expression, zone, start = case.rstrip("\n").split("\t")
            print(expression, zone, start, short(int(start), answer.rstrip("\n")), sep="\t")


if __name__ == "__main__":
    main()
