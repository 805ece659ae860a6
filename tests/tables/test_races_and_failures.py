"""Writes that meet each other, and writes that fail: rows land once or not at all."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pyarrow as pa
import pytest
from tables.lake import Lake, before_commit

from flightserver.catalog.catalog import Catalog
from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.errors import (
    AlreadyExists,
    BackendUnavailable,
    CommitConflict,
)
from flightserver.tables.writes import Mode, WriteRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

PEOPLE = pa.table({"id": [1, 2], "name": ["Ada", "Grace"]})
OTHERS = pa.table({"id": [3], "name": ["Alan"]})


def test_concurrent_appends_all_land_with_rows_of_their_own(lake: Lake) -> None:
    lake.write(Mode.CREATE, PEOPLE.schema.empty_table())
    barrier = threading.Barrier(8)

    def append(writer: int) -> None:
        barrier.wait()
        lake.write(Mode.APPEND, pa.table({"id": [writer] * 50, "name": [str(writer)] * 50}))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(append, range(8)))

    assert sorted(lake.row_ids()) == list(range(400))
    rows = lake.read().to_pylist()
    assert sorted(row["id"] for row in rows) == sorted(list(range(8)) * 50)
    assert all(str(row["id"]) == row["name"] for row in rows)


def test_two_processes_may_create_or_append_at_once(lake: Lake) -> None:
    other = Catalog.open(lake.bucket.objects)
    second = Lake(
        lake.root, lake.bucket, lake.buckets, other, type(lake.tables)(other, lake.buckets, lake.tables._layout)
    )

    with before_commit(lake, lambda: second.write(Mode.CREATE_APPEND, PEOPLE)):
        lake.write(Mode.CREATE_APPEND, OTHERS)

    assert lake.read().equals(pa.concat_tables([PEOPLE, OTHERS]))
    assert lake.row_ids() == [0, 1, 2]
    assert sum(key.endswith(".parquet") for key in lake.files()) == 2
    other.close()


def test_losing_the_race_to_create_is_already_exists(lake: Lake) -> None:
    with (
        before_commit(lake, lambda: lake.write(Mode.CREATE, PEOPLE)),
        pytest.raises(AlreadyExists, match="exists already, at version 2"),
    ):
        lake.write(Mode.CREATE, OTHERS)

    assert lake.read().equals(PEOPLE)
    assert sum(key.endswith(".parquet") for key in lake.files()) == 1


def test_a_schema_that_changed_meanwhile_is_a_conflict_that_leaves_nothing(lake: Lake) -> None:
    lake.write(Mode.CREATE, PEOPLE)
    evolved = pa.table({"id": [9], "name": ["x"], "born": [1]})

    with (
        before_commit(lake, lambda: lake.write(Mode.APPEND, evolved, evolve=True)),
        pytest.raises(CommitConflict, match="retry is safe"),
    ):
        lake.write(Mode.APPEND, OTHERS)

    assert lake.read().num_rows == 3
    assert sum(key.endswith(".parquet") for key in lake.files()) == 2


def test_the_same_bytes_sent_twice_at_once_land_once(lake: Lake) -> None:
    lake.write(Mode.CREATE, PEOPLE)

    with before_commit(lake, lambda: lake.write(Mode.APPEND, OTHERS, content="c1")):
        result = lake.write(Mode.APPEND, OTHERS, content="c1")

    assert result.unchanged
    assert lake.read().equals(pa.concat_tables([PEOPLE, OTHERS]))
    assert sum(key.endswith(".parquet") for key in lake.files()) == 2


def test_replace_does_not_mind_what_others_replaced(lake: Lake) -> None:
    lake.write(Mode.CREATE, PEOPLE)

    with before_commit(lake, lambda: lake.write(Mode.REPLACE, pa.table({"x": [1]}))):
        lake.write(Mode.REPLACE, OTHERS)

    assert lake.read().equals(OTHERS)


def test_a_source_that_fails_leaves_nothing(lake: Lake) -> None:
    lake.write(Mode.CREATE, PEOPLE)
    files = lake.files()

    def source() -> Iterator[Any]:
        yield from pa.table({"id": range(5000), "name": ["x"] * 5000}).to_batches()
        message = "the sender went away"
        raise ConnectionError(message)

    request = WriteRequest(
        name="flights",
        bucket="primary",
        mode=Mode.APPEND,
        schema=PEOPLE.schema,
        operation=Operation(new_ulid(), "append"),
        lineage_system="arrow",
        lineage_source="",
    )
    with pytest.raises(ConnectionError, match="the sender went away"):
        lake.tables.write(request, source())

    assert lake.read().equals(PEOPLE)
    assert lake.files() == files


def test_a_commit_of_unknown_outcome_keeps_its_files(lake: Lake) -> None:
    commit = lake.catalog.commit

    def answer_lost(transaction: Any) -> Any:
        commit(transaction)
        message = "the store did not answer"
        raise BackendUnavailable(message)

    with patch.object(lake.catalog, "commit", answer_lost), pytest.raises(BackendUnavailable):
        lake.write(Mode.CREATE, PEOPLE)

    assert lake.read().equals(PEOPLE)


_DYING = """
import os, sys
from pathlib import Path
from unittest.mock import patch
import pyarrow as pa
from flightserver.catalog.catalog import Catalog
from flightserver.catalog.log import Operation
from flightserver.storage.buckets import Buckets, OpenBucket
from flightserver.storage.local import LocalObjects
from flightserver.tables.segments import Layout
from flightserver.tables.writes import Mode, Tables, WriteRequest

root = Path(sys.argv[1])
objects = LocalObjects(root)
buckets = Buckets()
buckets.add(OpenBucket("primary", objects, "lakehouse-primary", root))
tables = Tables(Catalog.open(objects), buckets, Layout(row_group_rows=100, file_bytes=1))
table = pa.table({"id": range(500), "name": ["x"] * 500})
request = WriteRequest(name="flights", bucket="primary", mode=Mode.APPEND, schema=table.schema,
    operation=Operation("OP", "append"), lineage_system="arrow", lineage_source="")
with patch.object(tables._catalog, "commit", lambda transaction: os._exit(9)):
    tables.write(request, table.to_batches())
"""
"""Dies after its segment is durable and before the commit: the worst moment there is."""


def test_a_process_that_dies_before_its_commit_has_changed_nothing(lake: Lake) -> None:
    lake.write(Mode.CREATE, PEOPLE)
    before = lake.catalog.snapshot()

    died = subprocess.run([sys.executable, "-c", _DYING, str(lake.root)], check=False, timeout=60)

    assert died.returncode == 9
    assert len(lake.files()) > 2
    assert lake.catalog.snapshot() == before
    assert Catalog.open(lake.bucket.objects).snapshot().datasets == before.datasets
    assert lake.read().equals(PEOPLE)
