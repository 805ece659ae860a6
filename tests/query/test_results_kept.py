"""What the result store keeps, what it forgets and when, and what a reader is told."""

from __future__ import annotations

import secrets
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from query.conftest import MIB, SCHEMA, Clock, files, keep, numbered

from flightserver.access.principal import Principal
from flightserver.access.rights import Rights
from flightserver.catalog.identities import AccessState, Grant, Privilege, Role
from flightserver.errors import BackendUnavailable, Forbidden, InvalidRequest, LimitExceeded, NotFound
from flightserver.query.result_file import MAX_BATCH_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from flightserver.query.results import ResultStore


def of(user: str, roles: frozenset[str] = frozenset(), access: AccessState | None = None) -> Rights:
    return Rights(Principal(user, roles, "password"), access or AccessState())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.sampled_from(["store", "read", "close"]), st.integers(0, 9)), max_size=40))
def test_the_most_recently_used_results_are_kept(three: ResultStore, steps: list[tuple[str, int]]) -> None:
    for entry in three.entries():
        three.close(entry.query_id)
    made: list[str] = []
    model: list[str] = []
    for action, choice in steps:
        if action == "store":
            made.append(keep(three))
            model = [*model, made[-1]][-3:]
        elif made:
            chosen = made[choice % len(made)]
            if chosen not in model:
                with pytest.raises(NotFound):
                    three.page(chosen, 0)
                continue
            model.remove(chosen)
            if action == "read":
                three.page(chosen, 0)
                model.append(chosen)
            else:
                three.close(chosen)
        assert [entry.query_id for entry in three.entries()] == model[::-1]


@pytest.fixture
def three(open_store: Callable[..., ResultStore]) -> ResultStore:
    return open_store(max_results=3)


def test_a_forgotten_result_is_not_found_and_says_why(open_store: Callable[..., ResultStore], tmp_path: Path) -> None:
    store = open_store(max_results=2)
    first, second, third = keep(store), keep(store), keep(store)
    with pytest.raises(NotFound, match="was forgotten: the store keeps the 2 most recently used results"):
        store.page(first, 0)
    assert files(tmp_path) == sorted([f"{second}.arrows", f"{third}.arrows"])


def test_an_unknown_result_is_not_found_and_says_that_results_end_with_their_process(
    open_store: Callable[..., ResultStore],
) -> None:
    with pytest.raises(NotFound, match="'abc' is not known to this server: results live where they were computed"):
        open_store().page("abc", 0)


def test_a_closed_result_is_not_found_and_its_file_is_gone(
    open_store: Callable[..., ResultStore], tmp_path: Path
) -> None:
    store = open_store()
    query_id = keep(store)
    store.close(query_id)
    with pytest.raises(NotFound, match="was closed; run the statement again"):
        store.page(query_id, 0)
    with pytest.raises(NotFound, match="was closed"):
        store.close(query_id)
    assert files(tmp_path) == []


def test_a_result_expires_unless_it_is_renewed(open_store: Callable[..., ResultStore], clock: Clock) -> None:
    store = open_store()
    renewed, left = store.store(SCHEMA, [numbered(1)], 1), store.store(SCHEMA, [numbered(1)], 1)
    assert left.expires_at == clock.now + timedelta(seconds=60)
    clock.advance(50)
    assert store.renew(renewed.query_id) == clock.now + timedelta(seconds=60)
    store.page(left.query_id, 0)
    clock.advance(50)
    assert store.page(renewed.query_id, 0)[1] == [numbered(1)]
    with pytest.raises(NotFound, match="has expired: a result is kept for 60 seconds after it was computed or renewed"):
        store.page(left.query_id, 0)


def test_results_stay_within_the_byte_budget(open_store: Callable[..., ResultStore], tmp_path: Path) -> None:
    one = open_store(max_bytes=MIB)
    size = one.store(SCHEMA, [numbered(1000)], 10).bytes
    one.stop()
    store = open_store(max_bytes=3 * size)
    ids = [keep(store, rows=1000) for _ in range(5)]
    assert [entry.query_id for entry in store.entries()] == ids[:1:-1]
    assert (store.count, store.bytes) == (3, 3 * size)
    on_disk = sum(path.stat().st_size for path in (tmp_path / "results").glob("*.arrows"))
    assert on_disk == 3 * size


