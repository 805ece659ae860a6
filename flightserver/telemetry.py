"""What the server tells about itself: log lines and metrics.

Log events are static strings; what varies travels beside them as `extra={...}` and is printed as fields, so that a line
can be found by its event and read by a machine::

    logger.info("statement finished", extra={"rows": 3, "seconds": 0.2})

What the server decides by itself, such as when to compact, is an event: a log line, and for a while a row of
`system.events`.

Metrics live in a registry of their own, one per `Metrics`, so that two servers in one process count apart. Gauges whose
value some component already knows are read from it when the metrics are asked for (`Gauge.set_function`); the
composition root connects them. They are asked for while storage hangs too, so none of them may ask storage.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, TextIO, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_log = logging.getLogger(__name__)

_EVENTS_KEPT = 10_000
"""Of a few hundred bytes each. The log has the older ones."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""Attributes that every log record has; any other came by `extra`. `taskName` exists since Python 3.12."""

_LATENCY_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""From a trivial call, which takes about 1 ms, to a long statement."""


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class JsonLines(logging.Formatter):
    """One JSON object per line: `time`, `level`, `logger`, `event`, then the fields, then `exception` if there is one.

    A field never replaces one of those: it is then printed with `field_` before its name.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        for name, value in _fields(record).items():
            line[f"field_{name}" if name in line else name] = value
        return json.dumps(line, ensure_ascii=False, default=str)


class PlainText(logging.Formatter):
    """`time level logger: event name=value ...`, for people; an exception follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        head = f"{_time(record)} {record.levelname:7} {record.name}: {record.getMessage()}"
        text = " ".join([head, *_assignments(record)])
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def _assignments(record: logging.LogRecord) -> Iterator[str]:
    for name, value in _fields(record).items():
        text = str(value)
        # Quoted where a reader could not tell the end of the value, and so that no value can forge a line.
        plain = text and text.isprintable() and not set(text) & set(' ="')
        yield f"{name}={text if plain else json.dumps(text, ensure_ascii=False)}"


def configure_logging(*, json_lines: bool, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send all log records of this process to one stream; what was configured before is replaced.

    Args:
        json_lines: JSON for machines, or plain text for people.
        level: Lowest level that is logged, such as "INFO". "DEBUG" is for what this package says, and not for the
            libraries that it uses, which would log requests with their signatures.
        stream: Where to; standard error if None.
    """
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonLines() if json_lines else PlainText())
    is_debug = level == "DEBUG"
    logging.basicConfig(handlers=[handler], level="INFO" if is_debug else level, force=True)
    logging.getLogger("flightserver").setLevel(level if is_debug else logging.NOTSET)


