"""What Prometheus' own client library exposes, and what its own parser makes of that.

exposition.py FORMAT FILE: writes a text in FORMAT (prometheus or openmetrics) to FILE, and the records expected of it
as JSON to standard output.
"""

import json
import math
import sys

from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Summary, exposition
from prometheus_client import parser
from prometheus_client.core import GaugeHistogramMetricFamily, GaugeMetricFamily, UnknownMetricFamily
from prometheus_client.openmetrics import exposition as open_exposition
from prometheus_client.openmetrics import parser as open_parser


class Others:
    """What the library's own instruments do not make: times, and the rarer types."""

    def collect(self):
        timed = GaugeMetricFamily("timed_bytes", "With a time.", labels=["disk"], unit="bytes")
        timed.add_metric(["sda"], 5, timestamp=1520879607.789)
        timed.add_metric([""], -0.25, timestamp=-3982)
        yield timed
        unknown = UnknownMetricFamily("odd", "Of no type.", labels=["path"])
        unknown.add_metric(["C:\\new\\file \"x\"\nsecond, line} # {a=\"b\"} 1"], 1e-300)
        unknown.add_metric(["é \t"], math.nan)
        unknown.add_metric(["more"], -math.inf)
        yield unknown
        sizes = GaugeHistogramMetricFamily("queue", "Of now.")
        sizes.add_metric([], [("0.00001", 1), ("1.0", 2), ("+Inf", 5)], 12.5)
        yield sizes


def registry():
    made = CollectorRegistry()
    counter = Counter("http_requests", "Requests.", ["method", "code"], registry=made)
    counter.labels("post", "200").inc(1027, exemplar={"trace_id": "KOO5S4vxi0o"})
    counter.labels("get", "400").inc(3)
    Gauge("temperature", "With a \\ and\na line feed.", registry=made).set(-12.75)
    histogram = Histogram("latency_seconds", "Latency.", ["path"], registry=made, buckets=(0.005, 0.5, 1, 2.5, 1e6))
    for value in (0.001, 0.7, 3, 5e6):
        histogram.labels("/a").observe(value)
    histogram.labels("/b").observe(0.7, exemplar={"x": "y"})
    Summary("rpc", "Calls.", registry=made).observe(4.5)
    Info("build", "Version.", registry=made).info({"version": "1.2", "branch": "main"})
    Enum("mode", "State.", ["cpu"], registry=made, states=["idle", "busy"]).labels("0").state("busy")
    made.register(Others())
    return made


def field(family, sample, labels):
    for suffix, name in {"_count": "count", "_gcount": "count", "_sum": "sum", "_gsum": "sum", "_created": "created"}.items():
        if family.type in ("histogram", "gaugehistogram", "summary", "counter") and sample.name == family.name + suffix:
            return name
    bound = {"histogram": "le", "gaugehistogram": "le", "summary": "quantile"}.get(family.type)
    if bound:
        value = float(labels.pop(bound))
        return "+Inf" if math.isinf(value) else f"{value:g}"
    if family.type == "stateset":
        return labels.pop(family.name)
    return {"counter": "counter", "gauge": "gauge"}.get(family.type, "value")


def records(families, is_open):
    found = {}
    for family in families:
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if value}
            key = field(family, sample, labels)
            if family.unit:
                labels.setdefault("unit", family.unit)
            # In the old format the family of a counter is called like its sample.
            name = sample.name if family.type == "counter" and not is_open else family.name
            time = None if sample.timestamp is None else round(float(sample.timestamp) * 1000)
            if math.isfinite(sample.value):
                value = bool(sample.value) if family.type == "stateset" else float(sample.value)
                found.setdefault((name, tuple(sorted(labels.items())), time), {})[key] = value
    return [
        {"name": name, "tags": {k: replaced(v) for k, v in tags}, "ts": time, "fields": fields}
        for (name, tags, time), fields in found.items()
    ]


def replaced(text):
    """Control characters do not survive in tags."""
    return "".join("\ufffd" if ord(c) < 32 else c for c in text)


def main():
    _, form, path = sys.argv
    is_open = form == "openmetrics"
    text = (open_exposition if is_open else exposition).generate_latest(registry()).decode()
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
    read = open_parser if is_open else parser
    json.dump(records(read.text_string_to_metric_families(text), is_open), sys.stdout)


main()
