"""The ADBC Flight SQL driver, unmodified: statements, results and errors."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow as pa
import pytest
from adbc_driver_manager import AdbcStatusCode
from clients.samples import create_empty, people

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import RunningServer

pytestmark = pytest.mark.client("ADBC")

ENDLESS = "SELECT a.value FROM generate_series(1, 1000000) a CROSS JOIN generate_series(1, 1000000) b"
"""10^12 rows, none of which costs much: it runs until somebody stops it."""


@pytest.fixture
def with_people(cursor: Any) -> Any:
    """A cursor, when the table `people` is there."""
    cursor.adbc_ingest("people", people(), mode="create")
    return cursor


@pytest.mark.feature("queries")
@pytest.mark.parametrize(
    "fetch",
    [
        lambda cursor: cursor.fetch_arrow_table(),
        lambda cursor: cursor.fetch_record_batch().read_all(),
        lambda cursor: pa.table(cursor.fetch_arrow()),
    ],
    ids=["fetch_arrow_table", "fetch_record_batch", "fetch_arrow"],
)
def test_each_way_to_fetch_arrow_gives_the_whole_table(with_people: Any, fetch: Callable[[Any], pa.Table]) -> None:
    with_people.execute("SELECT * FROM people ORDER BY id")

    assert fetch(with_people).equals(people())


@pytest.mark.feature("queries")
def test_rows_are_fetched_one_by_one_in_groups_and_all_at_once(with_people: Any) -> None:
    with_people.execute("SELECT * FROM people ORDER BY id")

    fetched = [with_people.fetchone(), *with_people.fetchmany(2), *with_people.fetchall(), with_people.fetchone()]

    assert fetched == [*(tuple(row.values()) for row in people().to_pylist()), None]


def test_a_cursor_describes_its_columns(with_people: Any) -> None:
    with_people.execute("SELECT id, name, score > 1 AS good FROM people")

    described = [(column[0], column[1]) for column in with_people.description]

    assert described == [("id", pa.int64()), ("name", pa.utf8()), ("good", pa.bool_())]


@pytest.mark.feature("queries")
def test_an_empty_result_has_its_columns(with_people: Any) -> None:
    with_people.execute("SELECT * FROM people WHERE id < 0")

    assert with_people.fetch_arrow_table().equals(people().schema.empty_table())


@pytest.mark.feature("large results")
def test_a_result_of_many_batches_arrives_whole_and_in_order(cursor: Any) -> None:
    cursor.execute("SELECT value, value * 2 AS twice FROM generate_series(1, 300000) ORDER BY value")

    fetched = cursor.fetch_arrow_table()

    values = pa.array(range(1, 300_001), pa.int64())
    assert fetched["value"].combine_chunks().equals(values)
    assert fetched["twice"].combine_chunks().equals(pa.array(range(2, 600_001, 2), pa.int64()))


def test_a_cursor_runs_one_statement_after_the_other(cursor: Any) -> None:
    answers = []
    for number in range(20):
        cursor.execute(f"SELECT {number} AS n")
        answers.append(cursor.fetchone())

    assert answers == [(number,) for number in range(20)]


@pytest.mark.feature("batches")
def test_executemany_inserts_every_row(cursor: Any) -> None:
    cursor.execute("CREATE TABLE people (id BIGINT, name VARCHAR, score DOUBLE)")
    rows = [tuple(row.values()) for row in people().to_pylist()]

    cursor.executemany("INSERT INTO people VALUES (?, ?, ?)", rows)

    assert cursor.rowcount == len(rows)
    cursor.execute("SELECT * FROM people ORDER BY id")
    assert cursor.fetchall() == rows


@pytest.mark.feature("batches")
def test_executemany_takes_the_rows_as_arrow(cursor: Any) -> None:
    create_empty(cursor, "people", people().schema)

    cursor.executemany("INSERT INTO people VALUES (?, ?, ?)", people().combine_chunks().to_batches()[0])

    cursor.execute("SELECT * FROM people ORDER BY id")
    assert cursor.fetch_arrow_table().equals(people())


@pytest.mark.feature("update counts")
def test_statements_that_change_data_tell_how_many_rows(with_people: Any) -> None:
    counts = []
    for statement in (
        "CREATE TABLE copies AS SELECT * FROM people",
        "INSERT INTO copies SELECT * FROM people WHERE id > 1",
        "INSERT INTO copies (id) VALUES (8), (9)",
        "DELETE FROM copies",
    ):
        with_people.executemany(statement, None)
        counts.append(with_people.rowcount)

    assert counts == [4, 3, 2, 9]


@pytest.mark.feature("exactly once")
def test_a_statement_fetched_as_a_query_changes_data_once(with_people: Any) -> None:
    with_people.execute("INSERT INTO people (id) VALUES (7)")
    with_people.fetchall()

    with_people.execute("SELECT id FROM people WHERE id >= 7")

    assert with_people.fetchall() == [(7,)]


def test_a_dropped_table_is_gone(with_people: Any) -> None:
    with_people.executemany("DROP TABLE people", None)

    with pytest.raises(flightsql.ProgrammingError, match="people") as caught:
        with_people.execute("SELECT * FROM people")
    assert caught.value.status_code == AdbcStatusCode.NOT_FOUND


@pytest.mark.feature("errors with their code")
@pytest.mark.parametrize(
    ("statement", "told", "status"),
    [
        ("SELEC 1", "SELEC", AdbcStatusCode.INVALID_ARGUMENT),
        ("SELECT nothing FROM people", "nothing", AdbcStatusCode.INVALID_ARGUMENT),
        ("SELECT * FROM nobody", "nobody", AdbcStatusCode.NOT_FOUND),
        ("SELECT 1; SELECT 2", "one statement", AdbcStatusCode.INVALID_ARGUMENT),
    ],
)
def test_an_error_says_what_was_wrong(with_people: Any, statement: str, told: str, status: AdbcStatusCode) -> None:
    with pytest.raises(flightsql.ProgrammingError, match=f"(?i){told}") as caught:
        with_people.execute(statement)

    assert caught.value.status_code == status
    assert "Traceback" not in str(caught.value)


def test_an_error_in_the_middle_of_a_result_reaches_the_reader(cursor: Any) -> None:
    with pytest.raises(flightsql.Error, match=r"(?i)divi(de|sion)"):
        cursor.execute("SELECT 1 / (value - 200000) FROM generate_series(1, 300000)").fetch_arrow_table()


def test_a_connection_works_on_after_an_error(cursor: Any) -> None:
    with pytest.raises(flightsql.ProgrammingError, match="nobody"):
        cursor.execute("SELECT * FROM nobody")

    assert cursor.execute("SELECT 1 AS n").fetchall() == [(1,)]


def test_execute_schema_describes_a_result_without_running_it(with_people: Any) -> None:
    schema = with_people.adbc_execute_schema("SELECT name, score FROM people")

    assert schema.equals(people().select(["name", "score"]).schema)


@pytest.mark.feature("partitions")
def test_partitions_are_read_by_another_connection(with_people: Any, server: RunningServer) -> None:
    partitions, schema = with_people.adbc_execute_partitions("SELECT * FROM people ORDER BY id")

    with flightsql.connect(server.uri, autocommit=True) as other, other.cursor() as cursor:
        read = []
        for partition in partitions:
            cursor.adbc_read_partition(partition)
            read.append(cursor.fetch_arrow_table())

    assert schema.equals(people().schema)
    assert pa.concat_tables(read).equals(people())


@pytest.mark.feature("partitions", "sessions")
def test_each_page_of_a_paged_session_is_a_partition(server: RunningServer) -> None:
    session = {"adbc.flight.sql.rpc.with_cookie_middleware": "true"}
    with flightsql.connect(server.uri, db_kwargs=session, autocommit=True) as connection:
        connection.adbc_connection.set_options(**{"adbc.flight.sql.session.option.page_rows": "30"})
        with connection.cursor() as cursor:
            partitions, _ = cursor.adbc_execute_partitions("SELECT value FROM generate_series(1, 100) ORDER BY value")
            pages = [cursor.adbc_read_partition(page) or cursor.fetchall() for page in partitions]

    assert [len(page) for page in pages] == [30, 30, 30, 10]
    assert [value for page in pages for (value,) in page] == list(range(1, 101))


@pytest.mark.feature("polling", reason="pyarrow's server has no `PollFlightInfo`; `GetFlightInfo` answers at once")
def test_partitions_that_come_one_after_the_other_are_not_implemented(cursor: Any) -> None:
    cursor.adbc_statement.set_options(**{"adbc.statement.exec.incremental": "true"})

    with pytest.raises(flightsql.NotSupportedError, match="Unimplemented"):
        cursor.adbc_execute_partitions("SELECT 1 AS one")


@pytest.mark.feature("cancel")
def test_cancelling_a_running_statement_stops_it_here_and_on_the_server(server: RunningServer) -> None:
    with flightsql.connect(server.uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(ENDLESS)
        reader = cursor.fetch_record_batch()
        reader.read_next_batch()
        cursor.adbc_cancel()

        with pytest.raises((flightsql.Error, pa.ArrowException, OSError), match=r"(?i)cancel"):
            reader.read_all()

    assert ends(server, ENDLESS), "the statement still runs"


@pytest.mark.feature("cancel")
def test_closing_the_cursor_of_a_running_statement_stops_it_on_the_server(server: RunningServer) -> None:
    with flightsql.connect(server.uri, autocommit=True) as connection:
        cursor = connection.cursor()
        cursor.execute(ENDLESS)
        cursor.fetch_record_batch().read_next_batch()
        cursor.close()

        assert ends(server, ENDLESS), "the statement still runs"


def ends(server: RunningServer, sql: str) -> bool:
    """Whether a statement is no longer running, soon."""
    running = "SELECT count(*) FROM system.queries WHERE state = 'running' AND sql = ?"
    pause = threading.Event()
    deadline = time.monotonic() + 30
    with flightsql.connect(server.uri, autocommit=True) as connection, connection.cursor() as cursor:
        while time.monotonic() < deadline:
            if cursor.execute(running, (sql,)).fetchone() == (0,):
                return True
            pause.wait(0.05)
    return False


def test_many_connections_at_once_each_get_their_own_results(server: RunningServer) -> None:
    def ask(number: int) -> list[tuple[int, int]]:
        with flightsql.connect(server.uri, autocommit=True) as connection, connection.cursor() as cursor:
            sql = "SELECT ? AS who, value FROM generate_series(1, 5) ORDER BY value"
            rows: list[tuple[int, int]] = []
            for _ in range(5):
                rows += cursor.execute(sql, (number,)).fetchall()
            return rows

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(ask, range(32)))

    assert answers == [[(number, value) for _ in range(5) for value in range(1, 6)] for number in range(32)]
