#!/usr/bin/env python3
"""What pyawscron (PyPI) says to the cases of cases.py: the next three times in seconds.

It speaks the dialect of AWS, which is Quartz without the field of seconds, in UTC: other cases are answered `outside`. It
can search for ever: then the answer is `slow`. Usage: second_opinions.py < CASES
"""

import sys
from datetime import datetime, timezone
from signal import ITIMER_REAL, SIGALRM, setitimer, signal

from pyawscron import AWSCron

PATIENCE_S = 1


def ring(*_):
    raise TimeoutError


def answer(expression, zone, start):
    fields = expression.split()
    if zone != "UTC" or fields[0] != "0" or len(fields) not in (6, 7):
        return "outside"
    year = fields[6] if len(fields) == 7 else "*"
    at, times = datetime.fromtimestamp(start, timezone.utc), []
    try:
        cron = AWSCron(" ".join([*fields[1:6], year]))
        while len(times) < 3 and (at := cron.occurrence(at).next()) is not None:
            times.append(int(at.timestamp()))
    except TimeoutError:
        return "slow"
    except Exception as error:
        return f"refused {type(error).__name__}: {error}".replace("\n", " ")
    return " ".join(map(str, times)) or "never"


def main():
    signal(SIGALRM, ring)
    for line in sys.stdin:
        expression, zone, start = line.rstrip("\n").split("\t")
        setitimer(ITIMER_REAL, PATIENCE_S)
        said = answer(expression, zone, int(start))
        setitimer(ITIMER_REAL, 0)
        print(said)


if __name__ == "__main__":
    main()
