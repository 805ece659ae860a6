"""Log lines and metrics, as machines and people read them."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from flightserver.telemetry import Metrics, configure_logging

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger("flightserver.test")


@pytest.fixture(autouse=True)
def _logging_is_restored() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    root.handlers = []
    yield
    root.level, root.handlers = level, handlers


@pytest.fixture
def json_log() -> io.StringIO:
    stream = io.StringIO()
    configure_logging(json_lines=True, stream=stream)
    return stream


@pytest.fixture
def text_log() -> io.StringIO:
    stream = io.StringIO()
    configure_logging(json_lines=False, stream=stream)
    return stream


def only_line(stream: io.StringIO) -> dict[str, Any]:
    [text] = stream.getvalue().splitlines()
    line: dict[str, Any] = json.loads(text)
    return line


def test_a_json_line_has_the_event_and_its_fields(json_log: io.StringIO) -> None:
    logger.info("statement finished", extra={"rows": 3, "user": "ada"})
    line = only_line(json_log)
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "flightserver.test",
        "event": "statement finished",
        "rows": 3,
        "user": "ada",
    }


def test_a_field_never_replaces_what_every_line_has(json_log: io.StringIO) -> None:
    logger.info("real", extra={"event": "forged", "level": "none"})
    line = only_line(json_log)
    assert (line["event"], line["level"]) == ("real", "info")
    assert (line["field_event"], line["field_level"]) == ("forged", "none")


def test_values_that_json_does_not_know_are_written_as_text(json_log: io.StringIO) -> None:
    logger.info("odd", extra={"value": {1}, "name_of": b"x"})
    assert only_line(json_log)["value"] == "{1}"


def test_an_exception_stays_on_its_json_line(json_log: io.StringIO) -> None:
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        logger.exception("statement failed")
    assert only_line(json_log)["exception"].endswith("ZeroDivisionError: division by zero")


def test_plain_text_shows_fields_after_the_event(text_log: io.StringIO) -> None:
    logger.warning("open to all", extra={"port": 31337, "hint": "add a user", "none": ""})
    [line] = text_log.getvalue().splitlines()
    assert line.split(" ", 1)[1] == 'WARNING flightserver.test: open to all port=31337 hint="add a user" none=""'


def test_a_value_can_not_forge_a_line(text_log: io.StringIO) -> None:
    logger.info("statement", extra={"sql": "SELECT 1\n2026-01-01 INFO forged"})
    [line] = text_log.getvalue().splitlines()
    assert line.endswith('sql="SELECT 1\\n2026-01-01 INFO forged"')


def test_an_exception_follows_its_plain_line(text_log: io.StringIO) -> None:
    logger.error("failed", exc_info=ValueError("why"))
    assert text_log.getvalue().splitlines()[-1] == "ValueError: why"


def test_debugging_is_of_this_package_and_not_of_those_that_sign_requests() -> None:
    stream = io.StringIO()
    configure_logging(json_lines=True, level="DEBUG", stream=stream)
    logger.debug("said")
    logging.getLogger("botocore.auth").debug("a signature")
    configure_logging(json_lines=True, stream=stream)
    logger.debug("not said any more")

    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["said"]


def test_lines_below_the_level_are_not_written() -> None:
    stream = io.StringIO()
    configure_logging(json_lines=True, level="WARNING", stream=stream)
    logger.info("quiet")
    assert stream.getvalue() == ""


def test_configuring_again_replaces_what_was_there() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logging(json_lines=True, stream=first)
    configure_logging(json_lines=True, stream=second)
    logger.info("once")
    assert (first.getvalue(), second.getvalue().count("once")) == ("", 1)


def test_without_a_stream_lines_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(json_lines=False)
    logger.info("hello")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("flightserver.test: hello\n")


def samples(metrics: Metrics) -> dict[str, float]:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {
        sample.name + "".join(f" {label}={value}" for label, value in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_metrics_are_read_as_prometheus_reads_them() -> None:
    metrics = Metrics()
    metrics.calls.labels(method="DoGet", code="OK").inc()
    metrics.calls.labels(method="DoGet", code="FS-1004").inc(2)
    metrics.call_seconds.labels(method="DoGet").observe(0.02)
    metrics.streamed_rows.inc(1000)
    metrics.ingested_rows.inc()
    found = samples(metrics)
    assert found["flightserver_calls_total code=OK method=DoGet"] == 1
    assert found["flightserver_calls_total code=FS-1004 method=DoGet"] == 2
    assert found["flightserver_call_seconds_bucket le=0.01 method=DoGet"] == 0
    assert found["flightserver_call_seconds_bucket le=0.025 method=DoGet"] == 1
    assert found["flightserver_streamed_rows_total"] == 1000
    assert found["flightserver_ingested_rows_total"] == 1
    assert found["process_resident_memory_bytes"] > 0


def test_gauges_are_read_from_their_component_when_metrics_are_asked_for() -> None:
    metrics = Metrics()
    running: list[str] = []
    metrics.running.set_function(lambda: len(running))
    running.extend(["a", "b"])
    assert samples(metrics)["flightserver_statements_running"] == 2
    running.clear()
    assert samples(metrics)["flightserver_statements_running"] == 0


def test_a_metric_by_bucket_has_the_buckets_that_its_component_has_now() -> None:
    metrics = Metrics()
    reachable = {"primary": 1.0, 'odd "name"': 0.0}
    metrics.bucket_reachable.set_function(lambda: reachable)
    metrics.rescued_reads.set_function(lambda: {"cloud": 3})
    found = samples(metrics)
    assert found["flightserver_bucket_reachable bucket=primary"] == 1
    assert found['flightserver_bucket_reachable bucket=odd "name"'] == 0
    assert found["flightserver_rescued_reads_total bucket=cloud"] == 3
    del reachable['odd "name"']
    assert [name for name in samples(metrics) if "bucket_reachable" in name] == [
        "flightserver_bucket_reachable bucket=primary"
    ]


def test_two_servers_in_one_process_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.streamed_rows.inc(5)
    assert samples(first)["flightserver_streamed_rows_total"] == 5
    assert samples(second)["flightserver_streamed_rows_total"] == 0
