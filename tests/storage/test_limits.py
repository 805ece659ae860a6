"""How large a put may be: by the prefix of its key, which is the vector store's own."""

from __future__ import annotations

import ast
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

import flightserver
from flightserver.errors import InvalidRequest, LimitExceeded
from flightserver.storage import limits
from flightserver.storage.limits import (
    DEFAULT_PUT_BYTES,
    LARGE_AT_ONCE,
    MIB,
    VECTOR_PUT_BYTES,
    VECTORS,
    LimitedObjects,
)
from flightserver.storage.memory import MemoryObjects

if TYPE_CHECKING:
    from flightserver.storage.objects import ObjectMeta

PATIENCE = 30.0
"""Seconds after which a thread that must come isn't coming."""

INSIDE = [f"{VECTORS}people/1.idx", f"{VECTORS}people/trials/2026/1.jsonl", f"{VECTORS}x"]
OUTSIDE = [
    "datasets/people/1/part-00000.parquet",
    "_vectorsx/people/1.idx",
    "_vectors",
    "_Vectors/people/1.idx",
    "_vectors.lance/1",
    "a/_vectors/people/1.idx",
]


@pytest.fixture
def stored() -> MemoryObjects:
    return MemoryObjects()


@pytest.fixture
def limited(stored: MemoryObjects) -> LimitedObjects:
    """Ten bytes, and twenty below the prefix of vector indexes."""
    return LimitedObjects(stored, put_bytes=10, vector_put_bytes=20)


class Sized(bytes):
    """Bytes that say how many they are; nobody who reads them gets so many."""

    size: int

    def __new__(cls, size: int) -> Self:
        made = super().__new__(cls)
        made.size = size
        return made

    def __len__(self) -> int:
        return self.size


def test_the_limits_are_256_mib_and_4_gib_unless_somebody_says_otherwise() -> None:
    usual = LimitedObjects(MemoryObjects())

    assert (DEFAULT_PUT_BYTES, VECTOR_PUT_BYTES) == (256 * MIB, 4 * 1024 * MIB)
    assert {usual.limit(key) for key in OUTSIDE} == {DEFAULT_PUT_BYTES}
    assert {usual.limit(key) for key in INSIDE} == {VECTOR_PUT_BYTES}


@pytest.mark.parametrize("key", OUTSIDE)
def test_outside_of_the_prefix_the_usual_limit_holds_to_the_byte(
    limited: LimitedObjects, stored: MemoryObjects, key: str
) -> None:
    with pytest.raises(LimitExceeded, match=r"an object of 11 bytes .* a put outside of '_vectors/' may have 10;"):
        limited.put(key, b"x" * 11)
    assert stored.head(key) is None

    limited.put(key, b"x" * 10)
    assert stored.get(key) == b"x" * 10


@pytest.mark.parametrize("key", INSIDE)
def test_below_the_prefix_at_any_depth_the_limit_of_vector_indexes_holds_to_the_byte(
    limited: LimitedObjects, stored: MemoryObjects, key: str
) -> None:
    with pytest.raises(LimitExceeded, match=r"an object of 21 bytes .* a put below '_vectors/' may have 20;"):
        limited.put(key, b"x" * 21)
    assert stored.head(key) is None

    limited.put(key, b"x" * 20)
    assert stored.get(key) == b"x" * 20


@pytest.mark.parametrize("key", ["", VECTORS, "/_vectors/x", "_vectors//x", "_vectors/../x", "./_vectors/x"])
@pytest.mark.parametrize("size", [0, 10, 1000])
def test_what_can_not_be_a_key_has_no_limit_but_is_refused(limited: LimitedObjects, key: str, size: int) -> None:
    with pytest.raises(InvalidRequest, match="can't be the key of an object"):
        limited.put(key, b"x" * size)


def test_an_empty_object_can_be_put_where_nothing_else_can(stored: MemoryObjects) -> None:
    nothing = LimitedObjects(stored, put_bytes=0, vector_put_bytes=0)

    nothing.put("a", b"")

    with pytest.raises(LimitExceeded, match="an object of 1 bytes"):
        nothing.put("b", b"1")
    assert [meta.key for meta in stored.list("")] == ["a"]


class Unwilling(MemoryObjects):
    """Objects that take none."""

    def put(self, key: str, data: bytes) -> ObjectMeta:
        raise AssertionError((key, len(data)))


@pytest.mark.parametrize(("key", "size"), [("a", DEFAULT_PUT_BYTES + 1), (INSIDE[0], VECTOR_PUT_BYTES + 1)])
def test_a_put_over_its_limit_is_refused_before_its_body_is_read(key: str, size: int) -> None:
    limited = LimitedObjects(Unwilling())

    with pytest.raises(LimitExceeded, match=f"an object of {size:,} bytes"):
        limited.put(key, Sized(size))


