"""When the server compacts by itself, and sorted compaction by the engine."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import msgspec
import numpy as np
import pytest
from query.asking import count, rows, run

from flightserver.catalog.entities import Dataset, Delta, External, Segment
from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.errors import InvalidRequest, NotFound
from flightserver.lakehouse import Lakehouse
from flightserver.query.maintenance import COMPACTED, AutoCompaction, Budget, Decision, Measures, decide
from flightserver.settings import CompactionSettings, Settings
from flightserver.tables.compaction import CompactResult
from flightserver.tables.selection import Wanted
from flightserver.tables.zorder import ZOrder
from flightserver.telemetry import Events

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024 * 1024
SETTINGS = CompactionSettings(auto=True)
PLENTY = Budget(per_hour=1024 * MIB, left=1024 * MIB, since=0.0)


def _segment(number: int, size: int, *, dead: int = 0) -> Segment:
    return Segment(f"s{number}", "primary", f"datasets/t/{number}", 1, 1000, size, "f", dead=dead)


def _dataset(*segments: Segment, deltas: int = 0) -> Dataset:
    return Dataset(
        "id",
        "primary",
        "t",
        b"",
        "f",
        datetime(2026, 1, 1, tzinfo=UTC),
        segments=segments,
        deltas=tuple(Delta(f"d{number}", "primary", "k", 1, 1, {"s0": 1}) for number in range(deltas)),
    )


def _patient(*, dead_ratio: float = 0.1) -> Wanted:
    return Wanted(target_bytes=256 * MIB, small_bytes=32 * MIB, dead_ratio=dead_ratio)


def test_a_dataset_with_many_dead_rows_is_compacted_where_they_are() -> None:
    dataset = _dataset(_segment(0, 256 * MIB, dead=400), _segment(1, 256 * MIB, dead=10), deltas=3)

    assert decide(dataset, SETTINGS, PLENTY, 0.0) == Decision(
        key=dataset.key,
        reason="delta_ratio",
        urgency=0.205 / 0.1,
        measures=Measures(rows=2000, dead=410, deltas=3, segments=2, small=0),
        wanted=_patient(),
        bytes=256 * MIB * 600 // 1000,
        allowed=True,
    )


@pytest.mark.parametrize(
    ("dataset", "reason", "wanted"),
    [
        (_dataset(*(_segment(number, MIB) for number in range(16))), "small_files", _patient()),
        (
            _dataset(*(_segment(number, (33 if number < 62 else 1) * MIB) for number in range(64))),
            "max_segments",
            _patient(),
        ),
        (_dataset(_segment(0, 256 * MIB, dead=50), deltas=256), "max_deltas", _patient(dead_ratio=0.0)),
    ],
    ids=["small files", "segments", "deltas"],
)
def test_each_limit_leads_to_a_compaction(dataset: Dataset, reason: str, wanted: Wanted) -> None:
    decision = decide(dataset, SETTINGS, PLENTY, 0.0)

    assert decision is not None
    assert (decision.reason, decision.wanted) == (reason, wanted)


@pytest.mark.parametrize(
    "dataset",
    [
        _dataset(),
        _dataset(_segment(0, MIB, dead=99), deltas=255),
        _dataset(*(_segment(number, MIB) for number in range(15))),
        _dataset(*(_segment(number, 33 * MIB) for number in range(100))),
        msgspec.structs.replace(_dataset(), external=External("delta", "theirs")),
    ],
    ids=["empty", "few dead rows", "few small files", "nothing to merge", "attached"],
)
def test_a_dataset_within_its_limits_is_left_alone(dataset: Dataset) -> None:
    assert decide(dataset, SETTINGS, PLENTY, 0.0) is None


def test_a_budget_is_refilled_evenly_up_to_an_hour_and_may_be_overdrawn() -> None:
    full = Budget(per_hour=3600, left=3600, since=100.0)
    spent = full.spent(5000, 100.0)

    assert [full.at(100.0), full.at(5000.0)] == [3600, 3600]
    assert [spent.at(100.0), spent.at(1500.0), spent.at(1501.0), spent.at(9999.0)] == [-1400, 0, 1, 3600]
    dataset = _dataset(_segment(0, 256 * MIB, dead=400))
    allowed = [decide(dataset, SETTINGS, spent, now) for now in (1500.0, 1501.0)]
    assert [one is not None and one.allowed for one in allowed] == [False, True]


class _Clock:
    """Seconds that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _auto(lakehouse: Lakehouse, clock: _Clock | None = None, **settings: Any) -> tuple[AutoCompaction, Events]:
    events = Events()
    chosen = CompactionSettings(auto=True, **settings)
    auto = AutoCompaction(lakehouse.compactor, lakehouse.catalog, chosen, events, clock=clock or _Clock())
    return auto, events


