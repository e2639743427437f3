#!/usr/bin/env python3
"""Random Quartz expressions, zones and instants: `expression TAB zone TAB from`, one a line, the same for one seed.

Half of the instants lie within two days of a change of the zone's clock. Some expressions are wrong on purpose.
Usage: cases.py SEED COUNT
"""

import random
import sys
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]
MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()
DAYS = "SUN MON TUE WED THU FRI SAT".split()
FIRST, LAST = datetime(2024, 1, 1, tzinfo=timezone.utc), datetime(2030, 1, 1, tzinfo=timezone.utc)


def changes(zone):
    """The seconds at which the offset of a zone changes, to the hour."""
    found, at, info = [], FIRST, ZoneInfo(zone)
    while at < LAST:
        then = at + timedelta(hours=1)
        if at.astimezone(info).utcoffset() != then.astimezone(info).utcoffset():
            found.append(int(then.timestamp()))
        at = then
    return found


def numbers(rng, low, high, names=None, wraps=True):
    """One field in one of the forms that all numeric fields have."""
    def value(n):
        return names[n - low] if names and rng.random() < 0.4 else str(n)

    def one():
        return rng.randint(low, high)

    def span():
        a, b = one(), one()
        return (a, b) if wraps and rng.random() < 0.15 else (min(a, b), max(a, b))

    form = rng.random()
    size = high - low + 1
    if form < 0.30:
        return value(one())
    if form < 0.45:
        return "*"
    if form < 0.65:
        start = rng.choice(["*", str(low), str(low), str(one())])
        usual = [step for step in (1, 2, 5, 10, 15, 20, 30) if step < size]
        return f"{start}/{rng.choice([*usual, rng.randint(1, size - 1)])}"
    if form < 0.78:
        a, b = span()
        named = names and rng.random() < 0.4
        return f"{names[a - low]}-{names[b - low]}" if named else f"{a}-{b}"
    if form < 0.86:
        a, b = span()
        return f"{a}-{b}/{rng.randint(1, min(7, size - 1))}"
    return ",".join(value(one()) for _ in range(rng.randint(2, 4)))


def month_days(rng):
    form = rng.random()
    if form < 0.55:
        return numbers(rng, 1, 31)
    return rng.choice(["L", "LW", f"L-{rng.randint(1, 30)}", f"{rng.randint(1, 31)}W", f"L-{rng.randint(1, 5)}W"])


def week_days(rng):
    form = rng.random()
    if form < 0.6:
        return numbers(rng, 1, 7, DAYS)
    day = rng.choice([str(rng.randint(1, 7)), rng.choice(DAYS)])
    return rng.choice([f"{day}L", f"{day}#{rng.randint(1, 5)}", "L", f"{day}#1", f"{day}#{rng.randint(1, 4)}"])


def good(rng):
    second = rng.choice(["0", "0", numbers(rng, 0, 59)])
    minute = numbers(rng, 0, 59)
    # Near the hours at which clocks change, often.
    hour = rng.choice([numbers(rng, 0, 23), numbers(rng, 0, 23), str(rng.randint(0, 3)), "*"])
    days, week = rng.choice([(month_days(rng), "?"), ("?", week_days(rng)), ("*", "?"), ("?", "*")])
    month = "*" if rng.random() < 0.6 else numbers(rng, 1, 12, MONTHS)
    year = rng.choice([""] * 8 + [" *", f" {rng.randint(2020, 2040)}", " 2024-2040/3"])
    return f"{second} {minute} {hour} {days} {month} {week}{year}"


def spoilt(rng):
    """A good expression with one thing wrong, or of doubtful sense."""
    fields = good(rng).split()
    at = rng.randrange(len(fields))
    fields[at] = rng.choice([
        "60", "0/0", "0/60", "0/61", "0/100", "1,,2", ",", "-5", "5-", "1-2-3", "?", "X", "0/", "/5", "*/5", "32", "99",
        "1.5", "L", "W", "LW", "15W", "1#2", "6#6", "8", "*,5", "5,*", "7L", "L-31", "FRI", "JAN", "MON#2,FRI", "3#1,5", "1-5W", "C",
    ])
    if rng.random() < 0.1:
        fields = fields[: rng.randint(1, 5)]
    return " ".join(fields)


def main():
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    rng = random.Random(seed)
    jumps = {zone: changes(zone) for zone in ZONES}
    for _ in range(count):
        zone = rng.choice(ZONES)
        start = rng.randint(int(FIRST.timestamp()), int(LAST.timestamp()))
        if jumps[zone] and rng.random() < 0.6:
            start = rng.choice(jumps[zone]) + rng.randint(-2 * 86400, 2 * 86400)
        print(f"{spoilt(rng) if rng.random() < 0.12 else good(rng)}\t{zone}\t{start}")


if __name__ == "__main__":
    main()
