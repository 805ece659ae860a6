"""polars over ADBC, unmodified: `read_database`, `read_database_uri` and `write_database`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import adbc_driver_flightsql.dbapi as flightsql
import polars as pl
import pytest
from clients.samples import all_types, more_people, people
from polars.testing import assert_frame_equal

if TYPE_CHECKING:
    from conftest import RunningServer

pytestmark = pytest.mark.client("polars")

SELECT = "SELECT * FROM people ORDER BY id"


def frame(table: Any) -> pl.DataFrame:
    """A table as polars holds it."""
    converted = pl.from_arrow(table)
    assert isinstance(converted, pl.DataFrame)
    return converted


@pytest.fixture
def with_people(connection: Any) -> Any:
    """A connection, when the table `people` is there."""
    assert frame(people()).write_database("people", connection) == people().num_rows
    return connection


@pytest.mark.feature("queries", "bulk ingest")
def test_what_write_database_writes_read_database_reads(with_people: Any) -> None:
    assert_frame_equal(pl.read_database(SELECT, with_people), frame(people()))


@pytest.mark.feature("every type")
def test_read_database_reads_every_type(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.adbc_ingest("things", all_types(), mode="create")

    assert_frame_equal(pl.read_database("SELECT * FROM things ORDER BY id", connection), frame(all_types()))


@pytest.mark.feature("parameters")
def test_read_database_takes_parameters(with_people: Any) -> None:
    sql = "SELECT * FROM people WHERE id >= ? AND name = ?"

    found = pl.read_database(sql, with_people, execute_options={"parameters": [2, "Łucja 🚀"]})

    assert_frame_equal(found, frame(people().slice(3, 1)))


@pytest.mark.feature("large results")
def test_read_database_reads_in_batches(connection: Any) -> None:
    sql = "SELECT value FROM generate_series(1, 100000) ORDER BY value"

    batches = list(pl.read_database(sql, connection, iter_batches=True, batch_size=10_000))

    assert len(batches) > 1
    assert_frame_equal(pl.concat(batches), pl.DataFrame({"value": range(1, 100_001)}))


@pytest.mark.filterwarnings("ignore:Cannot disable autocommit")  # polars offers no way to ask for autocommit
def test_read_database_uri_needs_only_an_address(with_people: Any, server: RunningServer) -> None:
    uri = server.uri.replace("grpc://", "flightsql://") + "?transport=tcp"

    found = pl.read_database_uri(SELECT, uri, engine="adbc")

    assert_frame_equal(found, pl.read_database(SELECT, with_people))


def test_write_database_fails_when_the_table_exists(with_people: Any) -> None:
    with pytest.raises(flightsql.Error, match="exists"):
        frame(more_people()).write_database("people", with_people, if_table_exists="fail")

    assert_frame_equal(pl.read_database(SELECT, with_people), frame(people()))


@pytest.mark.feature("bulk ingest")
def test_write_database_appends(with_people: Any) -> None:
    frame(more_people()).write_database("people", with_people, if_table_exists="append")

    expected = pl.concat([frame(people()), frame(more_people())])
    assert_frame_equal(pl.read_database(SELECT, with_people), expected)


def test_write_database_appends_to_a_table_that_is_missing(connection: Any) -> None:
    frame(people()).write_database("people", connection, if_table_exists="append")

    assert_frame_equal(pl.read_database(SELECT, connection), frame(people()))


@pytest.mark.feature("bulk ingest")
def test_write_database_replaces_the_table_and_its_columns(with_people: Any) -> None:
    other = pl.DataFrame({"id": [1, 2], "born": [1815, 1906]})

    other.write_database("people", with_people, if_table_exists="replace")

    assert_frame_equal(pl.read_database(SELECT, with_people), other)


@pytest.mark.parametrize("name", ["public.people", "primary.people", "lakehouse.public.people", '"people"'])
def test_write_database_takes_qualified_names(connection: Any, name: str) -> None:
    frame(people()).write_database(name, connection)

    assert_frame_equal(pl.read_database(SELECT, connection), frame(people()))


def test_categories_arrive_as_text(connection: Any) -> None:
    sent = pl.DataFrame({"id": [1, 2], "kind": pl.Series(["a", "b"], dtype=pl.Categorical)})

    sent.write_database("things", connection)

    found = pl.read_database("SELECT * FROM things ORDER BY id", connection)
    assert_frame_equal(found, sent.with_columns(pl.col("kind").cast(pl.String)))
