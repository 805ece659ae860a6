"""`flightserver query`: the same rows in every format."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import flightclient
import pyarrow as pa
import pytest
from clients.samples import all_types

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cli.conftest import Finished
    from conftest import RunningServer

PEOPLE = "SELECT * FROM (VALUES (1, 'Ada'), (2, NULL)) AS people (id, name) ORDER BY id"


def test_a_table_has_headings_numbers_to_the_right_and_the_count(command: Callable[..., Finished]) -> None:
    lines = [line.rstrip() for line in command("query", PEOPLE).out.splitlines() if line.strip()]

    assert lines == [" id   name", " ─────────", "  1   Ada", "  2   NULL", "2 rows"]


def test_a_table_shows_the_first_rows_and_says_so(command: Callable[..., Finished]) -> None:
    lines = command("query", "SELECT value FROM generate_series(1, 100000) ORDER BY value").out.splitlines()

    assert lines[-1] == "the first 100 rows; --format csv, json or arrow has them all"
    assert lines[-3].strip() == "100"


def test_control_characters_in_data_do_not_reach_the_terminal(command: Callable[..., Finished]) -> None:
    out = command("query", "SELECT chr(27) || '[31m' AS red").out

    assert "\x1b" not in out
    assert "\\x1b[31m" in out


def test_csv_has_a_header_and_every_row(command: Callable[..., Finished]) -> None:
    assert command("query", PEOPLE, "--format", "csv").out == '"id","name"\n1,"Ada"\n2,\n'


def test_json_is_an_array_with_a_row_a_line(command: Callable[..., Finished]) -> None:
    assert (
        command("query", PEOPLE, "--format", "json").out == '[\n{"id": 1, "name": "Ada"},\n{"id": 2, "name": null}\n]\n'
    )


def test_json_without_rows_is_an_empty_array(command: Callable[..., Finished]) -> None:
    assert json.loads(command("query", "SELECT 1 WHERE false", "--format", "json").out) == []


@pytest.fixture
def things(server: RunningServer) -> str:
    """A table with a column of every type."""
    with flightclient.connect(server.uri) as client:
        client.ingest(all_types(), "things")
    return "SELECT * FROM things ORDER BY id"


def test_json_keeps_every_type(command: Callable[..., Finished], things: str) -> None:
    first, second, third = json.loads(command("query", things, "--format", "json").out)

    assert (first["int64"], second["uint64"]) == (-(2**63), 2**64 - 1)
    assert (first["decimal"], first["wide_decimal"]) == ("12345678.9012", "9" * 38)
    assert (first["timestamp_utc"], second["timestamp_ns"]) == (
        "1969-07-20T20:17:40.123456Z",
        "1938-04-24T22:13:20.000000001",
    )
    assert (first["date"], second["time"]) == ("1969-12-31", "23:59:59.999999")
    assert (second["binary"], second["string"]) == ("AP8n", 'it\'s "quoted" \x00 🚀\n')
    assert (first["list"], second["list_of_strings"], first["struct"]) == ([1, None, 3], [None], {"x": 1, "y": "one"})
    assert {name: value for name, value in third.items() if value is not None} == {"id": 3}


def test_json_has_no_numbers_that_json_does_not_have(command: Callable[..., Finished]) -> None:
    out = command("query", "SELECT 'NaN'::DOUBLE AS a, make_array('Infinity'::DOUBLE) AS b", "--format", "json").out

    assert json.loads(out) == [{"a": None, "b": [None]}]


def test_csv_and_table_take_every_type(command: Callable[..., Finished], things: str) -> None:
    written = command("query", things, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(written.out.replace("\0", ""))))

    assert (rows[0]["list"], rows[0]["struct"], rows[1]["binary"]) == ("[1, null, 3]", '{"x": 1, "y": "one"}', "AP8n")
    assert command("query", things).status == 0


def test_arrow_is_a_stream_in_a_file(command: Callable[..., Finished], things: str, tmp_path: Path) -> None:
    path = tmp_path / "things.arrows"

    assert command("query", things, "--format", "arrow", "--output", str(path)).status == 0

    assert pa.ipc.open_stream(path.read_bytes()).read_all().equals(all_types())


@pytest.mark.parametrize("name", ["table", "csv", "json"])
def test_output_goes_to_a_file_instead(command: Callable[..., Finished], tmp_path: Path, name: str) -> None:
    path = tmp_path / "people"

    finished = command("query", PEOPLE, "--format", name, "--output", str(path))

    assert (finished.status, finished.out) == (0, "")
    assert path.read_text() == command("query", PEOPLE, "--format", name).out


def test_a_file_that_cannot_be_written_is_named(command: Callable[..., Finished], tmp_path: Path) -> None:
    finished = command("query", PEOPLE, "--output", str(tmp_path / "nowhere" / "people"))

    assert finished.status == 1
    assert "can't be written: No such file or directory" in finished.err


def test_as_of_reads_an_earlier_version(command: Callable[..., Finished], server: RunningServer) -> None:
    with flightclient.connect(server.uri) as client:
        first = client.ingest(pa.table({"n": [1]}), "t")
        client.ingest(pa.table({"n": [2]}), "t")

    out = command("query", "SELECT count(*) AS n FROM t", "--as-of", str(first.version), "--format", "json").out

    assert json.loads(out) == [{"n": 1}]


def test_a_statement_that_changes_data_prints_its_count(command: Callable[..., Finished]) -> None:
    out = command("query", "CREATE TABLE t AS SELECT 1 AS n", "--format", "csv").out

    assert out == '"count"\n1\n'
