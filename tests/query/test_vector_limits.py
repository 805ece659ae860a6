"""What searches may take of a server: memory for what they find, and no thread that other statements need."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from query.asking import rows, run
from query.vectors import make_index

from flightserver.errors import LimitExceeded
from flightserver.lakehouse import Lakehouse
from flightserver.settings import load_settings
from flightserver.vectors.searching import Searcher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flightserver.tables.nearest import Nearest

MIB = 2**20


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Lakehouse]:
    """A lakehouse whose searches may hold 2 MiB, and documents of 1 KiB."""
    with Lakehouse.open(
        load_settings(None, {"server": {"data": tmp_path / "data"}, "query": {"memory_bytes": 8 * MIB}})
    ) as lakehouse:
        run(
            lakehouse,
            "CREATE TABLE docs AS SELECT value AS id, [value, 0.0] AS e, repeat('x', 1024) AS text "
            "FROM generate_series(1, 4000)",
        )
        make_index(lakehouse, "near", "docs", metric="l2")
        yield lakehouse


def joined(count: int) -> str:
    """A statement that reads what several searches have found, each 256 KiB."""
    parts = [f"SELECT id, text FROM vector_search('near', [{number}, 0], 256)" for number in range(count)]
    return f"SELECT count(text) FROM ({' UNION ALL '.join(parts)})"


def test_what_searches_find_is_bounded_by_memory(small: Lakehouse) -> None:
    told = "hold more than 2,097,152 bytes .* ask for fewer rows"

    assert rows(small, joined(4)) == [(4 * 256,)]
    for sql in (joined(12), "SELECT count(text) FROM vector_search('near', [1, 0], 4000)"):
        with pytest.raises(LimitExceeded, match=told):
            run(small, sql)
    run(small, "CREATE VIEW many AS SELECT * FROM vector_search('near', [1, 0], 4000)")
    with pytest.raises(LimitExceeded, match=told):
        run(small, "SELECT count(text) FROM many")
    assert rows(small, joined(1)) == [(256,)]


def test_no_statement_waits_for_searches_of_others(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    run(lakehouse, "CREATE TABLE docs AS SELECT 1 AS id, [1.0, 0.0] AS e")
    make_index(lakehouse, "near", "docs")
    run(lakehouse, "CREATE VIEW nearest AS SELECT id FROM vector_search('near', [1, 0], 1)")
    nearest, begun, go_on = Searcher.nearest, threading.Semaphore(0), threading.Event()

    def slow(*arguments: Any) -> Nearest:
        begun.release()
        assert go_on.wait(60)
        return nearest(*arguments)

    monkeypatch.setattr(Searcher, "nearest", slow)
    with ThreadPoolExecutor(8) as pool:
        searching = [pool.submit(rows, lakehouse, "SELECT id FROM nearest") for _ in range(7)]
        try:
            assert all(begun.acquire(timeout=30) for _ in searching)
            assert pool.submit(rows, lakehouse, "SELECT id FROM docs").result(30) == [(1,)]
        finally:
            go_on.set()
        assert [each.result() for each in searching] == [[(1,)]] * 7
