"""Bound values over ADBC: every type arrives as it was sent, finds its row, and can be inserted."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow as pa
import pytest
from clients.samples import COLUMNS, create_empty

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.client("ADBC")

ROWS = range(3)
COMPARABLE = [name for name in COLUMNS if name not in {"list", "list_of_strings", "struct"}]


@pytest.mark.feature("parameters")
@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("name", COLUMNS)
def test_a_bound_value_comes_back_with_its_type(cursor: Any, name: str, row: int) -> None:
    bound = pa.record_batch({"value": COLUMNS[name].slice(row, 1)})

    cursor.execute("SELECT ? AS value", bound)

    # A value that is no null makes a column that has none; the batch can't say that.
    found = cursor.fetch_arrow_table()["value"].combine_chunks()
    # The engine's binding can't take a null list; it is bound as a null without a type.
    null_list = pa.types.is_list(bound["value"].type) and bound["value"].null_count == 1
    assert found.equals(pa.nulls(1) if null_list else bound["value"])


@pytest.mark.parametrize("name", COMPARABLE)
def test_a_bound_value_finds_its_row(cursor: Any, name: str) -> None:
    values = COLUMNS[name]
    cursor.adbc_ingest("things", pa.table({"id": [1, 2, 3], "value": values}), mode="create")

    found = [
        cursor.execute("SELECT id FROM things WHERE value = ?", pa.record_batch({"1": values.slice(row, 1)})).fetchall()
        for row in ROWS
    ]

    assert found == [[(1,)], [(2,)], []]


@pytest.mark.feature("parameters")
@pytest.mark.parametrize("name", COLUMNS)
def test_bound_values_are_inserted_as_they_are(cursor: Any, name: str) -> None:
    rows = pa.table({"id": pa.array([1, 2, 3], pa.int64()), "value": COLUMNS[name]})
    create_empty(cursor, "things", rows.schema)

    cursor.executemany("INSERT INTO things VALUES (?, ?)", rows.combine_chunks().to_batches()[0])

    assert cursor.rowcount == rows.num_rows
    assert cursor.execute("SELECT * FROM things ORDER BY id").fetch_arrow_table().equals(rows)


@pytest.mark.feature("parameters")
@pytest.mark.parametrize(
    "values",
    [
        (1, -1.5, "text", True, None),
        (Decimal("1.50"), date(2026, 11, 21), b"\x00bytes"),
        (datetime(2026, 11, 21, 9, 30, 15, 250000),),  # noqa: DTZ001  # without a zone on purpose
        (datetime(2026, 11, 21, 9, 30, tzinfo=UTC),),
        ([1, 2, 3], ["a", None]),
    ],
    ids=["plain", "exact", "naive time", "time with zone", "lists"],
)
def test_values_of_python_come_back_equal(cursor: Any, values: tuple[Any, ...]) -> None:
    columns = ", ".join(f"? AS c{place}" for place in range(len(values)))

    cursor.execute(f"SELECT {columns}", values)

    assert cursor.fetchall() == [values]


@pytest.mark.parametrize(
    ("sql", "values", "answer"),
    [
        ("SELECT ? + ? AS n", (40, 2), 42),
        ("SELECT $2 - $1 AS n", (40, 2), -38),
        ("SELECT $1 * $1 AS n", (7,), 49),
        ("SELECT '?' || ? AS n", ("!",), "?!"),
        ("SELECT count(*) AS n FROM generate_series(1, 10) WHERE value BETWEEN ? AND ?", (3, 5), 3),
        ("SELECT count(*) AS n FROM generate_series(1, 10) LIMIT ?", (1,), 10),
        ("SELECT CAST(? AS DATE) + INTERVAL '1' DAY AS n", ("2026-02-28",), datetime(2026, 3, 1)),  # noqa: DTZ001  # SQL's date has none
    ],
)
def test_placeholders_stand_for_their_values(cursor: Any, sql: str, values: Sequence[Any], answer: Any) -> None:
    found = cursor.execute(sql, values).fetchone()[0]

    assert found == (answer.date() if type(found) is date else answer)


@pytest.mark.parametrize("values", ["' OR 1 = 1 --", "$1", "?", '"', "'; DROP TABLE people; --"])
def test_a_bound_text_is_never_read_as_sql(cursor: Any, values: str) -> None:
    assert cursor.execute("SELECT ? AS text", (values,)).fetchall() == [(values,)]


@pytest.mark.parametrize("values", [(), (1,), (1, 2, 3)])
def test_a_wrong_number_of_values_is_refused(cursor: Any, values: tuple[int, ...]) -> None:
    with pytest.raises(flightsql.ProgrammingError, match=r"2 placeholders|placeholders .* values were bound"):
        cursor.execute("SELECT ? + ? AS n", values).fetchall()


@pytest.mark.feature("prepared statements")
def test_a_prepared_statement_is_executed_with_new_values_each_time(cursor: Any) -> None:
    sql = "SELECT ? * 10 AS n"
    cursor.adbc_prepare(sql)

    answers = [cursor.execute(sql, (number,)).fetchone() for number in range(5)]

    assert answers == [(number * 10,) for number in range(5)]


def test_prepare_tells_the_names_of_the_parameters(cursor: Any) -> None:
    schema = cursor.adbc_prepare("SELECT ? + ? AS n")

    assert len(schema) == len(["?", "?"])
