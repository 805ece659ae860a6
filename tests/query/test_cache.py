"""Which datasets are held in memory, for how long, and that nobody ever reads there what isn't so."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from msgspec.structs import replace
from query.asking import rows, run
from query.caching import Cached, as_table, in_files, served, wait_until
from tables.compacting import change, commit, compact, numbered, remove, staged

from flightserver.catalog.entities import External
from flightserver.catalog.log import Operation
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.ulid import new_ulid
from flightserver.catalog.updates import RenameDataset
from flightserver.errors import BackendUnavailable, Cancelled, InvalidRequest, LimitExceeded, NotFound
from flightserver.query.recent_uses import RecentUses

if TYPE_CHECKING:
    from flightserver.lakehouse import Lakehouse

ROWS = 1000


def bytes_of_one() -> int:
    """What a dataset of `ROWS` rows needs."""
    with Cached.open(admit_uses=0) as cached:
        cached.write(numbered(0, ROWS))
        return cached.cache.pin(cached.dataset()).bytes


def filled(*names: str, room_for: float, **settings: Any) -> Cached:
    """Datasets of the same size, and room for so many of them."""
    cached = Cached.open(max_bytes=int(bytes_of_one() * room_for), **settings)
    for name in names:
        cached.write(numbered(0, ROWS), name)
    return cached


def drop(cached: Cached, name: str) -> None:
    cached.lake.tables.drop(name, "primary", Operation(new_ulid(), "drop table"))


def test_a_dataset_is_loaded_when_it_was_used_often_enough() -> None:
    with filled("a", "b", room_for=10, admit_uses=3) as cached:
        cached.use("b", times=2)
        assert cached.use("a", times=3) is None

        cached.until_held("a")

        found = cached.use("a")
        assert found is not None
        assert found.equals(in_files(cached.lake, cached.dataset("a")))
        assert cached.use("b") is None
        cached.until_held("a", "b")


def test_with_admit_uses_of_zero_only_what_is_pinned_is_held() -> None:
    with filled("a", "b", room_for=10, admit_uses=0) as cached:
        cached.cache.pin(cached.dataset("b"))

        assert cached.use("a", times=100) is None
        assert cached.use("b") is not None
        assert cached.held() == ["b"]


def test_a_cache_of_no_bytes_holds_nothing() -> None:
    with filled("a", room_for=0, admit_uses=1) as cached:
        assert cached.use("a", times=100) is None
        with pytest.raises(LimitExceeded, match=r'"primary"\.a needs [\d,]+ bytes more than can be had of .* 0;'):
            cached.cache.pin(cached.dataset("a"))


def test_only_uses_of_late_count() -> None:
    now = [0.0]
    uses = RecentUses(300, 3, clock=lambda: now[0])

    for seconds in (0, 200, 290):
        now[0] = seconds
        uses.note("a")
    uses.note("b")

    assert (uses.count("a"), uses.count("b"), uses.count("c")) == (3, 1, 0)
    now[0] = 301
    assert (uses.count("a"), uses.count("b")) == (2, 1)
    uses.forget("a")
    assert uses.count("a") == 0


def test_the_least_recently_used_is_let_go_for_another() -> None:
    with filled("a", "b", "c", room_for=2.5, admit_uses=1) as cached:
        for name in ("a", "b"):
            cached.use(name)
            cached.until_event("dataset held in memory", name)
        cached.use("a")

        cached.use("c", times=2)

        cached.until_held("a", "c")


def test_what_is_used_more_often_stays() -> None:
    """A statement that reads every dataset once can't drive out the one that all statements read."""
    with filled("hot", "once", room_for=1.5, admit_uses=1) as cached:
        cached.use("hot")
        cached.until_held("hot")
        cached.use("hot", times=5)

        cached.use("once")

        assert "bytes more than can be had" in cached.until_event("dataset not held in memory", "once")
        assert cached.held() == ["hot"]


def test_what_could_not_be_loaded_is_not_tried_again_at_once() -> None:
    with filled("hot", "large", room_for=1.5, admit_uses=1) as cached:
        cached.cache.pin(cached.dataset("hot"))
        cached.use("large")
        cached.until_event("dataset not held in memory", "large")
        cached.cache.evict(cached.dataset("hot"))
        before = len(cached.objects.opened)

        assert cached.use("large", times=10) is None

        assert cached.held() == []
        assert len(cached.objects.opened) == before


