"""Names and patterns of strangers in metadata commands, through a real server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flightserver.flight.sql.protocol import SQL_PACKAGE, message_class, pack

if TYPE_CHECKING:
    from conftest import RunningServer

NAMES = [
    "people",
    "People",
    "pe.ople",
    "a_b",
    "axb",
    "50%",
    "5000",
    'quo"te',
    "apo'strophe",
    "Grüße",
    "日本語",
    "'; DROP TABLE people; --",
    "' OR '1'='1",
    "[a-z].*",
    "$1",
    "semi;colon",
    "with space",
]
"""Names of tables, and of a column in each."""


@pytest.fixture
def named(server: RunningServer, flight_client: fl.FlightClient) -> fl.FlightClient:
    """A client of a server that has a table of each name, with a column of that name."""
    for name in NAMES:
        quoted = name.replace('"', '""')
        _read(flight_client, f'CREATE TABLE "{quoted}" AS SELECT 1 AS "{quoted}"'.encode())
    assert len(server.lakehouse.catalog.snapshot().datasets) == len(NAMES)
    return flight_client


def _read(client: fl.FlightClient, command: bytes) -> pa.Table:
    info = client.get_flight_info(fl.FlightDescriptor.for_command(command))
    return client.do_get(info.endpoints[0].ticket).read_all()


def _tables(client: fl.FlightClient, **filters: object) -> pa.Table:
    return _read(client, pack(message_class(f"{SQL_PACKAGE}.CommandGetTables")(**filters)))


def _like(pattern: str) -> re.Pattern[str]:
    """What a LIKE pattern means, as a regular expression."""
    parts = re.findall(r"\\.|.|\\", pattern or "%", re.DOTALL)
    meaning = {"%": ".*", "_": "."}
    return re.compile("".join(meaning.get(part) or re.escape(part[-1]) for part in parts), re.DOTALL)


_PATTERNS = st.one_of(
    st.sampled_from(["", "%", "_", "\\", "\\%", "\\_", "\\\\", "%%", "' OR 1=1 --", '"', "%'%", "%.%", ".*"]),
    st.sampled_from(NAMES).map(lambda name: re.sub(r"([\\%_])", r"\\\1", name)),
    st.text("pePa_b%.\\'\"ü日5x[]", max_size=8),
    st.builds(lambda name, cut: f"%{name[cut:]}", st.sampled_from(NAMES), st.integers(0, 5)),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(pattern=_PATTERNS)
def test_a_pattern_finds_the_tables_that_like_would_find(named: fl.FlightClient, pattern: str) -> None:
    found = _tables(named, db_schema_filter_pattern="public", table_name_filter_pattern=pattern)

    assert set(found.column("table_name").to_pylist()) == {name for name in NAMES if _like(pattern).fullmatch(name)}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(pattern=_PATTERNS)
def test_a_pattern_finds_the_schemas_that_like_would_find(flight_client: fl.FlightClient, pattern: str) -> None:
    command = message_class(f"{SQL_PACKAGE}.CommandGetDbSchemas")
    everything = _read(flight_client, pack(command())).column("db_schema_name").to_pylist()

    found = _read(flight_client, pack(command(db_schema_filter_pattern=pattern)))

    assert found.column("db_schema_name").to_pylist() == [name for name in everything if _like(pattern).fullmatch(name)]


@pytest.mark.parametrize("pattern", [None, "", "%", "%%"])
def test_no_pattern_an_empty_one_and_percent_mean_all(named: fl.FlightClient, pattern: str | None) -> None:
    filters = {} if pattern is None else {"db_schema_filter_pattern": pattern, "table_name_filter_pattern": pattern}

    assert set(NAMES) <= set(_tables(named, **filters).column("table_name").to_pylist())


def test_names_come_back_as_they_were_given(named: fl.FlightClient) -> None:
    found = _tables(named, db_schema_filter_pattern="public", include_schema=True)

    schemas = zip(found.column("table_name").to_pylist(), found.column("table_schema").to_pylist(), strict=True)
    columns = {name: pa.ipc.read_schema(pa.py_buffer(schema)).names for name, schema in schemas}
    assert columns == {name: [name] for name in NAMES}


@pytest.mark.parametrize("name", ["%", "peopl_", "' OR '1'='1' --", 'people"; DROP TABLE people; --'])
def test_exact_names_are_no_patterns_and_no_sql(named: fl.FlightClient, name: str) -> None:
    for kind in ("PrimaryKeys", "ExportedKeys", "ImportedKeys"):
        command = message_class(f"{SQL_PACKAGE}.CommandGet{kind}")(table=name)
        try:
            assert _read(named, pack(command)).num_rows == 0
        except pa.lib.ArrowKeyError as error:
            assert "FS-1004" in str(error)  # noqa: PT017  # either answer is right; what counts is that nothing matched
    assert _tables(named, catalog=name).num_rows == 0
    assert len(NAMES) <= _tables(named).num_rows
