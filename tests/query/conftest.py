"""Result stores on a clock that the test moves, and results to put into them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from flightserver.query.results import ResultStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), ("name", pa.string())])
MIB = 1024 * 1024


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_store(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., ResultStore]]:
    opened: list[ResultStore] = []

    def build(**options: Any) -> ResultStore:
        defaults: dict[str, Any] = {"max_results": 50, "max_bytes": 64 * MIB, "ttl": timedelta(seconds=60)}
        store = ResultStore(tmp_path / "results", **(defaults | options), clock=clock)
        opened.append(store)
        return store

    yield build
    for store in opened:
        store.stop()


def numbered(rows: int, start: int = 0) -> pa.RecordBatch:
    ids = range(start, start + rows)
    return pa.record_batch([pa.array(ids, pa.int64()), pa.array([f"n{i}" for i in ids])], schema=SCHEMA)


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "results").iterdir() if path.suffix == ".arrows")


def keep(store: ResultStore, rows: int = 10, page_rows: int = 10) -> str:
    return store.store(SCHEMA, [numbered(rows)], page_rows).query_id