def test_pinned_datasets_stay_and_others_go_for_them() -> None:
    with filled("a", "b", "c", "d", room_for=2.5, admit_uses=1) as cached:
        cached.use("a")
        cached.until_held("a")
        cached.use("a", times=9)

        cached.cache.pin(cached.dataset("b"))
        cached.cache.pin(cached.dataset("c"))

        assert cached.held() == ["b", "c"]
        with pytest.raises(LimitExceeded, match=r"evict another dataset or raise cache\.max_bytes"):
            cached.cache.pin(cached.dataset("d"))
        assert cached.held() == ["b", "c"]
        assert [entry.pinned for entry in cached.cache.entries()] == [True, True]


def test_a_dataset_of_too_many_rows_is_refused_before_it_is_read() -> None:
    with filled("a", room_for=0.1) as cached:
        with pytest.raises(LimitExceeded, match="can be had of the cache's"):
            cached.cache.pin(cached.dataset("a"))

        assert cached.objects.opened == []


def test_a_pinned_dataset_follows_its_versions_until_it_is_evicted() -> None:
    with filled("t", room_for=10, admit_uses=0) as cached:
        cached.cache.pin(cached.dataset())
        remove(cached.lake, 1, 2)
        cached.write(numbered(5000, 10))

        assert cached.use() is not None
        [entry] = cached.cache.entries()
        assert (entry.rows.dataset.version, entry.pinned, entry.hits) == (cached.dataset().version, True, 1)

        cached.cache.evict(cached.dataset())
        assert cached.use() is None
        with pytest.raises(NotFound, match=r"not held in memory: system\.cache lists what is"):
            cached.cache.evict(cached.dataset())


def test_a_pinned_dataset_that_outgrows_the_cache_is_let_go() -> None:
    with filled("t", room_for=1.5, admit_uses=0) as cached:
        cached.cache.pin(cached.dataset())
        cached.write(numbered(5000, ROWS))

        assert cached.use() is None

        assert cached.held() == []
        assert [one.kind for one in cached.events.entries()] == ["dataset held in memory", "dataset let go from memory"]


def test_evicting_all_forgets_how_often_they_were_used() -> None:
    """The background thread loads in the order in which it was asked to, so that `c` comes last."""
    with filled("a", "b", "c", room_for=10, admit_uses=2) as cached:
        cached.cache.pin(cached.dataset("a"))
        cached.use("b", times=2)
        cached.until_held("a", "b")

        cached.cache.evict_all()

        assert cached.held() == []
        assert cached.use("a") is None
        assert cached.use("b") is None
        cached.use("c", times=2)
        cached.until_event("dataset held in memory", "c")
        assert cached.held() == ["c"]


def test_a_dataset_that_is_evicted_while_it_is_loaded_is_not_held() -> None:
    def evicting() -> int:
        cached.cache.evict_all()
        return 2**60

    with Cached.open(available=evicting, admit_uses=0) as cached:
        cached.write(numbered(0, ROWS))

        with pytest.raises(Cancelled, match="t was evicted while it was loaded"):
            cached.cache.pin(cached.dataset())

        assert cached.held() == []
        assert cached.use() is None


def test_nothing_is_loaded_when_the_machine_is_short_of_memory() -> None:
    left = [2**60]
    with Cached.open(available=lambda: left[0], admit_uses=1) as cached:
        cached.write(numbered(0, ROWS), "a")
        cached.write(numbered(0, ROWS), "b")
        cached.cache.pin(cached.dataset("a"))

        left[0] = 1000

        with pytest.raises(LimitExceeded, match=r"the machine has 1,000 bytes left, of which [0-9,]+ must stay free"):
            cached.cache.pin(cached.dataset("b"))
        cached.use("b")
        assert "the machine has 1,000 bytes left" in cached.until_event("dataset not held in memory", "b")
        assert cached.held() == ["a"]


def test_the_cap_is_never_more_than_the_machine_can_give() -> None:
    with Cached.open(max_bytes=2**60) as cached:
        assert cached.cache.max_bytes < 2**50


