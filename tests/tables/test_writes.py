"""What each mode of writing does, and what is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from datafusion import SessionConfig, SessionContext

from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.errors import (
    AlreadyExists,
    InvalidRequest,
    NotFound,
    SchemaDrift,
    SchemaMismatch,
)
from flightserver.tables.schema import decode
from flightserver.tables.writes import Mode, WriteRequest

if TYPE_CHECKING:
    from tables.lake import Lake

PEOPLE = pa.table({"id": [1, 2], "name": ["Ada", "Grace"]})
OTHERS = pa.table({"id": [3], "name": ["Alan"]})


@pytest.mark.parametrize("mode", [Mode.CREATE, Mode.REPLACE, Mode.CREATE_APPEND])
def test_three_modes_create_a_dataset_that_is_not_there(lake: Lake, mode: Mode) -> None:
    result = lake.write(mode, PEOPLE)

    assert lake.read().equals(PEOPLE)
    assert (result.rows, result.files, result.unchanged) == (2, 1, False)
    assert result.version == lake.dataset().version == 2
    assert result.bytes == lake.dataset().bytes > 0


def test_append_refuses_a_dataset_that_is_not_there_and_suggests_another(lake: Lake) -> None:
    lake.write(Mode.CREATE, PEOPLE, name="people")

    with pytest.raises(NotFound, match=r"poeple.*people"):
        lake.write(Mode.APPEND, PEOPLE, name="poeple")


def test_create_refuses_a_dataset_that_is_there(lake: Lake) -> None:
    lake.write(Mode.CREATE, PEOPLE)

    with pytest.raises(AlreadyExists) as caught:
        lake.write(Mode.CREATE, OTHERS)

    assert str(caught.value) == (
        'dataset "primary".flights exists already, at version 2: append to it, replace it or drop it'
    )
    assert lake.read().equals(PEOPLE)


@pytest.mark.parametrize("mode", [Mode.APPEND, Mode.CREATE_APPEND])
def test_appended_rows_come_after_those_that_are_there(lake: Lake, mode: Mode) -> None:
    lake.write(Mode.CREATE, PEOPLE)

    result = lake.write(mode, OTHERS)

    assert lake.read().equals(pa.concat_tables([PEOPLE, OTHERS]))
    assert lake.row_ids() == [0, 1, 2]
    assert result.rows == 1


def test_replace_changes_rows_and_schema_and_keeps_the_identity(lake: Lake) -> None:
    lake.write(Mode.CREATE, PEOPLE)
    before = lake.dataset()
    other = pa.table({"x": [1.5]})

    lake.write(Mode.REPLACE, other)

    assert lake.read().equals(other)
    assert lake.dataset().id == before.id
    assert lake.row_ids() == [2]
    assert lake.catalog.snapshot_at(before.version).dataset("flights", "primary") == before


def test_any_arrow_becomes_canonical_and_reads_back_the_same(lake: Lake) -> None:
    table = pa.table(
        {
            "d": pa.array(["a", "b", "a"]).dictionary_encode(),
            "v": pa.array(["x", None, "long enough to be out of line"], pa.string_view()),
            "l": pa.array([[1], None, [2, 3]], pa.large_list(pa.int16())),
            "n": pa.nulls(3),
        }
    )

    lake.write(Mode.CREATE, table)

    assert lake.read().to_pydict() == table.to_pydict()
    assert decode(lake.dataset().schema).types == [pa.string(), pa.string(), pa.list_(pa.int16()), pa.string()]


def test_an_empty_stream_creates_a_dataset_without_segments(lake: Lake) -> None:
    result = lake.write(Mode.CREATE, PEOPLE.schema.empty_table())

    assert lake.dataset().segments == ()
    assert lake.read().schema == PEOPLE.schema
    assert (result.rows, result.files, result.bytes) == (0, 0, 0)
    assert lake.files() == []


def test_an_empty_append_changes_nothing_but_happened(lake: Lake) -> None:
    lake.write(Mode.CREATE, PEOPLE)
    operation = Operation(new_ulid(), "insert")

    result = lake.write(Mode.APPEND, PEOPLE.schema.empty_table(), operation=operation)

    assert (result.version, result.unchanged) == (2, True)
    assert lake.dataset().version == 2
    assert operation.id in lake.catalog.snapshot().operations


@pytest.mark.parametrize("name", ["", "a/b", ".."])
def test_a_name_that_cannot_be_is_refused(lake: Lake, name: str) -> None:
    with pytest.raises(InvalidRequest, match="can't name a dataset"):
        lake.write(Mode.CREATE, PEOPLE, name=name)


def test_an_unknown_bucket_is_refused(lake: Lake) -> None:
    request = WriteRequest(
        name="a",
        bucket="tertiary",
        mode=Mode.CREATE,
        schema=PEOPLE.schema,
        operation=Operation(new_ulid(), "create"),
        lineage_system="sql",
        lineage_source="",
    )

    with pytest.raises(NotFound, match="there is no bucket 'tertiary'; there are: primary"):
        lake.tables.write(request, [])


def test_appending_other_columns_is_drift_that_lists_them_all(lake: Lake) -> None:
    lake.write(Mode.CREATE, PEOPLE)

    with pytest.raises(SchemaDrift) as caught:
        lake.write(Mode.APPEND, pa.table({"id": ["3"], "gate": ["B1"]}))

    assert str(caught.value) == (
        'the rows don\'t fit dataset "primary".flights: column "id": dataset has int64, data has string (not a safe '
        'widening); column "name": dataset has string, data has no such column; column "gate": data has string, '
        "dataset has no such column: cast the data, or use mode replace"
    )
    assert lake.read().equals(PEOPLE)


def test_evolve_adds_columns_and_widens_types_in_the_commit_of_the_rows(lake: Lake) -> None:
    narrow = pa.table({"id": pa.array([1], pa.int32()), "name": ["Ada"]})
    wide = pa.table({"born": [1906], "id": [2**40]})
    lake.write(Mode.CREATE, narrow)

    with pytest.raises(SchemaDrift, match="ask for `evolve` to add columns and widen types"):
        lake.write(Mode.APPEND, wide)
    lake.write(Mode.APPEND, wide, evolve=True)

    assert lake.read().to_pydict() == {"id": [1, 2**40], "name": ["Ada", None], "born": [None, 1906]}
    assert lake.read().schema == pa.schema([("id", pa.int64()), ("name", pa.string()), ("born", pa.int64())])


def test_the_engine_reads_segments_of_every_age_under_the_newest_schema(lake: Lake) -> None:
    first = pa.table({"n": pa.array([1], pa.int8()), "s": [{"a": 1}], "on": pa.array([1], pa.date32())})
    second = pa.table({"n": [0.5], "s": [{"a": 2, "b": "x"}], "on": pa.array([1], pa.timestamp("us")), "new": [True]})
    lake.write(Mode.CREATE, first)
    lake.write(Mode.APPEND, second, evolve=True)
    dataset = lake.dataset()
    config = SessionConfig({"datafusion.execution.parquet.schema_force_view_types": "false"})
    files = [lake.root / key for one in dataset.segments for key in one.object_keys()]

    read = [SessionContext(config).read_parquet(str(file), schema=decode(dataset.schema)) for file in files]

    assert pa.concat_tables(map(pa.table, read)).equals(lake.read())
    assert lake.read()["s"].to_pylist() == [{"a": 1, "b": None}, {"a": 2, "b": "x"}]


def test_a_batch_that_is_not_what_was_announced_is_refused_and_leaves_nothing(lake: Lake) -> None:
    request = WriteRequest(
        name="a",
        bucket="primary",
        mode=Mode.CREATE,
        schema=PEOPLE.schema,
        operation=Operation(new_ulid(), "create"),
        lineage_system="arrow",
        lineage_source="",
    )

    with pytest.raises(SchemaMismatch, match='column "id": data has string, int64 is needed'):
        lake.tables.write(request, [*PEOPLE.to_batches(), *pa.table({"id": ["x"]}).to_batches()])

    assert lake.files() == []
    assert lake.catalog.snapshot().datasets == {}


def test_damaged_arrow_is_refused_before_anything_reads_it(lake: Lake) -> None:
    damaged = pa.DictionaryArray.from_arrays(pa.array([7], pa.int8()), pa.array(["a"]), safe=False)

    with pytest.raises(InvalidRequest, match=r"record batch 0 is not valid Arrow .*: nothing was written"):
        lake.write(Mode.CREATE, pa.table({"s": damaged}), validate=True)

    assert lake.files() == []


def test_key_columns_become_not_null(lake: Lake) -> None:
    lake.write(Mode.CREATE, PEOPLE, primary_key=("id",))

    assert lake.dataset().primary_key == ("id",)
    assert decode(lake.dataset().schema).field("id").nullable is False
    with pytest.raises(SchemaMismatch, match='column "id" is not null, and 1 of 2 rows are null'):
        lake.write(Mode.APPEND, pa.table({"id": [3, None], "name": ["x", "y"]}))
    lake.write(Mode.APPEND, pa.table({"id": [3], "name": ["x"], "new": [1]}), evolve=True)
    assert decode(lake.dataset().schema).field("id").nullable is False


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        (("ID",), SchemaMismatch, 'primary key column "ID" is not among the columns "id", "tags"'),
        (("id", "id"), InvalidRequest, "the primary key names a column twice: id, id"),
        (("tags",), SchemaMismatch, 'primary key column "tags" is list<item: int64>, which has no order'),
    ],
)
def test_a_key_is_made_of_columns_with_an_order(
    lake: Lake, key: tuple[str, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        lake.write(Mode.CREATE, pa.table({"id": [1], "tags": [[1]]}), primary_key=key)

    assert str(caught.value).startswith(message)


def test_an_append_keeps_the_key_and_a_replacement_may_change_it(lake: Lake) -> None:
    lake.write(Mode.CREATE, PEOPLE, primary_key=("id",))

    with pytest.raises(InvalidRequest) as caught:
        lake.write(Mode.APPEND, PEOPLE, primary_key=("name",))
    lake.write(Mode.REPLACE, PEOPLE)
    kept = lake.dataset().primary_key
    lake.write(Mode.REPLACE, PEOPLE, primary_key=("name",))
    changed = lake.dataset().primary_key
    lake.write(Mode.REPLACE, PEOPLE.select(["id"]))
    gone = lake.dataset().primary_key

    assert (kept, changed, gone) == (("id",), ("name",), ())
    assert str(caught.value) == (
        'dataset "primary".flights has the primary key id, the request says name: leave the key out, or drop the '
        "dataset first"
    )


def test_lineage_says_where_rows_came_from(lake: Lake) -> None:
    lake.write(Mode.CREATE, PEOPLE)
    lake.write(Mode.APPEND, OTHERS)
    lake.write(Mode.APPEND, OTHERS, content="c1")

    found = lake.dataset().lineage

    assert [(entry.system, entry.source, entry.rows, entry.content) for entry in found] == [
        ("arrow", "test", 2, None),
        ("arrow", "test", 1, "c1"),
    ]


@pytest.mark.parametrize("mode", [Mode.APPEND, Mode.CREATE_APPEND])
def test_the_same_bytes_are_appended_once(lake: Lake, mode: Mode) -> None:
    lake.write(Mode.CREATE, PEOPLE, content="c1")
    files = lake.files()

    request = WriteRequest(
        name="flights",
        bucket="primary",
        mode=mode,
        schema=PEOPLE.schema,
        operation=Operation(new_ulid(), "append"),
        lineage_system="file",
        lineage_source="people.csv",
        content="c1",
    )
    unread = iter(OTHERS.to_batches())
    result = lake.tables.write(request, unread)

    assert (result.unchanged, result.version, result.rows) == (True, 2, 0)
    assert list(unread) == OTHERS.to_batches()
    assert lake.files() == files


def test_the_same_bytes_are_known_after_the_dataset_has_evolved(lake: Lake) -> None:
    lake.write(Mode.CREATE, PEOPLE, content="c1")
    lake.write(Mode.APPEND, pa.table({"id": [9], "name": ["x"], "born": [1]}), evolve=True)

    assert lake.write(Mode.APPEND, PEOPLE, content="c1").unchanged


def test_replacing_a_dataset_by_what_it_is_changes_nothing(lake: Lake) -> None:
    lake.write(Mode.REPLACE, PEOPLE, content="c1")

    assert lake.write(Mode.REPLACE, PEOPLE, content="c1").unchanged
    assert lake.dataset().version == 2


@pytest.mark.parametrize("content", ["c2", None], ids=["file", "insert"])
def test_replacing_a_dataset_that_has_grown_restores_it(lake: Lake, content: str | None) -> None:
    lake.write(Mode.CREATE, PEOPLE, content="c1")
    lake.write(Mode.APPEND, OTHERS, content=content)

    result = lake.write(Mode.REPLACE, PEOPLE, content="c1")

    assert not result.unchanged
    assert lake.read().equals(PEOPLE)


def test_an_operation_that_was_committed_is_not_done_again(lake: Lake) -> None:
    operation = Operation(new_ulid(), "insert")
    lake.write(Mode.CREATE, PEOPLE, operation=operation)
    files = lake.files()

    again = lake.write(Mode.APPEND, PEOPLE, operation=operation)

    assert (again.rows, again.version, again.unchanged) == (2, 2, True)
    assert lake.read().equals(PEOPLE)
    assert lake.files() == files
