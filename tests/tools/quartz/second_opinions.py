#!/usr/bin/env python3
"""What cron-schedule-triggers (PyPI) says to the cases of cases.py: the next three local times as if local were UTC, in seconds.

It knows no zones, so its answers are compared in UTC only. Usage: second_opinions.py < CASES
"""

import sys
from datetime import datetime, timezone
from signal import ITIMER_REAL, SIGALRM, setitimer, signal

from cstriggers.core.trigger import QuartzCron


class TooLong(Exception):
    pass


def ring(*_):
    raise TooLong


def answer(expression, start):
    begin = datetime.fromtimestamp(start, timezone.utc).replace(tzinfo=None)
    try:
        cron = QuartzCron(schedule_string=expression, start_date=begin.isoformat())
        times = [int(time.replace(tzinfo=timezone.utc).timestamp()) for time in cron.next_triggers(number_of_triggers=3)]
    except TooLong:
        return "slow"
    except Exception as error:
        return f"refused {type(error).__name__}: {error}".replace("\n", " ")
    return " ".join(map(str, times)) or "never"


def main():
    signal(SIGALRM, ring)
    for line in sys.stdin:
        expression, _, start = line.rstrip("\n").split("\t")
        setitimer(ITIMER_REAL, 5)
        print(answer(expression, int(start)))
        setitimer(ITIMER_REAL, 0)


if __name__ == "__main__":
    main()