def test_a_file_that_is_gone_is_told_and_the_dataset_is_not_held() -> None:
    with filled("a", room_for=10, admit_uses=1) as cached:
        for key in cached.dataset("a").segments[0].object_keys():
            cached.objects.delete(key)

        with pytest.raises(BackendUnavailable, match="can't be read: restore it from a backup"):
            cached.cache.pin(cached.dataset("a"))
        cached.use("a")
        assert "restore it from a backup" in cached.until_event("dataset not held in memory", "a")
        assert cached.held() == []


def test_a_dropped_dataset_is_let_go_and_its_name_means_another() -> None:
    with filled("t", room_for=10, admit_uses=0) as cached:
        before = cached.dataset()
        cached.cache.pin(before)

        drop(cached, "t")
        cached.write(numbered(7, 5))

        assert cached.use() is None
        assert cached.held() == []
        with pytest.raises(NotFound, match="has been dropped"):
            cached.cache.pin(before)


def test_a_renamed_dataset_is_still_held() -> None:
    with filled("t", room_for=10, admit_uses=0) as cached:
        cached.cache.pin(cached.dataset())

        cached.lake.catalog.commit(Transaction(Operation(new_ulid(), "rename"), (RenameDataset("primary", "t", "u"),)))

        assert cached.use("u") is not None
        assert cached.held() == ["u"]


def test_attached_datasets_are_not_held() -> None:
    with filled("t", room_for=10, admit_uses=1) as cached:
        attached = replace(cached.dataset(), external=External("parquet", "files"))

        assert served(cached.cache, attached) is None
        with pytest.raises(InvalidRequest, match=r'"primary"\.t is attached: others change it'):
            cached.cache.pin(attached)


def test_readers_of_the_past_read_files_and_disturb_nothing() -> None:
    with filled("t", room_for=10, admit_uses=1) as cached:
        past = cached.dataset()
        cached.cache.pin(past)
        remove(cached.lake, 3)
        assert served(cached.cache, past) is not None
        assert cached.use() is not None

        assert served(cached.cache, past) is None

        found = cached.use()
        assert found is not None
        assert found.equals(in_files(cached.lake, cached.dataset()))


def test_what_a_transaction_has_not_committed_is_served_to_nobody() -> None:
    with filled("t", room_for=10, admit_uses=1) as cached:
        cached.cache.pin(cached.dataset())
        transaction = staged(cached.lake)
        change(cached.lake, lambda ids: ids < 10, numbered(9000, 10), into=transaction)
        inside = transaction.snapshot().dataset("t", "primary")

        assert served(cached.cache, inside) is None
        outside = cached.use()
        commit(cached.lake, transaction)
        after = cached.use()

        assert outside is not None
        assert outside.column("id").to_pylist() == list(range(ROWS))
        assert after is not None
        assert after.column("id").to_pylist() == [*range(10, ROWS), *range(9000, 9010)]


def test_a_change_too_large_to_wait_for_is_followed_in_the_background() -> None:
    with Cached.open(chunk_rows=8192, admit_uses=0) as cached:
        cached.write(numbered(0, 20_000))
        cached.cache.pin(cached.dataset())
        change(cached.lake, lambda ids: ids % 2 == 0)

        assert cached.use() is None

        wait_until(lambda: cached.cache.entries()[0].rows.dataset is cached.dataset())
        found = cached.use()
        assert found is not None
        assert found.equals(in_files(cached.lake, cached.dataset()))


def test_readers_beside_writers_never_see_a_row_too_many_or_too_few() -> None:
    """Each change moves an amount from one row to another, so that every version has the same total."""
    with Cached.open(admit_uses=0) as cached:
        cached.write(pa.table({"id": np.arange(500), "amount": np.full(500, 10)}))
        cached.cache.pin(cached.dataset())
        seen: list[tuple[int, int]] = []
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                dataset = cached.dataset()
                partitions = cached.cache.partitions(dataset)
                if partitions is not None:
                    amounts = as_table(partitions, dataset).column("amount").to_pylist()
                    seen.append((len(amounts), sum(amounts)))

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        for number in range(0, 60, 2):
            ids = [number, number + 1]
            change(cached.lake, partial(np.isin, test_elements=ids), pa.table({"id": ids, "amount": [1, 19]}))
            if number % 20 == 0:
                compact(cached.lake)
        done.set()
        for reader in readers:
            reader.join()

        assert set(seen) == {(500, 5000)}


