"""What differs between two versions of a dataset."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from query.asking import rows, run

from flightserver.access.rights import UNRESTRICTED
from flightserver.catalog.entities import PRIMARY
from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.errors import InvalidRequest, NotFound
from flightserver.query.diff import ColumnChange, RowCounts, compared, counted, reduced
from flightserver.query.request import Request
from flightserver.tables.versions import dataset_at
from flightserver.tables.writes import Mode, WriteRequest

if TYPE_CHECKING:
    from flightserver.catalog.entities import Dataset
    from flightserver.lakehouse import Lakehouse
    from flightserver.query.diff import Diff
    from flightserver.tables.versions import Moment


def dataset(lakehouse: Lakehouse, name: str = "t") -> Dataset:
    return lakehouse.catalog.snapshot().dataset(name)


def version(lakehouse: Lakehouse) -> int:
    return lakehouse.catalog.snapshot().version


def between(lakehouse: Lakehouse, start: Moment, end: Moment | None = None) -> Diff:
    return lakehouse.diffs.between(dataset(lakehouse), start, end)


def changes(lakehouse: Lakehouse, start: Moment, end: Moment | None = None) -> list[tuple[Any, ...]]:
    planned = lakehouse.diffs.rows(between(lakehouse, start, end), Request(rights=UNRESTRICTED, sql="diff"))
    table = pa.Table.from_batches(lakehouse.queries.stream(planned), schema=planned.schema)
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def counts(lakehouse: Lakehouse, start: Moment, end: Moment | None = None) -> RowCounts:
    diff = between(lakehouse, start, end)
    return counted(
        diff, lakehouse.queries.stream(lakehouse.diffs.tally(diff, Request(rights=UNRESTRICTED, sql="diff")))
    )


def write(lakehouse: Lakehouse, table: Any, mode: Mode = Mode.CREATE_APPEND) -> int:
    """Write to `t`; the version that it has then."""
    request = WriteRequest(
        name="t",
        bucket=PRIMARY,
        mode=mode,
        schema=table.schema,
        operation=Operation(new_ulid(), "write"),
        lineage_system="arrow",
        lineage_source="test",
    )
    return lakehouse.tables.write(request, table.to_batches()).version


@pytest.fixture
def keyed(lakehouse: Lakehouse) -> int:
    """A table `t` of five rows with a primary key; its version."""
    run(lakehouse, "CREATE TABLE t (k BIGINT PRIMARY KEY, name VARCHAR, x DOUBLE)")
    run(lakehouse, "INSERT INTO t VALUES (1, 'a', 1.5), (2, 'b', NULL), (3, 'c', 'NaN'), (4, NULL, 4), (5, 'e', 5)")
    return version(lakehouse)


@pytest.fixture
def heap(lakehouse: Lakehouse) -> int:
    """A table `t` without a key, in which rows occur more than once; its version."""
    run(lakehouse, "CREATE TABLE t (n BIGINT, name VARCHAR)")
    run(lakehouse, "INSERT INTO t VALUES (1, 'a'), (1, 'a'), (1, 'a'), (2, NULL), (2, NULL), (3, 'c')")
    return version(lakehouse)


# Rows


def test_with_a_key_rows_came_went_or_changed(lakehouse: Lakehouse, keyed: int) -> None:
    run(lakehouse, "UPDATE t SET x = 2.5 WHERE k = 2")
    run(lakehouse, "UPDATE t SET name = NULL WHERE k = 1")
    run(lakehouse, "DELETE FROM t WHERE k = 5")
    run(lakehouse, "INSERT INTO t VALUES (6, 'f', 6)")

    assert changes(lakehouse, keyed) == [
        ("update_before", 1, "a", 1.5),
        ("update_after", 1, None, 1.5),
        ("update_before", 2, "b", None),
        ("update_after", 2, "b", 2.5),
        ("delete", 5, "e", 5.0),
        ("insert", 6, "f", 6.0),
    ]
    assert counts(lakehouse, keyed) == RowCounts(added=1, removed=1, changed=2)


def test_a_diff_backwards_says_the_opposite(lakehouse: Lakehouse, keyed: int) -> None:
    run(lakehouse, "UPDATE t SET x = 2.5 WHERE k = 2")
    run(lakehouse, "INSERT INTO t VALUES (6, 'f', 6)")

    assert changes(lakehouse, version(lakehouse), keyed) == [
        ("update_before", 2, "b", 2.5),
        ("update_after", 2, "b", None),
        ("delete", 6, "f", 6.0),
    ]


def test_what_was_changed_and_changed_back_has_not_changed(lakehouse: Lakehouse, keyed: int) -> None:
    run(lakehouse, "UPDATE t SET x = x + 1, name = upper(name)")
    run(lakehouse, "UPDATE t SET x = x - 1, name = lower(name)")

    assert changes(lakehouse, keyed) == []
    assert counts(lakehouse, keyed) == RowCounts(0, 0, 0)


def test_without_a_key_a_row_counts_as_often_as_it_occurs(lakehouse: Lakehouse, heap: int) -> None:
    run(lakehouse, "DELETE FROM t WHERE n < 3")
    run(lakehouse, "INSERT INTO t VALUES (1, 'a'), (2, NULL), (2, NULL), (2, NULL), (3, 'c'), (3, 'C')")

    assert sorted(changes(lakehouse, heap), key=repr) == [
        ("delete", 1, "a"),
        ("delete", 1, "a"),
        ("insert", 2, None),
        ("insert", 3, "C"),
        ("insert", 3, "c"),
    ]
    assert counts(lakehouse, heap) == RowCounts(added=3, removed=2, changed=None)


def test_a_truncated_and_a_replaced_table_lost_all_rows(lakehouse: Lakehouse, heap: int) -> None:
    run(lakehouse, "TRUNCATE t")

    assert counts(lakehouse, heap) == RowCounts(added=0, removed=6, changed=None)
    assert counts(lakehouse, version(lakehouse), heap) == RowCounts(added=6, removed=0, changed=None)


def test_versions_can_be_named_by_tag_and_time(lakehouse: Lakehouse, keyed: int) -> None:
    one = dataset(lakehouse)
    lakehouse.versions.tag(one.key, "before", None, Operation(new_ulid(), "tag"))
    run(lakehouse, "DELETE FROM t WHERE k > 1")
    after = lakehouse.catalog.snapshot().time

    assert between(lakehouse, "before", after).then.version == keyed
    assert counts(lakehouse, "before", after) == RowCounts(added=0, removed=4, changed=0)
    with pytest.raises(NotFound, match="has no tag 'x': it has 'before'"):
        between(lakehouse, "before", "x")


@pytest.mark.parametrize(
    ("data_type", "value", "other"),
    [
        (pa.list_(pa.int64()), [1, None], [1]),
        (pa.struct([("a", pa.int64())]), {"a": None}, None),
        (pa.list_(pa.struct([("a", pa.string())])), [{"a": "x"}], [{"a": "y"}]),
        (pa.list_(pa.float32(), 2), [1.0, float("nan")], [1.0, 2.0]),
        (pa.binary(), b"", None),
        (pa.bool_(), False, None),
        (pa.decimal256(50, 2), Decimal("1.00"), Decimal("1.01")),
        (pa.timestamp("us", "UTC"), datetime(2026, 1, 1, tzinfo=UTC), None),
    ],
)
def test_values_of_nearly_any_type_can_be_compared(
    lakehouse: Lakehouse, data_type: Any, value: object, other: object
) -> None:
    start = write(lakehouse, pa.table({"k": [1, 2, 3], "v": pa.array([value, value, None], data_type)}))
    write(lakehouse, pa.table({"k": [1, 2, 3], "v": pa.array([value, other, None], data_type)}), Mode.REPLACE)

    assert counts(lakehouse, start) == RowCounts(added=1, removed=1, changed=None)


@pytest.mark.parametrize("nested", [False, True])
def test_rows_with_maps_can_not_be_compared(lakehouse: Lakehouse, *, nested: bool) -> None:
    column: Any = pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))
    if nested:
        column = pa.StructArray.from_arrays([column], names=["inner"])
    start = write(lakehouse, pa.table({"m": column}))

    assert between(lakehouse, start).segments_shared == 1, "nothing has to be compared"
    write(lakehouse, pa.table({"m": column}))
    with pytest.raises(InvalidRequest, match=r'column "m" is .*map.*: maps have no equality'):
        between(lakehouse, start)


def test_a_column_that_is_called_as_the_kind_of_change_is_in_the_way(lakehouse: Lakehouse) -> None:
    start = write(lakehouse, pa.table({"_change": [1]}))
    write(lakehouse, pa.table({"_change": [2]}))

    with pytest.raises(InvalidRequest, match='a column is called "_change"'):
        changes(lakehouse, start)
    with pytest.raises(InvalidRequest, match='a column is called "_change"'):
        counts(lakehouse, start)


def test_columns_may_have_any_other_name(lakehouse: Lakehouse) -> None:
    names = ["__times", 'with "quotes"', "UPPER", "rows", "$1 ?", "__times#2"]
    start = write(lakehouse, pa.table([[1]] * len(names), names=names))
    write(lakehouse, pa.table([[2]] * len(names), names=names))

    assert changes(lakehouse, start) == [("insert", 2, 2, 2, 2, 2, 2)]
    assert counts(lakehouse, start) == RowCounts(added=1, removed=0, changed=None)


# Columns


def test_a_column_that_was_added_is_null_before(lakehouse: Lakehouse, keyed: int) -> None:
    run(lakehouse, "ALTER TABLE t ADD COLUMN y INTEGER")
    added = version(lakehouse)
    run(lakehouse, "UPDATE t SET y = 7 WHERE k = 1")

    diff = between(lakehouse, keyed)
    assert (diff.columns_added, diff.columns_removed, diff.columns_changed) == (("y",), (), ())
    assert changes(lakehouse, keyed, added) == []
    assert changes(lakehouse, keyed) == [("update_before", 1, "a", 1.5, None), ("update_after", 1, "a", 1.5, 7)]


def test_a_column_that_was_dropped_is_not_compared(lakehouse: Lakehouse, keyed: int) -> None:
    run(lakehouse, "UPDATE t SET x = -1")
    run(lakehouse, "ALTER TABLE t DROP COLUMN x")
    dropped = version(lakehouse)

    diff = between(lakehouse, keyed)
    assert (diff.columns_added, diff.columns_removed, diff.columns) == ((), ("x",), ("k", "name"))
    assert changes(lakehouse, keyed) == []
    back = between(lakehouse, dropped, keyed)
    assert (back.columns_added, back.columns_removed) == (("x",), ())
    assert counts(lakehouse, dropped, keyed) == RowCounts(0, 0, 4), "x was null in row 2"


def test_what_a_shared_file_holds_of_a_dropped_column_is_not_taken_for_equal(lakehouse: Lakehouse, keyed: int) -> None:
    run(lakehouse, "ALTER TABLE t DROP COLUMN x")

    assert between(lakehouse, keyed).segments_shared == 1
    assert between(lakehouse, version(lakehouse), keyed).segments_shared == 0


def test_a_column_that_was_renamed_is_the_same_column(lakehouse: Lakehouse, keyed: int) -> None:
    run(lakehouse, "ALTER TABLE t RENAME COLUMN k TO id")
    run(lakehouse, "ALTER TABLE t RENAME COLUMN name TO label")
    run(lakehouse, "UPDATE t SET label = 'z' WHERE id = 5")

    diff = between(lakehouse, keyed)
    assert (diff.columns_added, diff.columns_removed, diff.primary_key) == ((), (), ("id",))
    assert diff.columns_changed == (
        ColumnChange("id", "k", "int64", "int64", nullable=False, nullable_was=False),
        ColumnChange("label", "name", "string", "string", nullable=True, nullable_was=True),
    )
    assert changes(lakehouse, keyed) == [("update_before", 5, "e", 5.0), ("update_after", 5, "z", 5.0)]


@pytest.mark.parametrize(
    ("narrow", "wide", "value"),
    [
        ("INTEGER", "BIGINT", "1"),
        ("SMALLINT", "DOUBLE", "1"),
        ("REAL", "DOUBLE", "1.5"),
        ("DECIMAL(5, 2)", "DECIMAL(12, 4)", "1.25"),
        ("TIMESTAMP(3)", "TIMESTAMP(6)", "TIMESTAMP '2026-01-01 12:00:00.123'"),
        ("DATE", "TIMESTAMP(6)", "DATE '2026-01-01'"),
    ],
)
def test_a_type_that_was_widened_is_compared_as_the_wider_one(
    lakehouse: Lakehouse, narrow: str, wide: str, value: str
) -> None:
    run(lakehouse, f"CREATE TABLE t (k BIGINT PRIMARY KEY, v {narrow})")
    run(lakehouse, f"INSERT INTO t VALUES (1, {value}), (2, {value})")
    start = version(lakehouse)
    run(lakehouse, f"ALTER TABLE t ALTER COLUMN v TYPE {wide}")
    run(lakehouse, f"UPDATE t SET v = {value}")
    run(lakehouse, "UPDATE t SET v = NULL WHERE k = 2")
    end = version(lakehouse)

    assert [change.column for change in between(lakehouse, start).columns_changed] == ["v"]
    assert counts(lakehouse, start, end) == counts(lakehouse, end, start) == RowCounts(0, 0, 1)


@pytest.mark.usefixtures("keyed")
def test_a_type_that_has_nothing_in_common_is_another_value_in_every_row(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE other (k BIGINT PRIMARY KEY, x VARCHAR)")
    run(lakehouse, "INSERT INTO other VALUES (1, '1.5'), (2, NULL)")
    then, now = dataset(lakehouse), dataset(lakehouse, "other")

    diff = compared(then, now)

    assert diff.columns_changed == (ColumnChange("x", "x", "string", "double", nullable=True, nullable_was=True),)
    planned = lakehouse.diffs.rows(diff, Request(rights=UNRESTRICTED, sql="diff"))
    table = pa.Table.from_batches(lakehouse.queries.stream(planned), schema=planned.schema)
    assert table.slice(0, 2).to_pylist() == [
        {"_change": "update_before", "k": 1, "x": None},
        {"_change": "update_after", "k": 1, "x": "1.5"},
    ]
    assert table.column("k").to_pylist()[2:] == [3, 4, 5], "row 2 is null on both sides"


def test_versions_with_different_keys_have_no_key_in_common(lakehouse: Lakehouse, keyed: int) -> None:
    run(lakehouse, "ALTER TABLE t DROP PRIMARY KEY")
    run(lakehouse, "UPDATE t SET x = 0 WHERE k = 1")

    assert counts(lakehouse, keyed) == RowCounts(added=1, removed=1, changed=None)


def test_a_column_of_a_dropped_ones_name_is_another_and_compared_with_it(lakehouse: Lakehouse, keyed: int) -> None:
    run(lakehouse, "ALTER TABLE t DROP COLUMN name")
    run(lakehouse, "ALTER TABLE t ADD COLUMN name VARCHAR")

    diff = between(lakehouse, keyed)
    assert (diff.columns_added, diff.columns_removed, diff.segments_shared) == ((), (), 0)
    assert counts(lakehouse, keyed) == RowCounts(added=0, removed=0, changed=4), "row 4 had no name"


# What both sides share


@pytest.mark.usefixtures("keyed")
def test_neighbours_are_told_apart_by_what_changed_alone(lakehouse: Lakehouse) -> None:
    for number in range(10, 15):
        run(lakehouse, f"INSERT INTO t VALUES ({number}, 'x', 0)")
    start = version(lakehouse)
    run(lakehouse, "UPDATE t SET x = 1 WHERE k = 12")

    diff = between(lakehouse, start)

    assert (diff.segments_shared, len(diff.before.segments), len(diff.after.segments)) == (5, 1, 1)
    assert (diff.before.rows, diff.before.deltas, diff.after.rows) == (1, (), 1)
    assert counts(lakehouse, start) == RowCounts(0, 0, 1)


@pytest.mark.usefixtures("keyed")
def test_a_segment_with_other_dead_rows_is_not_shared(lakehouse: Lakehouse) -> None:
    run(lakehouse, "INSERT INTO t VALUES (6, 'f', 6)")
    start = version(lakehouse)
    run(lakehouse, "DELETE FROM t WHERE k IN (1, 2)")
    middle = version(lakehouse)
    run(lakehouse, "DELETE FROM t WHERE k = 3")

    then, now = reduced(dataset_at(lakehouse.catalog, dataset(lakehouse), middle)[1], dataset(lakehouse))

    assert ([one.live for one in then.segments], [one.live for one in now.segments]) == ([3], [2])
    assert (len(then.deltas), len(now.deltas)) == (1, 2)
    assert [counts(lakehouse, start, middle).removed, counts(lakehouse, middle).removed] == [2, 1]


def test_a_version_compared_with_itself_has_nothing_left(lakehouse: Lakehouse, keyed: int) -> None:
    diff = between(lakehouse, keyed, keyed)

    assert (diff.before.segments, diff.after.segments, diff.segments_shared) == ((), (), 1)
    assert (changes(lakehouse, keyed), counts(lakehouse, keyed)) == ([], RowCounts(0, 0, 0))


def test_what_is_left_of_a_dataset_is_not_taken_for_it_or_for_another_rest(lakehouse: Lakehouse, keyed: int) -> None:
    run(lakehouse, "INSERT INTO t VALUES (6, 'f', 6)")
    lakehouse.queries.pin(dataset(lakehouse))

    assert counts(lakehouse, keyed) == RowCounts(added=1, removed=0, changed=0)
    assert rows(lakehouse, "SELECT count(*) FROM t") == [(6,)]
    run(lakehouse, "INSERT INTO t VALUES (7, 'g', 7)")
    assert [one[:2] for one in changes(lakehouse, keyed)] == [("insert", 6), ("insert", 7)]
