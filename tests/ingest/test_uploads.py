"""Uploads: whole or invisible, bounded, and nowhere else than in their directory."""

from __future__ import annotations

import hashlib
import os
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flightserver.catalog.ulid import new_ulid
from flightserver.errors import InvalidRequest, LimitExceeded, NotFound
from flightserver.ingest.uploads import Uploads

if TYPE_CHECKING:
    from pathlib import Path


def test_a_finished_upload_is_there_also_after_a_restart(tmp_path: Path) -> None:
    upload = Uploads(tmp_path).start("people.csv", expected_bytes=4)
    upload.write(b"a\n")
    upload.write(memoryview(b"1\n"))
    info = upload.finish()

    assert (info.name, info.bytes, info.sha256) == ("people.csv", 4, hashlib.sha256(b"a\n1\n").hexdigest())
    path = Uploads(tmp_path).open(info.id)
    assert (path.name, path.read_bytes()) == ("people.csv", b"a\n1\n")


def test_an_unfinished_upload_is_invisible(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    with uploads.start("people.csv") as upload:
        upload.write(b"a\n")

        with pytest.raises(NotFound, match=f"there is no finished upload {upload.id}"):
            uploads.open(upload.id)

    assert list(tmp_path.iterdir()) == []


def test_a_finished_upload_survives_the_end_of_its_with_block_and_goes_when_discarded(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    with uploads.start("people.csv") as upload:
        info = upload.finish()

    uploads.open(info.id)
    uploads.discard(info.id)
    uploads.discard(info.id)

    assert list(tmp_path.iterdir()) == []


def test_more_than_the_limit_is_refused_before_and_while_it_comes(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, max_bytes=10)

    with pytest.raises(LimitExceeded, match=r"big.csv is larger than 10 bytes, the limit of one upload"):
        uploads.start("big.csv", expected_bytes=11)
    upload = uploads.start("big.csv")
    upload.write(b"0123456789")
    with pytest.raises(LimitExceeded, match=r"big.csv is larger than 10 bytes"):
        upload.write(b"x")

    assert list(tmp_path.iterdir()) == []


def test_a_size_that_differs_from_the_announced_one_is_refused(tmp_path: Path) -> None:
    upload = Uploads(tmp_path).start("f.csv", expected_bytes=3)
    upload.write(b"ab")

    with pytest.raises(InvalidRequest, match=r"f.csv has 2 bytes, but 3 were announced; send it again"):
        upload.finish()

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\\b", "a\0b", "a\nb", ".part", "x" * 300])
def test_a_name_that_could_be_a_path_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="can't name an upload"):
        Uploads(tmp_path).start(name)


@pytest.mark.parametrize("upload", ["", "..", "../../etc/passwd", ".tmp", "01ARZ3NDEKTSV4RRFFQ69G5FA/", "x" * 26])
def test_an_id_that_is_no_ulid_is_refused(upload: str, tmp_path: Path) -> None:
    for action in (Uploads(tmp_path).open, Uploads(tmp_path).discard):
        with pytest.raises(InvalidRequest, match="isn't an upload id"):
            action(upload)


def test_collecting_removes_what_is_too_old_and_nothing_else(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    (tmp_path / ".tmp").mkdir()
    old, young = uploads.start("old.csv"), uploads.start("young.csv")
    old.finish()
    for path in (tmp_path / old.id, tmp_path / old.id / "old.csv", tmp_path / ".tmp"):
        os.utime(path, (0, 0))

    assert uploads.collect(timedelta(hours=1)) == [old.id]

    assert sorted(path.name for path in tmp_path.iterdir()) == [".tmp", young.id]
    young.abort()


def test_an_upload_is_there_for_its_user_alone(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    with uploads.start("people.csv", user="ada") as upload:
        upload.write(b"id\n1\n")
        info = upload.finish()
    unknown = new_ulid()

    assert uploads.open(info.id, "ada") == uploads.open(info.id)
    with pytest.raises(NotFound) as others:
        uploads.open(info.id, "bob")
    with pytest.raises(NotFound) as nobodys:
        uploads.open(unknown, "bob")
    assert str(others.value) == str(nobodys.value).replace(unknown, info.id)
