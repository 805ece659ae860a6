"""What only a bucket in a directory has: temporary files, other processes, and a disk that fails."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

from flightserver.errors import AlreadyExists, BackendUnavailable, InvalidRequest, LimitExceeded
from flightserver.storage import posix
from flightserver.storage.local import LocalObjects

if TYPE_CHECKING:
    from pathlib import Path

WRITER = """
import sys, pathlib
from flightserver.storage.local import LocalObjects
writer = LocalObjects(pathlib.Path(sys.argv[1])).writer("never/committed")
writer.write(b"x" * 1_000_000)
print("writing", flush=True)
sys.stdin.read()
"""

RACER = """
import sys, pathlib
from flightserver.errors import AlreadyExists
from flightserver.storage.local import LocalObjects
objects = LocalObjects(pathlib.Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for turn in range(300):
    try:
        objects.put(f"race/{turn // 10}/{turn}", sys.argv[2].encode())
    except AlreadyExists:
        continue
    print(turn)
"""


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def temporaries(root: Path) -> list[Path]:
    return list((root / "_staging" / ".tmp").iterdir())


def make_old(paths: list[Path]) -> None:
    yesterday = time.time() - 86_400
    for path in paths:
        os.utime(path, (yesterday, yesterday))


def fail_with(number: int, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number), "/local/path")

    monkeypatch.setattr(posix, step, fail)


def test_of_two_processes_that_put_the_same_keys_each_key_has_one_winner(tmp_path: Path) -> None:
    racers = [start(RACER, str(tmp_path), name) for name in ("a", "b")]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()

    won = [[int(line) for line in racer.communicate(timeout=60)[0].split()] for racer in racers]

    assert sorted(won[0] + won[1]) == list(range(300))
    objects = LocalObjects(tmp_path)
    for name, turns in zip("ab", won, strict=True):
        assert all(objects.get(f"race/{turn // 10}/{turn}") == name.encode() for turn in turns)


def test_opening_a_bucket_leaves_the_temporary_of_a_living_process_and_deletes_that_of_a_dead_one(
    tmp_path: Path,
) -> None:
    writer = start(WRITER, str(tmp_path))
    assert writer.stdout is not None
    writer.stdout.readline()
    make_old(temporaries(tmp_path))
    LocalObjects(tmp_path)
    while_alive = len(temporaries(tmp_path))

    writer.kill()
    writer.communicate()
    LocalObjects(tmp_path)

    assert while_alive == 1
    assert temporaries(tmp_path) == []


def test_what_a_process_that_was_killed_left_goes_without_a_restart(tmp_path: Path) -> None:
    """Several servers have the bucket open, and each deletes for the others; that of the living one stays."""
    objects = LocalObjects(tmp_path)
    killed, living = start(WRITER, str(tmp_path)), start(WRITER, str(tmp_path))
    for writer in (killed, living):
        assert writer.stdout is not None
        writer.stdout.readline()
    assert objects.clean() == 0

    killed.kill()
    killed.communicate()
    assert objects.clean() == 0  # who writes where locks aren't shared has written a moment ago
    make_old(temporaries(tmp_path))

    assert [objects.clean(), objects.clean(), len(temporaries(tmp_path))] == [1, 0, 1]
    living.communicate()


def test_cleaning_up_leaves_the_lock_of_a_young_temporary_to_its_owner(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    young = tmp_path / "_staging" / ".tmp" / "1-abc"
    young.write_bytes(b"")
    asked: list[str] = []

    with patch.object(posix, "is_owned", asked.append):
        assert objects.clean() == 0

    assert asked == []
    make_old([young])
    assert objects.clean() == 1


def test_opening_a_bucket_leaves_a_young_temporary_that_may_be_about_to_be_locked(tmp_path: Path) -> None:
    LocalObjects(tmp_path)
    young = tmp_path / "_staging" / ".tmp" / "1-abc"
    young.write_bytes(b"")

    LocalObjects(tmp_path)

    assert young.exists()


def test_a_write_leaves_no_temporary_whether_it_succeeds_or_not(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    objects.put("a", b"1")
    with objects.writer("a") as writer, pytest.raises(AlreadyExists):
        writer.commit()
    with objects.writer("b") as writer:
        writer.write(b"1")

    assert temporaries(tmp_path) == []


def test_deleting_the_last_object_of_a_directory_removes_the_directory(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    objects.put("a/b/c/1", b"")
    objects.put("a/2", b"")

    objects.delete("a/b/c/1")

    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["2"]
    objects.put("a/b/c/1", b"again")
    assert objects.get("a/b/c/1") == b"again"


def test_a_key_below_an_object_is_refused_because_a_file_is_no_directory(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    objects.put("a", b"")

    with pytest.raises(InvalidRequest, match="a part of the key is an object"):
        objects.put("a/b", b"")


def test_a_key_part_longer_than_a_file_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="longer than the file system allows"):
        LocalObjects(tmp_path).put("a" * 256, b"")


@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.ENOSPC, LimitExceeded), (errno.EDQUOT, LimitExceeded), (errno.EIO, BackendUnavailable)],
)
@pytest.mark.parametrize("step", ["create_file", "sync_file", "make_directory", "link", "sync_directory"])
def test_a_failing_disk_is_reported_by_what_the_caller_can_do_and_without_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int, expected: type[Exception]
) -> None:
    objects = LocalObjects(tmp_path)
    fail_with(number, monkeypatch, step)

    with pytest.raises(expected, match="can't write 'a/b'") as caught:
        objects.put("a/b", b"1")

    assert "/local/path" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert temporaries(tmp_path) == []


def test_a_full_disk_fails_the_write_that_meets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full is a disk without a free byte."""
    objects = LocalObjects(tmp_path)
    monkeypatch.setattr(posix, "create_file", lambda _: os.open("/dev/full", os.O_WRONLY))
    monkeypatch.setattr(posix, "unlink", lambda _: None)

    with objects.writer("a") as writer, pytest.raises(LimitExceeded, match="the disk of this bucket is full"):
        writer.write(b"x" * 1_000_000)
    with objects.writer("a") as writer:
        writer.write(b"small enough to be buffered")
        with pytest.raises(LimitExceeded, match="the disk of this bucket is full"):
            writer.commit()


def test_a_bucket_whose_directory_vanished_is_unavailable_and_not_created_again(tmp_path: Path) -> None:
    root = tmp_path / "bucket"
    objects = LocalObjects(root)
    objects.put("a/1", b"")
    root.rename(tmp_path / "moved")

    with pytest.raises(BackendUnavailable):
        objects.put("a/2", b"")

    assert not root.exists()


def test_a_directory_that_cannot_be_created_makes_the_bucket_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(BackendUnavailable, match="can't open the directory of a bucket"):
        LocalObjects(tmp_path / "file" / "bucket")


def test_a_bucket_opens_while_others_write_and_delete_in_it(tmp_path: Path) -> None:
    """A temporary file, and the directory of them, may be gone a moment after it was seen."""
    LocalObjects(tmp_path)
    stopping = threading.Event()

    def write(name: str) -> int:
        objects, turn = LocalObjects(tmp_path), 0
        while not stopping.is_set():
            objects.put(f"{name}/{turn}", b"x")
            objects.delete(f"{name}/{turn}")
            turn += 1
        return turn

    with ThreadPoolExecutor(3) as pool:
        turns = [pool.submit(write, name) for name in "abc"]
        for _ in range(3_000):
            LocalObjects(tmp_path)
        stopping.set()
        assert all(turn.result() for turn in turns)