def test_a_result_over_the_budget_is_refused_while_it_is_written_and_displaces_nothing(
    open_store: Callable[..., ResultStore], tmp_path: Path
) -> None:
    store = open_store(max_bytes=MIB)
    kept = keep(store)
    taken = []

    def endless() -> Iterator[pa.RecordBatch]:
        while True:
            taken.append(1)
            yield numbered(10_000)

    with pytest.raises(LimitExceeded, match="larger than the 1048576 bytes that the result store may hold"):
        store.store(SCHEMA, endless(), 100)
    assert len(taken) < 20
    assert files(tmp_path) == [f"{kept}.arrows"]
    assert store.page(kept, 0)[1] == [numbered(10)]
    assert store.store(SCHEMA, [numbered(10_000)], 100).rows == 10_000


def test_results_being_written_share_one_allowance(open_store: Callable[..., ResultStore]) -> None:
    store = open_store(max_bytes=MIB)

    def storing_another_inside() -> Iterator[pa.RecordBatch]:
        yield numbered(MAX_BATCH_ROWS)
        yield numbered(10)
        store.store(SCHEMA, [numbered(30_000)], 100)

    with pytest.raises(LimitExceeded, match="results being computed now take more than the 1048576 bytes"):
        store.store(SCHEMA, storing_another_inside(), 100)
    assert store.entries() == []


