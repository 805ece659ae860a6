"""Statements that are refused while others write to their table: only a move of the table makes them begin again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from bucketing import add_bucket
from query.asking import rows, run
from tables.moving import before_each_commit, move

from flightserver.catalog.entities import DatasetKey
from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.errors import NotFound
from flightserver.federation.lifecycle import described
from flightserver.query.engine import Engine
from flightserver.query.following import following
from flightserver.query.language.changes import TableName
from flightserver.query.namespace import Scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from flightserver.catalog.entities import Dataset
    from flightserver.lakehouse import Lakehouse


@pytest.fixture
def busy(lakehouse: Lakehouse) -> Lakehouse:
    """`trips` in `primary`, `more` in bucket `archive`; there is a bucket `far`."""
    for bucket in ("archive", "far"):
        add_bucket(lakehouse, bucket)
    run(lakehouse, "CREATE TABLE trips AS SELECT 1 AS id")
    run(lakehouse, 'CREATE TABLE "archive".more AS SELECT 2 AS id')
    return lakehouse


def append(lakehouse: Lakehouse) -> None:
    run(lakehouse, "INSERT INTO trips VALUES (9)")


@pytest.mark.parametrize("source", ["more", '"archive".more'])
def test_an_insert_whose_source_was_dropped_is_not_done_again_for_rows_that_others_add(
    busy: Lakehouse, source: str
) -> None:
    """A move makes it begin again, and by then there is no source; others add rows to its table all the time."""
    insert, asked, left = Engine.insert, [], ["far"]

    def overtake() -> None:
        while left:
            move(busy, "trips", left.pop())
            run(busy, 'DROP TABLE "archive".more')

    def beside(engine: Engine, sql: str, *given: Any, **options: Any) -> Any:
        if source in sql:
            asked.append(sql)
            if not left:
                append(busy)
        return insert(engine, sql, *given, **options)

    with (
        before_each_commit(busy, "insert", overtake),
        patch.object(Engine, "insert", beside),
        pytest.raises(NotFound, match="there is no dataset 'more'"),
    ):
        run(busy, f"INSERT INTO trips SELECT id FROM {source}")

    assert len(asked) == 2
    assert rows(busy, "SELECT id FROM trips ORDER BY id") == [(1,), (9,)]


def attempts(lakehouse: Lakehouse, act: Callable[[], object]) -> int:
    """How often something is done to `trips` that is refused in the end, while others add rows."""
    done: list[DatasetKey] = []

    def once(dataset: Dataset, _scope: Scope) -> None:
        done.append(dataset.key)
        append(lakehouse)
        act()

    with pytest.raises(NotFound):
        following(TableName("trips"), Scope(lakehouse.catalog.snapshot()), lakehouse.catalog, once)
    return len(done)


def test_what_is_not_there_beside_the_table_is_asked_for_once(busy: Lakehouse) -> None:
    snapshot = busy.catalog.snapshot
    more = DatasetKey("archive", "trips")
    by = Operation(new_ulid(), "test")

    assert attempts(busy, lambda: snapshot().dataset("gone")) == 1
    assert attempts(busy, lambda: snapshot().dataset("trips", "archive")) == 1
    assert attempts(busy, lambda: snapshot().dataset("trips", "nowhere")) == 1
    assert attempts(busy, lambda: described(busy.catalog, "nowhere")) == 1
    assert attempts(busy, lambda: busy.versions.untag(more, "t", by)) == 1


def test_a_table_that_was_away_is_changed_when_it_is_back(busy: Lakehouse) -> None:
    """Whoever missed it was told so by what looks names up, or by the commit."""
    key, done = DatasetKey("primary", "trips"), []

    def tag(dataset: Dataset, _scope: Scope) -> int:
        done.append(dataset.key)
        if len(done) > 1:
            return busy.versions.tag(dataset.key, "t", None, Operation(new_ulid(), "tag"))
        move(busy, "trips", "far")
        try:
            return busy.versions.tag(key, "t", None, Operation(new_ulid(), "tag"))
        finally:
            move(busy, "trips", "primary", source="far")

    named = following(TableName("trips"), Scope(busy.catalog.snapshot()), busy.catalog, tag)
    assert done == [key, key]
    assert busy.catalog.snapshot().datasets[key].tags == {"t": named}
