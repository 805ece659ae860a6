"""Types of placeholders before a value is bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from flightserver.access.rights import UNRESTRICTED
from flightserver.errors import InvalidRequest
from flightserver.query.parameters import in_expected_units
from flightserver.query.request import Request

if TYPE_CHECKING:
    from flightserver.lakehouse import Lakehouse

BIGINT, DOUBLE, TEXT, DATE = pa.int64(), pa.float64(), pa.string(), pa.date32()

MERGE = """
MERGE INTO people AS p USING pets AS s ON p.id = s.owner AND s.nick = ?
WHEN MATCHED AND p.score > ? THEN UPDATE SET name = ?
WHEN NOT MATCHED THEN INSERT (id, name) VALUES (?, ?)
"""


@pytest.fixture
def people(lakehouse: Lakehouse) -> Lakehouse:
    """A lakehouse with the tables `people` and `pets`."""
    for columns in ("people (id BIGINT PRIMARY KEY, name VARCHAR, score DOUBLE)", "pets (owner BIGINT, nick VARCHAR)"):
        lakehouse.queries.update(lakehouse.queries.plan(Request(rights=UNRESTRICTED, sql=f"CREATE TABLE {columns}")))
    return lakehouse


@pytest.mark.parametrize(
    ("sql", "types"),
    [
        ("SELECT * FROM people WHERE id = ? AND name LIKE ? AND score BETWEEN ? AND ?", [BIGINT, TEXT, DOUBLE, DOUBLE]),
        ("SELECT * FROM people WHERE id IN (?, ?)", [BIGINT, BIGINT]),
        ("SELECT score + ? AS x FROM people ORDER BY score LIMIT ? OFFSET ?", [DOUBLE, BIGINT, BIGINT]),
        ("SELECT CAST(? AS DATE) AS x, ?::BIGINT AS y, TRY_CAST(? AS DECIMAL(9, 2)) AS z", [DATE, BIGINT, "decimal"]),
        ("SELECT * FROM people WHERE id IN (SELECT owner FROM pets WHERE nick = ?)", [TEXT]),
        ("SELECT * FROM people WHERE EXISTS (SELECT 1 FROM pets WHERE nick = ? AND owner = people.id)", [TEXT]),
        ("SELECT * FROM people JOIN pets ON owner = id AND nick = ?", [TEXT]),
        ("INSERT INTO people VALUES (?, ?, ?)", [BIGINT, TEXT, DOUBLE]),
        ("INSERT INTO people (score, id) VALUES (?, ?), (?, ?)", [DOUBLE, BIGINT, DOUBLE, BIGINT]),
        ("INSERT OR REPLACE INTO people (name, id) VALUES (?, ?)", [TEXT, BIGINT]),
        (
            "INSERT INTO people (id) VALUES (?) ON CONFLICT (id) DO UPDATE SET name = ?, score = excluded.score + ?",
            [BIGINT, TEXT, DOUBLE],
        ),
        ("UPDATE people SET name = ?, score = score * ? WHERE id = ?", [TEXT, DOUBLE, BIGINT]),
        ("UPDATE people SET name = ? FROM pets WHERE owner = id AND nick = ?", [TEXT, TEXT]),
        ("DELETE FROM people WHERE score < ?", [DOUBLE]),
        (
            MERGE,
            [TEXT, DOUBLE, TEXT, BIGINT, TEXT],
        ),
        ("SELECT ? AS x", [None]),
        ("SELECT 1 AS x", []),
        ("INSERT INTO nobody VALUES (?)", [None]),
        ("UPDATE people SET nothing = ? WHERE id = 1", [None]),
    ],
)
def test_the_type_is_that_of_what_the_placeholder_meets(
    people: Lakehouse, sql: str, types: list[pa.DataType | str | None]
) -> None:
    planned = people.queries.plan(Request(rights=UNRESTRICTED, sql=sql))

    found = people.queries.parameter_types(planned)

    expected = [pa.decimal128(9, 2) if kind == "decimal" else kind for kind in types]
    assert [found.get(str(number)) for number in range(1, len(types) + 1)] == expected


def test_bound_times_take_the_unit_of_what_they_meet() -> None:
    rows = pa.record_batch({"1": pa.array([1500], pa.time32("ms")), "2": pa.array([1], pa.int64())})

    converted = in_expected_units(rows, {"1": pa.time64("us"), "2": pa.time64("us")})

    assert converted == pa.record_batch({"1": pa.array([1_500_000], pa.time64("us")), "2": pa.array([1], pa.int64())})


def test_a_time_that_is_finer_than_its_column_stays_as_it_is() -> None:
    rows = pa.record_batch({"1": pa.array([1], pa.time64("us"))})

    assert in_expected_units(rows, {"1": pa.time32("s")}) == rows


@pytest.mark.parametrize("mode", ["sparse", "dense"])
def test_values_that_are_bound_as_a_union_are_those_of_its_member(lakehouse: Lakehouse, mode: str) -> None:
    codes, numbers, texts = pa.array([1], pa.int8()), pa.array([7], BIGINT), pa.array(["seven"])
    union = (
        pa.UnionArray.from_sparse(codes, [numbers, texts])
        if mode == "sparse"
        else pa.UnionArray.from_dense(codes, pa.array([0], pa.int32()), [numbers, texts])
    )
    request = Request(rights=UNRESTRICTED, sql="SELECT ? AS value", parameters=pa.record_batch([union], names=["1"]))

    [batch] = lakehouse.queries.stream(lakehouse.queries.plan(request))

    assert batch.to_pylist() == [{"value": "seven"}]


def test_values_of_several_types_for_one_placeholder_are_refused(lakehouse: Lakehouse) -> None:
    codes, numbers, texts = pa.array([0, 1], pa.int8()), pa.array([7, 8], BIGINT), pa.array(["seven", "eight"])
    union = pa.UnionArray.from_sparse(codes, [numbers, texts])
    request = Request(rights=UNRESTRICTED, sql="SELECT ? AS value", parameters=pa.record_batch([union], names=["1"]))

    with pytest.raises(InvalidRequest, match=r"bound to '1' have several types \(int64, string\)"):
        lakehouse.queries.plan(request)