def test_a_full_disk_is_a_limit_and_leaves_nothing(
    open_store: Callable[..., ResultStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    # /dev/full answers every write with ENOSPC; the next result's file is made to be a link to it.
    monkeypatch.setattr(secrets, "token_hex", lambda _: "full")
    (tmp_path / "results" / "full.arrows").symlink_to("/dev/full")
    with pytest.raises(LimitExceeded, match="the disk of the result store is full"):
        store.store(SCHEMA, [numbered(10_000)], 100)
    assert files(tmp_path) == []
    assert store.entries() == []


def test_a_failing_disk_is_unavailable(
    open_store: Callable[..., ResultStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    monkeypatch.setattr(secrets, "token_hex", lambda _: "gone")
    (tmp_path / "results" / "gone.arrows").symlink_to(tmp_path / "absent" / "file")
    with pytest.raises(BackendUnavailable, match="the disk of the result store fails"):
        store.store(SCHEMA, [numbered(10)], 100)


@pytest.mark.parametrize("error", [ValueError("from the engine"), FileNotFoundError("a data file")])
def test_what_the_statement_raises_passes_through_and_nothing_is_kept(
    open_store: Callable[..., ResultStore], tmp_path: Path, error: Exception
) -> None:
    store = open_store()

    def failing() -> Iterator[pa.RecordBatch]:
        yield numbered(MAX_BATCH_ROWS)
        yield numbered(MAX_BATCH_ROWS)
        raise error

    with pytest.raises(type(error)) as raised:
        store.store(SCHEMA, failing(), 100)
    assert raised.value is error
    assert files(tmp_path) == []
    assert store.entries() == []


def test_the_directory_is_emptied_of_results_of_dead_processes_and_of_nothing_else(
    open_store: Callable[..., ResultStore], tmp_path: Path
) -> None:
    directory = tmp_path / "results"
    directory.mkdir()
    (directory / "0123.arrows").write_bytes(b"left over")
    (directory / "notes.txt").write_text("not ours")
    open_store()
    assert sorted(path.name for path in directory.iterdir()) == [".lock", "notes.txt"]


def test_two_stores_never_share_a_directory(open_store: Callable[..., ResultStore]) -> None:
    first = open_store()
    with pytest.raises(InvalidRequest, match="used by another server"):
        open_store()
    first.stop()
    open_store()


def test_a_stopped_store_keeps_nothing_and_says_so(open_store: Callable[..., ResultStore], tmp_path: Path) -> None:
    store = open_store()
    query_id = keep(store)
    store.stop()
    with pytest.raises(NotFound, match="was closed"):
        store.page(query_id, 0)
    with pytest.raises(BackendUnavailable, match="the server is stopping"):
        keep(store)
    assert files(tmp_path) == []


def test_query_ids_are_128_random_bits(open_store: Callable[..., ResultStore]) -> None:
    store = open_store()
    ids = {keep(store, rows=1) for _ in range(100)}
    assert len(ids) == 100
    assert all(len(bytes.fromhex(query_id)) == 16 for query_id in ids)


def test_entries_tell_who_stored_what_the_most_recently_used_first(
    open_store: Callable[..., ResultStore], clock: Clock
) -> None:
    store = open_store()
    first = store.store(SCHEMA, [numbered(7)], 5, sql="SELECT 1", rights=of("ada"))
    second = store.store(SCHEMA, [], 5, sql="SELECT 2", rights=of("bob"))
    made = clock.now
    clock.advance(1)
    store.page(first.query_id, 0)
    entries = store.entries()
    assert [(entry.query_id, entry.sql, entry.user, entry.rows) for entry in entries] == [
        (first.query_id, "SELECT 1", "ada", 7),
        (second.query_id, "SELECT 2", "bob", 0),
    ]
    assert [(entry.created, entry.used) for entry in entries] == [(made, clock.now), (made, made)]


def test_a_reader_finishes_a_result_that_is_forgotten_meanwhile(
    open_store: Callable[..., ResultStore], tmp_path: Path
) -> None:
    store = open_store(max_results=1)
    query_id = keep(store, rows=100_000)
    _, batches = store.page(query_id, 0, 100_000)
    other = keep(store)
    assert files(tmp_path) == [f"{other}.arrows"]
    assert pa.Table.from_batches(batches) == pa.Table.from_batches([numbered(100_000)])


def test_readers_see_whole_pages_or_not_found_while_others_are_forgotten(
    open_store: Callable[..., ResultStore],
) -> None:
    store = open_store(max_results=4)
    shelf: list[tuple[str, int]] = [(keep(store, rows=500, page_rows=50), 500)]
    done = threading.Event()
    wrong: list[object] = []
    seen = {"whole": 0, "forgotten": 0}

    def read(seed: int) -> None:
        step = seed
        while not done.is_set():
            step += 617
            recent = shelf[-8:]
            query_id, rows = recent[step % len(recent)]
            page = step % (rows // 50)
            try:
                _, batches = store.page(query_id, page)
            except NotFound:
                seen["forgotten"] += 1
                continue
            ids = [value for batch in batches for value in batch.column("id").to_pylist()]
            seen["whole"] += 1
            if ids != list(range(page * 50, page * 50 + 50)):
                wrong.append((query_id, page, ids))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    shelf.extend((keep(store, rows=rows, page_rows=50), rows) for rows in range(500, 20_500, 100))
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert min(seen.values()) > 0


def test_results_are_stored_by_several_threads_at_once(open_store: Callable[..., ResultStore]) -> None:
    store = open_store(max_results=1000)
    stored: list[tuple[str, int]] = []

    def write(start: int) -> None:
        for number in range(start, start + 20):
            result = store.store(SCHEMA, [numbered(number + 1, number)], 1000)
            stored.append((result.query_id, number))

    threads = [threading.Thread(target=write, args=(100 * index,)) for index in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stored) == store.count == 100
    for query_id, number in stored:
        assert store.page(query_id, 0)[1] == [numbered(number + 1, number)]


def test_a_result_is_for_its_user_under_the_rights_it_was_computed_with(open_store: Callable[..., ResultStore]) -> None:
    store = open_store()
    granted = AccessState(1, roles={"analyst": Role("analyst", (Grant((Privilege.SELECT,), "primary", "people"),))})
    roles = frozenset({"analyst"})
    query_id = store.store(SCHEMA, [numbered(7)], 5, rights=of("ada", roles, granted)).query_id

    store.check_reader(query_id, of("ada", roles, AccessState(2, roles=granted.roles)))
    with pytest.raises(Forbidden, match="was computed for another user"):
        store.check_reader(query_id, of("bob", roles, granted))
    with pytest.raises(Forbidden, match="your rights have changed since this result was computed"):
        store.check_reader(query_id, of("ada"))
