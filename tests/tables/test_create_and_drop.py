"""Datasets that are created without rows, and dropped."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from tables.lake import Lake, before_commit

from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.errors import (
    AlreadyExists,
    NotFound,
)
from flightserver.tables.schema import decode
from flightserver.tables.writes import CreateRequest, Mode, OnExisting

PEOPLE = pa.table({"id": [1, 2], "name": ["Ada", "Grace"]})
OTHERS = pa.table({"id": [3], "name": ["Alan"]})


def _create(lake: Lake, schema: Any, *, name: str = "flights", **options: Any) -> Any:
    operation = options.pop("operation", None) or Operation(new_ulid(), "create table")
    return lake.tables.create(CreateRequest(name=name, bucket="primary", schema=schema, operation=operation, **options))


def test_create_makes_an_empty_dataset_with_key_and_comments(lake: Lake) -> None:
    schema = pa.schema([("id", pa.int32()), pa.field("name", pa.large_string(), metadata={"comment": "given name"})])

    result = _create(lake, schema, primary_key=("id",), comment="who is who")

    dataset = lake.dataset()
    kept = decode(dataset.schema)
    assert (dataset.comment, dataset.primary_key, dataset.rows) == ("who is who", ("id",), 0)
    assert kept == pa.schema([pa.field("id", pa.int32(), nullable=False), ("name", pa.string())])
    assert kept.field("name").metadata == {b"comment": b"given name"}
    assert (result.version, result.unchanged) == (2, False)


def test_create_follows_on_existing(lake: Lake) -> None:
    lake.write(Mode.CREATE, PEOPLE)
    first = lake.dataset()

    with pytest.raises(AlreadyExists, match="exists already, at version 2"):
        _create(lake, OTHERS.schema)
    assert _create(lake, OTHERS.schema, on_existing=OnExisting.KEEP).unchanged
    assert lake.dataset() == first

    _create(lake, pa.schema([("x", pa.int8())]), on_existing=OnExisting.REPLACE, primary_key=("x",))
    assert lake.dataset().id != first.id
    assert lake.read().schema == pa.schema([pa.field("x", pa.int8(), nullable=False)])


@pytest.mark.parametrize("on_existing", OnExisting)
def test_create_looks_again_when_another_was_faster(lake: Lake, on_existing: OnExisting) -> None:
    with before_commit(lake, lambda: lake.write(Mode.CREATE, PEOPLE)):
        if on_existing is OnExisting.REFUSE:
            with pytest.raises(AlreadyExists):
                _create(lake, OTHERS.schema)
        else:
            _create(lake, OTHERS.schema, on_existing=on_existing)

    assert lake.read().num_rows == (0 if on_existing is OnExisting.REPLACE else 2)


def test_a_create_that_happened_is_not_repeated(lake: Lake) -> None:
    operation = Operation(new_ulid(), "create table")
    _create(lake, PEOPLE.schema, operation=operation)

    assert _create(lake, PEOPLE.schema, operation=operation).unchanged


def test_a_dropped_dataset_is_gone_and_its_past_can_be_read(lake: Lake) -> None:
    lake.write(Mode.CREATE, PEOPLE)
    operation = Operation(new_ulid(), "drop table")

    assert lake.tables.drop("flights", "primary", operation) is True
    assert lake.tables.drop("flights", "primary", operation) is True

    assert lake.catalog.snapshot().datasets == {}
    assert lake.catalog.snapshot_at(2).dataset("flights", "primary").rows == 2
    assert len(lake.files()) == 2


def test_dropping_nothing_is_not_found_unless_that_is_fine(lake: Lake) -> None:
    with pytest.raises(NotFound):
        lake.tables.drop("flights", "primary", Operation(new_ulid(), "drop table"))

    assert lake.tables.drop("flights", "primary", Operation(new_ulid(), "drop table"), if_exists=True) is False


@pytest.mark.parametrize("if_exists", [True, False])
def test_a_drop_that_comes_second_finds_nothing(lake: Lake, *, if_exists: bool) -> None:
    lake.write(Mode.CREATE, PEOPLE)

    def drop(*, if_exists: bool) -> bool:
        return lake.tables.drop("flights", "primary", Operation(new_ulid(), "drop table"), if_exists=if_exists)

    with before_commit(lake, lambda: drop(if_exists=False)):
        if if_exists:
            assert drop(if_exists=True) is False
        else:
            with pytest.raises(NotFound):
                drop(if_exists=False)