def _told(events: Events) -> list[tuple[str, str, dict[str, Any]]]:
    return [(one.kind, one.dataset, json.loads(one.detail)) for one in events.entries()]


def _fill(lakehouse: Lakehouse, name: str, inserts: int) -> None:
    run(lakehouse, f"CREATE TABLE {name} (id BIGINT)")
    for number in range(inserts):
        run(lakehouse, f"INSERT INTO {name} VALUES ({number}), ({number + 100})")


def test_what_was_decided_and_done_is_told_with_its_numbers(lakehouse: Lakehouse) -> None:
    _fill(lakehouse, "many", 4)
    _fill(lakehouse, "few", 2)
    count(lakehouse, "DELETE FROM many WHERE id = 2")
    auto, events = _auto(lakehouse, small_files=4, delta_ratio=0.5)

    auto.look()
    auto.look()

    after = lakehouse.catalog.snapshot().dataset("many", "primary")
    written = after.segments[0]
    detail = {
        "reason": "small_files",
        "rows": 8,
        "dead": 1,
        "deltas": 1,
        "segments": 4,
        "small": 4,
        "version": after.version,
        "files_before": 4,
        "files_after": 1,
        "deltas_folded": 1,
        "bytes": written.bytes,
        "starts": 1,
        "seconds": 0.0,
    }
    assert _told(events) == [("compacted", "many", detail)]
    assert (written.rows, after.rows) == (7, 7)


def test_the_neediest_is_first_and_the_others_wait_for_the_budget(lakehouse: Lakehouse) -> None:
    _fill(lakehouse, "needy", 4)
    _fill(lakehouse, "needier", 6)
    clock = _Clock()
    auto, events = _auto(lakehouse, clock, small_files=3, bytes_per_hour=10)

    auto.look()
    clock.now = 1e9
    auto.look()

    told = [(kind, name) for kind, name, _ in _told(events)]
    assert told == [("compacted", "needier"), ("compaction postponed", "needy"), ("compacted", "needy")]


def test_a_compaction_that_another_server_made_needless_is_told(lakehouse: Lakehouse) -> None:
    _fill(lakehouse, "t", 4)
    auto, events = _auto(lakehouse, small_files=4)
    other, _ = _auto(lakehouse, small_files=4)
    original = lakehouse.catalog.commit
    left = [other.look]

    def interrupted(transaction: Any) -> Any:
        while left:
            left.pop()()
        return original(transaction)

    with patch.object(lakehouse.catalog, "commit", interrupted):
        auto.look()

    [(kind, name, detail)] = _told(events)
    assert (kind, name, detail["starts"]) == ("compaction lost", "t", 2)
    assert rows(lakehouse, "SELECT count(*) FROM t") == [(8,)]