def test_a_writer_below_the_prefix_is_refused_at_the_first_byte_too_many(
    limited: LimitedObjects, stored: MemoryObjects
) -> None:
    with limited.writer(INSIDE[0]) as writer:
        writer.write(b"x" * 15)
        writer.write(memoryview(b"x" * 5))
        with pytest.raises(LimitExceeded, match=r"an object of 21 bytes .* a put below '_vectors/' may have 20;"):
            writer.write(b"x")
        assert writer.closed
        with pytest.raises(InvalidRequest, match="is finished"):
            writer.commit()

    assert list(stored.list("")) == []


def test_a_writer_below_the_prefix_may_have_as_many_bytes_as_a_put(
    limited: LimitedObjects, stored: MemoryObjects
) -> None:
    with limited.writer(INSIDE[0]) as writer:
        writer.write(b"x" * 20)
        assert (writer.tell(), writer.writable(), writer.readable(), writer.seekable()) == (20, True, False, False)
        writer.flush()
        writer.close()
        writer.commit()

    assert stored.get(INSIDE[0]) == b"x" * 20


def test_a_writer_that_is_aborted_leaves_nothing(limited: LimitedObjects, stored: MemoryObjects) -> None:
    writer = limited.writer(INSIDE[0])
    writer.write(b"x")
    writer.abort()

    assert list(stored.list("")) == []


def test_writers_of_datasets_have_no_limit_here(limited: LimitedObjects, stored: MemoryObjects) -> None:
    with limited.writer(OUTSIDE[0]) as writer:
        writer.write(b"x" * 1000)
        writer.commit()

    assert len(stored.get(OUTSIDE[0])) == 1000


class Gated(MemoryObjects):
    """Objects whose puts last until the gate is opened, and which know how many run at once."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.most = 0
        self._running = 0
        self._lock = threading.Lock()

    def put(self, key: str, data: bytes) -> ObjectMeta:
        with self._lock:
            self._running += 1
            self.most = max(self.most, self._running)
        self.entered.release()
        assert self.gate.wait(PATIENCE)
        with self._lock:
            self._running -= 1
        return super().put(key, bytes(str(len(data)), "ascii"))


class Turns(threading.BoundedSemaphore):
    """As many turns as there are large puts at once; tells when somebody has to wait for one."""

    def __init__(self) -> None:
        super().__init__(LARGE_AT_ONCE)
        self.waited_for = threading.Event()

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:  # noqa: FBT001, FBT002  # as in threading
        if super().acquire(blocking=False):
            return True
        self.waited_for.set()
        return super().acquire(blocking, timeout)

    __enter__ = acquire


def test_four_large_puts_are_in_flight_at_once_and_a_fifth_waits_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns()
    monkeypatch.setattr(limits, "_large", turns)
    gated = Gated()
    limited = LimitedObjects(gated)
    large = Sized(DEFAULT_PUT_BYTES + 1)

    with ThreadPoolExecutor(5) as pool:
        puts = [pool.submit(limited.put, f"{VECTORS}{number}", large) for number in range(4)]
        assert all(gated.entered.acquire(timeout=PATIENCE) for _ in range(4))
        assert not turns.waited_for.is_set()
        puts.append(pool.submit(limited.put, f"{VECTORS}4", large))
        assert turns.waited_for.wait(PATIENCE)
        assert not gated.entered.acquire(blocking=False)
        gated.gate.set()

    assert [put.result().key for put in puts] == [f"{VECTORS}{number}" for number in range(5)]
    assert gated.most == LARGE_AT_ONCE == 4


def test_a_small_put_does_not_wait_for_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns()
    monkeypatch.setattr(limits, "_large", turns)
    limited = LimitedObjects(MemoryObjects())
    for _ in range(LARGE_AT_ONCE):
        turns.acquire()

    limited.put("small", Sized(DEFAULT_PUT_BYTES))

    assert not turns.waited_for.is_set()


def test_a_large_put_that_fails_gives_its_turn_back(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns()
    monkeypatch.setattr(limits, "_large", turns)
    limited = LimitedObjects(Unwilling())

    for _ in range(LARGE_AT_ONCE + 1):
        with pytest.raises(AssertionError):
            limited.put(INSIDE[0], Sized(DEFAULT_PUT_BYTES + 1))

    assert not turns.waited_for.is_set()


def _docstrings(tree: ast.Module) -> set[ast.expr]:
    """Strings that are statements: docstrings of modules, classes, functions and constants."""
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def _is_a_key_below_the_prefix(value: Any) -> bool:
    """Whether a literal is such a key, or a part of one; prose may mention it."""
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    return isinstance(text, str) and re.search(r"(?:^|/)_vectors", text) is not None


def test_the_prefix_of_vector_indexes_is_written_once_so_that_store_and_limit_can_not_disagree() -> None:
    package = Path(flightserver.__file__).parent
    found = []
    for path in sorted(package.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        described = _docstrings(tree)
        found += [
            (path.relative_to(package).as_posix(), node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and node not in described and _is_a_key_below_the_prefix(node.value)
        ]

    assert found == [("storage/limits.py", VECTORS)]
