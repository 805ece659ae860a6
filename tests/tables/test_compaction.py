"""Compaction: what is rewritten, what stays, and that it gets into nobody's way."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from tables.compacting import (
    KEY,
    MIB,
    append,
    by_name_backwards,
    change,
    commit,
    compact,
    compactor,
    ids,
    numbered,
    remove,
    rows,
    segment_rows,
    staged,
)
from tables.lake import before_commit

from flightserver.catalog.entities import DatasetKey, External
from flightserver.catalog.log import Operation
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.ulid import new_ulid
from flightserver.catalog.updates import CreateDataset
from flightserver.errors import BackendUnavailable, CommitConflict, InvalidRequest, NotFound
from flightserver.tables.compaction import CompactResult, Step
from flightserver.tables.segments import read_manifest
from flightserver.tables.selection import Wanted
from flightserver.tables.versions import Versions
from flightserver.tables.writes import Mode

if TYPE_CHECKING:
    from tables.lake import Lake

SMALL = Wanted(target_bytes=64 * 1024, small_bytes=64 * 1024)


def test_deltas_are_folded_and_rows_keep_their_order(lake: Lake) -> None:
    append(lake, numbered(0, 3500))
    append(lake, numbered(3500, 500))
    change(lake, lambda found: found % 3 == 0, numbered(9000, 10))
    before = rows(lake)

    result = compact(lake)
    after = lake.dataset("t")

    assert rows(lake) == before
    assert result == CompactResult(
        key=KEY,
        version=after.version,
        files_before=3,
        files_after=1,
        deltas_folded=1,
        rows=before.num_rows,
        bytes=after.segments[0].bytes,
    )
    assert (segment_rows(lake), after.deltas, after.rows) == ([(before.num_rows, 0)], (), before.num_rows)


def test_a_second_compaction_finds_nothing_to_do(lake: Lake) -> None:
    append(lake, numbered(0, 100))
    append(lake, numbered(100, 100))
    version = compact(lake).version

    result = compact(lake)

    assert result == CompactResult(KEY, version, 1, 1, 0, 200, unchanged=True)
    assert lake.catalog.snapshot().version == version


def test_rows_are_counted_while_they_are_written(lake: Lake) -> None:
    append(lake, numbered(0, 2500))
    remove(lake, *range(500))
    one = compactor(lake)

    *steps, _ = one.compact(KEY, Operation(new_ulid(), "compact"), one.wanted())

    assert steps == [Step("rows", 500, 2000), Step("rows", 1500, 2000), Step("rows", 2000, 2000)]


def test_a_segment_that_is_large_and_whole_stays_and_splits_the_runs(lake: Lake) -> None:
    append(lake, numbered(0, 10))
    append(lake, numbered(10, 10))
    large = pa.table({"id": np.arange(20, 20_020), "name": [f"{number * 7919}" for number in range(20_000)]})
    append(lake, large)
    append(lake, numbered(20_020, 10))
    append(lake, numbered(20_030, 10))
    kept = lake.dataset("t").segments[2]

    result = compact(lake, SMALL)

    assert segment_rows(lake) == [(20, 0), (20_000, 0), (20, 0)]
    assert lake.dataset("t").segments[1].id == kept.id
    assert (result.files_before, result.files_after) == (4 + kept.files, 2 + kept.files)
    assert ids(lake) == list(range(20_040))


def test_files_are_cut_at_the_target_and_small_ones_of_a_large_segment_are_merged(lake: Lake) -> None:
    rng = np.random.default_rng(1)
    large = pa.table({"id": rng.integers(0, 2**62, 60_000), "name": ["x"] * 60_000})
    append(lake, large)
    append(lake, numbered(0, 10))
    remove(lake, large["id"][0].as_py())

    compact(lake, SMALL)
    files = read_manifest(lake.bucket, lake.dataset("t").segments[0]).files

    assert len(files) > 3
    assert all(file.size >= SMALL.target_bytes for file in files[:-1])
    assert compact(lake, SMALL).unchanged
    # With a larger target these files are too small.
    assert compact(lake).files_after == 1


def test_a_run_is_written_by_several_workers_and_rows_keep_their_order(lake: Lake) -> None:
    rng = np.random.default_rng(1)
    wide = pa.table({f"c{number}": rng.integers(0, 2**62, 200_000) for number in range(12)})
    two = Wanted(target_bytes=64 * MIB, small_bytes=64 * MIB, workers=2)
    append(lake, wide)
    append(lake, wide.slice(0, 1000))
    append(lake, wide.slice(5000, 1000))
    expected = rows(lake)

    result = compact(lake, two)

    assert rows(lake) == expected
    assert segment_rows(lake) == [(101_000, 0), (101_000, 0)]
    assert result.files_after == 2
    assert compact(lake, two).unchanged


def test_columns_that_came_later_or_were_widened_are_as_queries_see_them(lake: Lake) -> None:
    append(lake, pa.table({"id": pa.array([1, 2], pa.int32())}))
    lake.write(Mode.APPEND, pa.table({"id": [2**40], "name": ["x"]}), name="t", evolve=True)
    before = rows(lake)

    compact(lake)

    assert rows(lake) == before
    assert before.to_pydict() == {"id": [1, 2, 2**40], "name": [None, None, "x"]}


def test_earlier_versions_can_still_be_read(lake: Lake) -> None:
    append(lake, numbered(0, 50))
    remove(lake, 7)
    old = lake.dataset("t")

    compact(lake)

    assert rows(lake, old).column("id").to_pylist() == [number for number in range(50) if number != 7]


def test_rows_that_others_remove_meanwhile_stay_removed(lake: Lake) -> None:
    append(lake, numbered(0, 1500))
    append(lake, numbered(1500, 1500))
    remove(lake, 3, 1600)

    with before_commit(lake, lambda: change(lake, lambda found: np.isin(found, [4, 1601, 2999]), numbered(9000, 2))):
        result = compact(lake)

    gone = {3, 4, 1600, 1601, 2999}
    assert ids(lake) == [*(number for number in range(3000) if number not in gone), 9000, 9001]
    assert segment_rows(lake) == [(2998, 3), (2, 0)]
    assert (lake.dataset("t").rows, len(lake.dataset("t").deltas)) == (2997, 1)
    assert result.starts == 1
    assert compact(lake).rows == 2997


def test_removals_again_and_again_are_caught_up_with(lake: Lake) -> None:
    append(lake, numbered(0, 1000))
    remove(lake, 0)
    lost = iter(range(1, 6))
    original = lake.catalog.commit

    def interrupted(transaction: Any) -> Any:
        if transaction.operation.kind == "compact" and (number := next(lost, None)) is not None:
            remove(lake, number)
        return original(transaction)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lake.catalog, "commit", interrupted)
        result = compact(lake)

    assert (ids(lake), segment_rows(lake)) == (list(range(6, 1000)), [(999, 5)])
    assert (result.starts, len(lake.dataset("t").deltas)) == (1, 1)
    deltas = [key for key in lake.files() if "/deltas/" in key]
    assert len(deltas) == 7, "one of each removal, and one of the compaction"


def test_segments_that_lose_their_last_rows_meanwhile_cost_a_compaction_nothing(lake: Lake) -> None:
    append(lake, numbered(0, 10))
    append(lake, numbered(10, 10))
    append(lake, numbered(20, 10))
    remove(lake, 0, 21)

    with before_commit(lake, lambda: change(lake, lambda found: (found < 10) | (found == 25), numbered(50, 1))):
        result = compact(lake)

    assert ids(lake) == [*range(10, 20), 20, 22, 23, 24, 26, 27, 28, 29, 50]
    assert (segment_rows(lake), result.starts) == ([(28, 10), (1, 0)], 1)


def test_a_compaction_all_of_whose_rows_are_removed_meanwhile_leaves_nothing_behind(lake: Lake) -> None:
    append(lake, numbered(0, 10))
    remove(lake, 0)

    with before_commit(lake, lambda: change(lake, lambda found: found >= 0, numbered(50, 1))):
        result = compact(lake)

    assert (ids(lake), segment_rows(lake), lake.dataset("t").deltas) == ([50], [(1, 0)], ())
    assert (result.starts, result.unchanged) == (2, True)
    assert len([key for key in lake.files() if key.endswith("_segment.json")]) == 2, "of the rows that were written"


def test_a_compaction_does_not_undo_the_restoring_of_a_version(lake: Lake) -> None:
    append(lake, numbered(0, 10))
    version = lake.dataset("t").version
    remove(lake, 3)
    versions = Versions(lake.catalog, lake.buckets)

    with before_commit(lake, lambda: versions.restore(KEY, version, Operation(new_ulid(), "restore"))):
        result = compact(lake)

    assert (ids(lake), segment_rows(lake)) == (list(range(10)), [(10, 0)])
    assert (result.starts, result.unchanged) == (2, True)


def test_tags_and_appends_meanwhile_cost_a_compaction_nothing(lake: Lake) -> None:
    append(lake, numbered(0, 10))
    remove(lake, 3)
    versions = Versions(lake.catalog, lake.buckets)

    def others() -> None:
        append(lake, numbered(10, 2))
        versions.tag(KEY, "before", None, Operation(new_ulid(), "tag"))
        remove(lake, 4)

    with before_commit(lake, others):
        result = compact(lake)

    assert (ids(lake), segment_rows(lake)) == ([0, 1, 2, 5, 6, 7, 8, 9, 10, 11], [(9, 1), (2, 0)])
    assert (result.starts, list(lake.dataset("t").tags)) == (1, ["before"])


def test_a_compaction_that_another_overtook_begins_again(lake: Lake) -> None:
    append(lake, numbered(0, 10))
    append(lake, numbered(10, 10))

    def overtake() -> None:
        compact(lake)
        append(lake, numbered(20, 10))

    with before_commit(lake, overtake):
        result = compact(lake)

    assert (result.starts, result.unchanged, result.files_before, result.files_after) == (2, False, 2, 1)
    assert (ids(lake), segment_rows(lake)) == (list(range(30)), [(30, 0)])


def test_a_compaction_that_meets_a_new_schema_begins_again(lake: Lake) -> None:
    append(lake, numbered(0, 10))
    append(lake, numbered(10, 10))
    wide = numbered(20, 5).append_column("extra", pa.array([1] * 5))

    with before_commit(lake, lambda: lake.write(Mode.APPEND, wide, name="t", evolve=True)):
        result = compact(lake)

    assert (result.starts, segment_rows(lake)) == (2, [(25, 0)])
    assert rows(lake).column("extra").to_pylist() == [None] * 20 + [1] * 5


def test_who_is_overtaken_every_time_is_refused_and_leaves_nothing_behind(lake: Lake) -> None:
    append(lake, numbered(0, 10))
    append(lake, numbered(10, 10))
    original = lake.catalog.commit
    own: list[str] = []

    def replaced(transaction: Any) -> Any:
        if transaction.operation.kind == "compact":
            own.extend(one.directory for update in transaction.updates for one in update.segments)
            lake.write(Mode.REPLACE, numbered(0, 10), name="t")
            append(lake, numbered(10, 10))
        return original(transaction)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lake.catalog, "commit", replaced)
        with pytest.raises(CommitConflict, match=r'segments of dataset "primary".t 5 times .* a retry is safe'):
            compact(lake)

    assert ids(lake) == list(range(20))
    assert len(own) == 5
    assert not [key for key in lake.files() if key.startswith(tuple(own))]


def test_a_writer_that_compaction_overtook_is_not_refused(lake: Lake) -> None:
    append(lake, numbered(0, 1200))
    append(lake, numbered(1200, 1200))
    remove(lake, 5, 1300)

    with before_commit(lake, lambda: compact(lake)):
        change(lake, lambda found: np.isin(found, [6, 1250, 2399]), numbered(5000, 1))

    gone = {5, 1300, 6, 1250, 2399}
    assert ids(lake) == [*(number for number in range(2400) if number not in gone), 5000]
    assert segment_rows(lake) == [(2398, 3), (1, 0)]


def test_a_writer_that_two_compactions_overtook_is_not_refused(lake: Lake) -> None:
    append(lake, numbered(0, 1200))
    append(lake, numbered(1200, 1200))
    remove(lake, 5, 1300)

    def twice() -> None:
        compact(lake)
        remove(lake, 0, 2000)
        compact(lake, ordered=by_name_backwards(lake))

    with before_commit(lake, twice):
        change(lake, lambda found: np.isin(found, [6, 1250, 2399]))

    gone = {5, 1300, 0, 2000, 6, 1250, 2399}
    assert sorted(ids(lake)) == [number for number in range(2400) if number not in gone]
    assert segment_rows(lake) == [(2396, 3)]


def test_a_writer_whose_rows_were_removed_before_the_compaction_is_refused(lake: Lake) -> None:
    append(lake, numbered(0, 100))

    def remove_and_compact() -> None:
        remove(lake, 5)
        compact(lake)

    with (
        before_commit(lake, remove_and_compact),
        pytest.raises(CommitConflict, match="were removed or updated by another"),
    ):
        remove(lake, 5, 6)

    assert ids(lake) == [number for number in range(100) if number != 5]


def test_a_transaction_may_span_compactions(lake: Lake) -> None:
    append(lake, numbered(0, 1500))
    append(lake, numbered(1500, 500))
    remove(lake, 1)
    transaction = staged(lake)
    change(lake, lambda found: np.isin(found, [2, 1600]), numbered(5000, 3), into=transaction)
    compact(lake)
    # It goes on in the version that it has begun with, and removes a row of its own as well.
    change(lake, lambda found: np.isin(found, [3, 1700, 5001]), into=transaction)
    remove(lake, 4)
    compact(lake)

    commit(lake, transaction)

    gone = {1, 2, 1600, 3, 1700, 4}
    assert ids(lake) == [*(number for number in range(2000) if number not in gone), 5000, 5002]
    assert lake.dataset("t").rows == 1996


def test_a_compaction_meets_the_commit_of_a_transaction(lake: Lake) -> None:
    append(lake, numbered(0, 1500))
    append(lake, numbered(1500, 500))
    transaction = staged(lake)
    change(lake, lambda found: np.isin(found, [2, 1600]), numbered(5000, 3), into=transaction)
    change(lake, lambda found: np.isin(found, [3, 5001]), into=transaction)

    with before_commit(lake, lambda: commit(lake, transaction)):
        compact(lake)

    gone = {2, 1600, 3}
    assert ids(lake) == [*(number for number in range(2000) if number not in gone), 5000, 5002]
    assert segment_rows(lake) == [(2000, 3), (3, 1)]


def test_rows_can_be_put_into_another_order(lake: Lake) -> None:
    append(lake, numbered(0, 1500))
    append(lake, numbered(1500, 500))
    remove(lake, 1, 1501)
    expected = rows(lake).sort_by([("name", "ascending"), ("id", "descending")])

    result = compact(lake, ordered=by_name_backwards(lake))

    assert rows(lake) == expected
    assert (result.files_before, result.files_after, result.deltas_folded, result.rows) == (2, 1, 1, 1998)


def test_both_may_happen_while_rows_are_put_into_another_order(lake: Lake) -> None:
    append(lake, numbered(0, 1500))
    append(lake, numbered(1500, 500))

    with before_commit(lake, lambda: change(lake, lambda found: found % 500 == 0, numbered(5000, 1))):
        compact(lake, ordered=by_name_backwards(lake))
    with before_commit(lake, lambda: compact(lake, ordered=by_name_backwards(lake))):
        change(lake, lambda found: found % 500 == 1)

    assert sorted(ids(lake)) == [number for number in range(2000) if number % 500 > 1] + [5000]
    assert lake.dataset("t").rows == 1993


def test_row_ids_that_meet_are_told_apart_when_rows_are_put_into_another_order(lake: Lake) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flightserver.tables.segments.secrets.randbits", lambda _: 0)
        append(lake, numbered(0, 1500))
        append(lake, numbered(1500, 500))
    remove(lake, 3, 1502)
    expected = rows(lake).sort_by([("name", "ascending"), ("id", "descending")])

    with before_commit(lake, lambda: remove(lake, 4, 1503)):
        compact(lake, ordered=by_name_backwards(lake))

    assert ids(lake) == [number for number in expected.column("id").to_pylist() if number not in {4, 1503}]


def test_whoever_stops_iterating_stops_it(lake: Lake) -> None:
    append(lake, numbered(0, 5000))
    remove(lake, 1)
    version, files = lake.dataset("t").version, lake.files()
    one = compactor(lake)

    running = one.compact(KEY, Operation(new_ulid(), "compact"), one.wanted())
    first = next(running)
    running.close()

    assert first == Step("rows", 999, 4999)
    assert (lake.dataset("t").version, lake.files()) == (version, files)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("compact")]


def test_a_file_that_is_gone_stops_it_and_nothing_is_changed(lake: Lake) -> None:
    append(lake, numbered(0, 5000))
    append(lake, numbered(5000, 10))
    lost = lake.dataset("t").segments[1].object_keys()[0]
    (lake.root / lost).unlink()
    files = lake.files()

    with pytest.raises(BackendUnavailable, match=r"part-00000.parquet' of bucket 'primary' can't be read: restore it"):
        compact(lake)

    assert lake.files() == files


def test_the_same_operation_is_carried_out_once(lake: Lake) -> None:
    append(lake, numbered(0, 10))
    append(lake, numbered(10, 10))
    one = compactor(lake)
    operation = Operation(new_ulid(), "compact")
    *_, first = one.compact(KEY, operation, one.wanted())
    append(lake, numbered(20, 10))

    *_, second = one.compact(KEY, operation, one.wanted())

    assert isinstance(first, CompactResult)
    assert isinstance(second, CompactResult)
    assert (first.unchanged, second.unchanged) == (False, True)
    assert segment_rows(lake) == [(20, 0), (10, 0)]


def test_what_cannot_be_compacted_is_refused(lake: Lake) -> None:
    append(lake, numbered(0, 10))
    one = lake.dataset("t")
    attached = type(one)(
        id=new_ulid(),
        bucket="primary",
        name="theirs",
        schema=one.schema,
        schema_fingerprint=one.schema_fingerprint,
        created=one.created,
        external=External("delta", "theirs"),
    )
    lake.catalog.commit(Transaction(Operation(new_ulid(), "attach"), (CreateDataset(attached),)))
    here = compactor(lake)
    operation = Operation(new_ulid(), "compact")

    with pytest.raises(InvalidRequest, match=r"is attached \(delta\) and can only be read"):
        next(iter(here.compact(attached.key, operation, here.wanted())))
    with pytest.raises(NotFound, match="nothing"):
        next(iter(here.compact(DatasetKey("primary", "nothing"), operation, here.wanted())))
    with pytest.raises(InvalidRequest, match="target_bytes is 1,000: expected 65,536 or more"):
        here.wanted(1000)
