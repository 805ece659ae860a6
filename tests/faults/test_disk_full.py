"""The disk is full: a statement fails and says so, leaves nothing behind, and works once there is room again."""

from __future__ import annotations

import shutil
import tempfile
from typing import TYPE_CHECKING

import pytest
from faults.ledger import BEFORE, CHANGES, Change, compact, contents, opened
from faults.space import Space, filled, small_disk
from query.asking import count, rows, run

from flightserver.access.rights import UNRESTRICTED
from flightserver.errors import LimitExceeded
from flightserver.query.request import Request
from flightserver.storage.s3 import S3Objects
from flightserver.storage.s3_access import S3Access, S3Credentials, S3Location, S3Timeouts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flightserver.lakehouse import Lakehouse

MIB = 1024 * 1024
FULL = "is full or over its quota"


pytestmark = pytest.mark.usefixtures("quick_to_close")


def files(data: Path) -> dict[str, int]:
    """Everything in the primary bucket, temporary files too, and its size."""
    root = data / "primary"
    return {str(path.relative_to(root)): path.stat().st_size for path in root.rglob("*") if path.is_file()}


def refused(change: Change, lakehouse: Lakehouse) -> str:
    """Make a change; returns what it was refused for, if it was."""
    try:
        change.make(lakehouse)
    except LimitExceeded as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", CHANGES)
def test_at_every_step_a_change_that_finds_no_room_is_refused_and_leaves_nothing(
    tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    change = CHANGES[kind]
    data = tmp_path / "data"
    shutil.copytree(prepared, data)
    with opened(data) as lakehouse:
        before = files(data)
        full = 0
        while True:
            space = Space(full)
            with monkeypatch.context() as patched:
                space.attach(patched)
                refusal = refused(change, lakehouse)
            if not space.is_exhausted:
                break
            assert FULL in refusal, f"step {full}: {space.steps}"
            assert contents(lakehouse) == BEFORE, f"step {full}: {space.steps}"
            assert files(data) == before, f"step {full}: {space.steps}"
            full += 1
        assert contents(lakehouse) == change.after
    assert {"create_file", "write", "sync_file", "link"} <= set(space.steps)
    with opened(data) as lakehouse:
        assert contents(lakehouse) == change.after


def whole(lakehouse: Lakehouse) -> list[tuple[int, str]]:
    """All rows of `words`."""
    return rows(lakehouse, "SELECT * FROM words ORDER BY id")


LARGE = {
    "UPDATE": "UPDATE words SET word = md5(word)",
    "DELETE": "DELETE FROM words WHERE id % 3 = 0",
    "INSERT": "INSERT INTO words SELECT id + 1000000, md5(word) FROM words",
    "CREATE TABLE AS": "CREATE TABLE copies AS SELECT id, md5(word) AS word FROM words",
}


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[tuple[Lakehouse, Path]]:
    """A lakehouse with a table of 40,000 rows that don't compress, on a disk of 16 MiB."""
    with small_disk(tmp_path / "disk", 16 * MIB) as disk, opened(disk, query={"memory_bytes": 64 * MIB}) as lakehouse:
        words = "SELECT value AS id, md5(value::TEXT) AS word FROM generate_series(1, 40000)"
        run(lakehouse, f"CREATE TABLE words AS {words}")
        run(lakehouse, "DELETE FROM words WHERE id % 10 = 0")
        yield lakehouse, disk


@pytest.mark.parametrize("left", [0, 16 * 1024, 512 * 1024])
@pytest.mark.parametrize("kind", LARGE)
def test_a_large_statement_on_a_full_disk_is_refused_whole_and_works_when_there_is_room(
    crowded: tuple[Lakehouse, Path], kind: str, left: int
) -> None:
    lakehouse, disk = crowded
    before, there = whole(lakehouse), files(disk)
    version = lakehouse.catalog.snapshot().version

    with filled(disk, left):
        if kind != "DELETE" or not left:  # a deletion needs little room
            with pytest.raises(LimitExceeded, match=FULL):
                run(lakehouse, LARGE[kind])
            assert lakehouse.catalog.snapshot().version == version
            assert whole(lakehouse) == before
            assert files(disk) == there

    answered = count(lakehouse, LARGE[kind])
    assert answered == {"DELETE": 12_000}.get(kind, 36_000)
    assert lakehouse.catalog.snapshot().version == version + 1


def test_a_compaction_on_a_full_disk_is_refused_whole_and_works_when_there_is_room(
    crowded: tuple[Lakehouse, Path],
) -> None:
    lakehouse, disk = crowded
    before, there = whole(lakehouse), files(disk)

    with filled(disk, 256 * 1024):
        with pytest.raises(LimitExceeded, match=FULL):
            compact(lakehouse, "words")
        assert whole(lakehouse) == before
        assert files(disk) == there

    compact(lakehouse, "words")
    assert whole(lakehouse) == before
    assert rows(lakehouse, "SELECT rows, deltas FROM system.datasets WHERE name = 'words'") == [(36_000, 0)]


def test_an_object_for_s3_that_finds_no_room_to_be_collected_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = S3Access(S3Location("none", endpoint="http://127.0.0.1:1"), S3Credentials(), S3Timeouts())
    with small_disk(tmp_path / "temporary", 24 * MIB) as disk:
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        with (
            S3Objects(nowhere).writer("datasets/a") as writer,
            pytest.raises(LimitExceeded, match="the server's disk for temporary files is full or over its quota"),
        ):
            writer.write(bytes(48 * MIB))


def test_a_query_that_finds_no_room_to_spill_says_so_and_others_go_on(crowded: tuple[Lakehouse, Path]) -> None:
    lakehouse, disk = crowded
    large = "SELECT md5(value::TEXT) AS word, count(*) FROM generate_series(1, 2000000) GROUP BY word"

    with filled(disk, MIB):
        with pytest.raises(LimitExceeded, match="no room on the disk to spill to"):
            run(lakehouse, large)
        assert rows(lakehouse, "SELECT count(*) FROM words") == [(36_000,)]
    assert [path for path in (disk / "server" / "spill").rglob("*") if path.is_file()] == []


def test_a_result_by_pages_that_finds_no_room_is_refused_and_works_when_there_is_room(
    crowded: tuple[Lakehouse, Path],
) -> None:
    lakehouse, disk = crowded
    planned = lakehouse.queries.plan(Request(rights=UNRESTRICTED, sql="SELECT * FROM words"))

    with filled(disk, MIB), pytest.raises(LimitExceeded, match="the disk of the result store is full"):
        lakehouse.queries.store(planned, 100)

    assert lakehouse.queries.store(planned, 100).rows == 36_000