def test_a_compaction_that_fails_is_told_and_the_others_go_on(lakehouse: Lakehouse, settings: Settings) -> None:
    _fill(lakehouse, "broken", 5)
    _fill(lakehouse, "whole", 4)
    segment = lakehouse.catalog.snapshot().dataset("broken", "primary").segments[2]
    (settings.server.data / "primary" / segment.object_keys()[0]).unlink()
    auto, events = _auto(lakehouse, small_files=4)

    auto.look()

    failed, done = _told(events)
    assert (failed[:2], failed[2]["code"]) == (("compaction failed", "broken"), "FS-3004")
    assert "can't be read: restore it from a backup" in failed[2]["error"]
    assert done[:2] == ("compacted", "whole")


@contextmanager
def _opened(settings: Settings, **compaction: Any) -> Iterator[Lakehouse]:
    chosen = msgspec.structs.replace(settings.compaction, **compaction)
    with Lakehouse.open(msgspec.structs.replace(settings, compaction=chosen)) as lakehouse:
        yield lakehouse


def test_the_thread_compacts_by_itself_and_events_are_a_table(settings: Settings) -> None:
    done = threading.Event()
    record = Events.record

    def recorded(self: Events, kind: str, *args: Any, **detail: Any) -> None:
        record(self, kind, *args, **detail)
        if kind == COMPACTED:
            done.set()

    with (
        patch.object(Events, "record", recorded),
        _opened(settings, auto=True, interval_seconds=0.01, small_files=3) as lakehouse,
    ):
        _fill(lakehouse, "t", 3)
        assert done.wait(60)
        told = rows(
            lakehouse,
            "SELECT bucket, dataset, detail LIKE '%small_files%' FROM system.events WHERE kind = 'compacted' LIMIT 1",
        )

    assert told == [("primary", "t", True)]
    assert not [thread for thread in threading.enumerate() if thread.name == "auto-compaction"]


def test_it_is_not_done_unless_asked_for(settings: Settings) -> None:
    with _opened(settings):
        assert not [thread for thread in threading.enumerate() if thread.name == "auto-compaction"]


def test_the_end_of_the_server_gives_a_compaction_up(lakehouse: Lakehouse, settings: Settings) -> None:
    _fill(lakehouse, "t", 4)
    auto, events = _auto(lakehouse, small_files=4)
    files = sorted((settings.server.data / "primary" / "datasets").rglob("*"))
    original = lakehouse.compactor.compact

    def stopped(*args: Any) -> Any:
        auto.stop()
        return original(*args)

    with patch.object(type(lakehouse.compactor), "compact", lambda _, *args: stopped(*args)):
        auto.look()

    assert events.entries() == []
    assert sorted((settings.server.data / "primary" / "datasets").rglob("*")) == files


def _compact(lakehouse: Lakehouse, name: str, **order: tuple[str, ...]) -> CompactResult:
    ordered = lakehouse.sorting.ordered(order.get("sort_by", ()), order.get("z_order", ()))
    key = lakehouse.catalog.snapshot().dataset(name, "primary").key
    operation = Operation(new_ulid(), "compact")
    *_, result = lakehouse.compactor.compact(key, operation, lakehouse.compactor.wanted(), ordered)
    assert isinstance(result, CompactResult)
    return result


def _people(lakehouse: Lakehouse) -> None:
    run(
        lakehouse,
        'CREATE TABLE people AS SELECT value AS id, value * 7919 % 1000 AS "a ""b""", '
        "CASE WHEN value % 10 > 0 THEN 'n' || (value * 31 % 97) END AS name, value % 13 * 0.5 AS score "
        "FROM generate_series(1, 20000)",
    )
    run(lakehouse, "UPDATE people SET score = -1 WHERE id % 100 = 5")
    run(lakehouse, "DELETE FROM people WHERE id % 100 = 6")


def test_rows_are_sorted_by_the_engine(lakehouse: Lakehouse) -> None:
    _people(lakehouse)
    expected = run(lakehouse, 'SELECT * FROM people ORDER BY name, "a ""b""", id')

    result = _compact(lakehouse, "people", sort_by=("name", 'a "b"', "id"))
    after = lakehouse.catalog.snapshot().dataset("people", "primary")

    assert run(lakehouse, "SELECT * FROM people") == expected
    assert (len(after.segments), after.deltas, result.rows, result.deltas_folded) == (1, (), 19_800, 2)