class Trouble(str):
    """A kind of event that somebody should look at: the log has it as a warning. Other kinds are plain text."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Event:
    """Something that the server did by itself.

    Attributes:
        time: When, UTC.
        kind: What, as a few words that never vary.
        bucket: Of the dataset that it is about, or empty.
        dataset: That it is about, or empty.
        detail: Numbers and names, as a JSON object.
    """

    time: datetime
    kind: str
    bucket: str
    dataset: str
    detail: str


_T = TypeVar("_T")


class Newest(Generic[_T]):
    """The newest entries of a kind of this process. All methods may be called from any thread.

    `_lock` guards the ring, which may not change while somebody copies it.

    Args:
        most: How many are kept.
    """

    def __init__(self, most: int) -> None:
        self._lock = threading.Lock()
        self._ring: deque[_T] = deque(maxlen=most)

    def add(self, entry: _T) -> None:
        """Keep an entry, in the place of the oldest when there are too many."""
        with self._lock:
            self._ring.append(entry)

    def entries(self) -> list[_T]:
        """The entries, oldest first."""
        with self._lock:
            return list(self._ring)


class Events(Newest[Event]):
    """The newest events of this process, which are logged as well."""

    def __init__(self) -> None:
        super().__init__(_EVENTS_KEPT)

    def record(self, kind: str, bucket: str = "", dataset: str = "", **detail: object) -> None:
        """Remember and log that something happened.

        Args:
            kind: A static text; a `Trouble` is logged as a warning.
            bucket: Of a dataset.
            dataset: Its name.
            detail: Values that JSON has, or that read well as text.
        """
        facts = json.dumps(detail, ensure_ascii=False, default=str)
        event = Event(datetime.now(UTC), str(kind), bucket, dataset, facts)
        self.add(event)
        level = logging.WARNING if isinstance(kind, Trouble) else logging.INFO
        _log.log(level, event.kind, extra={"bucket": bucket, "dataset": dataset, "detail": event.detail})


class ByBucket(Collector):
    """A metric with one value for each bucket, which some component knows: a bucket that it forgets has none any more.

    Args:
        family: Of what kind it is.
        name: Without what a kind appends.
        documentation: What it tells.
    """

    def __init__(self, family: type[GaugeMetricFamily | CounterMetricFamily], name: str, documentation: str) -> None:
        self._family = family
        self._name = name
        self._documentation = documentation
        self._read: Callable[[], Mapping[str, float]] = dict

    def set_function(self, read: Callable[[], Mapping[str, float]]) -> None:
        """Read the values from a component when the metrics are asked for."""
        self._read = read

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """What the registry asks for."""
        family = self._family(self._name, self._documentation, labels=["bucket"])
        for bucket, value in self._read().items():
            family.add_metric([bucket], value)
        yield family


class Metrics:
    """Every metric of one server, in a registry of its own.

    Attributes:
        registry: What the metrics are registered in, with those of the process, the garbage collector and the platform.
        calls: Finished RPCs by `method` (the RPC or action) and `code` ("OK" or a stable error code).
        call_seconds: How long RPCs took, by `method`, streaming included.
        streamed_rows: Rows sent to clients.
        streamed_bytes: Bytes of record batches sent to clients, before framing.
        running: Statements that hold a slot.
        waiting: Statements that wait for one.
        refused: Statements refused because too much was running.
        calls_in_flight: RPCs that have not ended.
        calls_refused: RPCs refused because too many were in flight.
        connections_closed: Connections closed because their clients had stopped reading.
        catalog_version: Number of the newest commit that this server has read.
        ingested_rows: Rows written to datasets.
        ingested_bytes: Bytes of Parquet files written.
        results: Results in the store of paged results.
        result_bytes: Bytes that they take on disk.
        bucket_reachable: 1 for each bucket that the last look reached, 0 for each that it didn't.
        rescued_reads: Files that `rescue` served in the place of a bucket.
        mirror_age: Seconds since all that is to be mirrored of a bucket was last found in `rescue`.
        mirror_failures: Datasets and vector indexes of a bucket that couldn't be mirrored, each time.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self.calls = Counter(
            "flightserver_calls", "Finished RPCs by method and result.", ["method", "code"], registry=registry
        )
        self.call_seconds = Histogram(
            "flightserver_call_seconds",
            "How long RPCs took, streaming included.",
            ["method"],
            buckets=_LATENCY_SECONDS,
            registry=registry,
        )
        self.streamed_rows = self._counter("streamed_rows", "Rows sent to clients.")
        self.streamed_bytes = self._counter("streamed_bytes", "Bytes of record batches sent to clients.")
        self.running = self._gauge("statements_running", "Statements that hold a slot.")
        self.waiting = self._gauge("statements_waiting", "Statements that wait for a slot.")
        self.refused = self._gauge("statements_refused", "Statements refused since the start: too much was running.")
        self.calls_in_flight = self._gauge("calls_in_flight", "RPCs that have not ended.")
        self.calls_refused = self._gauge("calls_refused", "RPCs refused since the start: too many were in flight.")
        self.connections_closed = self._gauge(
            "connections_closed", "Connections closed since the start: their clients had stopped reading."
        )
        self.catalog_version = self._gauge("catalog_version", "Number of the newest commit read.")
        self.ingested_rows = self._counter("ingested_rows", "Rows written to datasets.")
        self.ingested_bytes = self._counter("ingested_bytes", "Bytes of Parquet files written.")
        self.results = self._gauge("results", "Results in the store of paged results.")
        self.result_bytes = self._gauge("result_bytes", "Bytes of stored results on disk.")
        self.bucket_reachable = self._by_bucket(
            GaugeMetricFamily, "bucket_reachable", "Whether the last look at a bucket reached it: 1 or 0."
        )
        self.rescued_reads = self._by_bucket(
            CounterMetricFamily, "rescued_reads", "Files that were read from rescue in the place of this bucket."
        )
        self.mirror_age = self._by_bucket(
            GaugeMetricFamily,
            "mirror_age_seconds",
            "Seconds since all that is kept mirrored of a bucket was last found in rescue, or since the start.",
        )
        self.mirror_failures = self._by_bucket(
            CounterMetricFamily, "mirror_failures", "Datasets and indexes that could not be mirrored, each time."
        )

    def exposition(self) -> bytes:
        """All metrics in the text format of Prometheus, version 0.0.4."""
        return generate_latest(self.registry)

    def _by_bucket(
        self, family: type[GaugeMetricFamily | CounterMetricFamily], name: str, documentation: str
    ) -> ByBucket:
        metric = ByBucket(family, f"flightserver_{name}", documentation)
        self.registry.register(metric)
        return metric

    def _counter(self, name: str, documentation: str) -> Counter:
        return Counter(f"flightserver_{name}", documentation, registry=self.registry)

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(f"flightserver_{name}", documentation, registry=self.registry)