def test_a_cache_that_is_closed_stops_what_it_does() -> None:
    cached = filled("a", room_for=10, admit_uses=1)
    cached.use("a")

    cached.cache.close()

    assert "cache" not in {thread.name for thread in threading.enumerate()}
    cached.lake.catalog.close()


QUERIES = (
    "SELECT * FROM t",
    "SELECT code, count(*) AS n, sum(id) AS total FROM t GROUP BY code",
    "SELECT * FROM t WHERE code = 'v1' AND text LIKE '%9'",
    "SELECT t.id, u.code FROM t JOIN t AS u ON t.code = u.text || ''",
    "SELECT code || '-' || text AS both, upper(code) AS up, length(code) AS n FROM t",
    "SELECT array_agg(code ORDER BY id) AS codes, string_agg(code, ',' ORDER BY id) AS joined FROM t WHERE id < 50",
    "SELECT make_array(code, text) AS texts, struct(code, id) AS pair FROM t WHERE id < 50",
    "SELECT coalesce(code, text) AS code, CASE WHEN id > 5 THEN code ELSE 'other' END AS other FROM t",
    "SELECT code FROM t UNION SELECT text FROM t",
    "SELECT min(code) AS least, max(code) AS most, first_value(code ORDER BY id) AS first FROM t",
    "SELECT id, lag(code) OVER (ORDER BY id) AS before FROM t",
    "SELECT * FROM t WHERE code IN ('v1', 'v2') OR code IS NULL",
)


@pytest.mark.parametrize("sql", QUERIES)
def test_a_query_answers_the_same_in_memory(lakehouse: Lakehouse, sql: str) -> None:
    run(
        lakehouse,
        "CREATE TABLE t AS SELECT value AS id, CASE WHEN value % 7 > 0 THEN 'v' || (value % 5) END AS code, "
        "'a text of some length ' || value AS text FROM generate_series(1, 1000)",
    )
    expected = run(lakehouse, sql)

    lakehouse.cache.pin(lakehouse.catalog.snapshot().dataset("t"))
    found = run(lakehouse, sql)

    assert [entry.hits for entry in lakehouse.cache.entries()] != [0]
    assert found.schema == expected.schema
    assert sorted(found.to_pylist(), key=repr) == sorted(expected.to_pylist(), key=repr)


def test_what_is_held_is_a_table(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE t AS SELECT value AS a FROM generate_series(1, 1000)")
    dataset = lakehouse.catalog.snapshot().dataset("t")
    entry = lakehouse.cache.pin(dataset)
    rows(lakehouse, "SELECT a FROM t")
    run(lakehouse, "ALTER TABLE t RENAME TO u")

    found = run(lakehouse, "SELECT * FROM system.cache").to_pylist()

    assert found == [
        {
            "bucket": "primary",
            "dataset": "u",
            "version": dataset.version,
            "bytes": entry.bytes,
            "hits": 1,
            "pinned": True,
            "rows": 1000,
            "loaded_at": entry.rows.loaded,
        }
    ]


def test_a_statement_that_changes_rows_and_one_that_reads_the_past_see_their_own(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE t AS SELECT value AS a FROM generate_series(1, 100)")
    dataset = lakehouse.catalog.snapshot().dataset("t")
    lakehouse.cache.pin(dataset)

    run(lakehouse, "UPDATE t SET a = a + 1000 WHERE a > 90")
    run(lakehouse, "DELETE FROM t WHERE a <= 10")

    assert rows(lakehouse, "SELECT count(*), min(a), max(a) FROM t") == [(90, 11, 1100)]
    assert rows(lakehouse, "SELECT count(*), min(a), max(a) FROM t", as_of=dataset.version) == [(100, 1, 100)]
    assert rows(lakehouse, "SELECT count(*), min(a), max(a) FROM t") == [(90, 11, 1100)]