def test_a_table_all_of_whose_columns_are_newer_than_its_files_keeps_its_rows(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE t (a BIGINT)")
    run(lakehouse, "INSERT INTO t VALUES (1), (2)")
    run(lakehouse, "INSERT INTO t VALUES (3)")
    run(lakehouse, "ALTER TABLE t ADD COLUMN b VARCHAR")
    run(lakehouse, "ALTER TABLE t DROP COLUMN a")
    run(lakehouse, "ALTER TABLE t ADD COLUMN a DOUBLE")

    result = _compact(lakehouse, "t")

    assert (result.rows, result.files_after) == (3, 1)
    assert rows(lakehouse, "SELECT * FROM t") == [(None, None)] * 3


def test_a_renamed_column_can_be_what_rows_are_sorted_by(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE t (a BIGINT, b BIGINT)")
    run(lakehouse, "INSERT INTO t VALUES (1, 3), (2, 2), (3, 1)")
    run(lakehouse, "ALTER TABLE t RENAME COLUMN b TO c")
    run(lakehouse, "ALTER TABLE t ADD COLUMN b BIGINT")
    run(lakehouse, "INSERT INTO t VALUES (4, 0, 9)")

    _compact(lakehouse, "t", sort_by=("c",))
    sorted_rows = rows(lakehouse, "SELECT * FROM t")
    _compact(lakehouse, "t", z_order=("b", "c"))

    assert sorted_rows == [(4, 0, 9), (3, 1, None), (2, 2, None), (1, 3, None)]
    assert rows(lakehouse, "SELECT * FROM t") == [(3, 1, None), (2, 2, None), (1, 3, None), (4, 0, 9)]


def test_rows_in_z_order_are_the_same_rows(lakehouse: Lakehouse) -> None:
    _people(lakehouse)
    expected = run(lakehouse, "SELECT * FROM people ORDER BY id")
    before = lakehouse.catalog.snapshot().dataset("people", "primary")
    order = ZOrder.of(before, ("name", "score", 'a "b"'), lakehouse.buckets)

    result = _compact(lakehouse, "people", z_order=("name", "score", 'a "b"'))

    assert run(lakehouse, "SELECT * FROM people ORDER BY id") == expected
    assert (result.files_after, result.unchanged) == (1, False)
    table = run(lakehouse, 'SELECT name, score, "a ""b""" FROM people')
    numbers = order.numbers(*(column.combine_chunks() for column in table.columns)).to_numpy()
    assert (np.diff(numbers) >= 0).all()


def test_a_statement_that_a_sorted_compaction_overtook_is_not_refused(lakehouse: Lakehouse) -> None:
    _people(lakehouse)
    original = lakehouse.catalog.commit
    left = [lambda: _compact(lakehouse, "people", sort_by=("name",))]

    def interrupted(transaction: Any) -> Any:
        while left:
            left.pop()()
        return original(transaction)

    with patch.object(lakehouse.catalog, "commit", interrupted):
        changed = count(lakehouse, "DELETE FROM people WHERE id % 1000 = 7")

    assert changed == 20
    assert rows(lakehouse, "SELECT count(*), min(id % 1000) FROM people WHERE id % 100 = 7") == [(180, 107)]


def test_an_order_that_cannot_be_is_refused(lakehouse: Lakehouse) -> None:
    _people(lakehouse)

    with pytest.raises(InvalidRequest, match="sort_by and z_order are both given: rows have one order"):
        _compact(lakehouse, "people", sort_by=("id",), z_order=("id",))
    with pytest.raises(NotFound, match="has no column 'nope' to order its rows by: there are id,"):
        _compact(lakehouse, "people", sort_by=("nope",))
