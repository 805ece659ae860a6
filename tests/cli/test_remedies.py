"""What `flightserver doctor` says mends a bucket in a directory, by what the operating system said."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from flightserver.cli.remedies import LocalRemedies
from flightserver.storage.posix import translate

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("number", "mend"),
    [
        (errno.ENOSPC, "free some space on the disk of {}, or raise the quota of the user that runs the server"),
        (errno.EDQUOT, "free some space on the disk of {}, or raise the quota of the user that runs the server"),
        (errno.EACCES, "give {} to the user that runs the server (chown -R), and run doctor as that user"),
        (errno.EROFS, "mount the disk of {} for writing; the kernel's log (dmesg) says if an error ended that"),
        (errno.EIO, "look at the disk of {}: the kernel's log (dmesg) says what it has"),
    ],
)
def test_what_mends_a_directory_goes_by_its_cause(tmp_path: Path, number: int, mend: str) -> None:
    failure = OSError(number, os.strerror(number))
    error = translate(failure, "write", "_staging/a")
    error.__cause__ = failure

    assert LocalRemedies(tmp_path).of(error) == mend.format(tmp_path)


def test_a_directory_that_is_not_there_is_to_be_mounted_whatever_was_said(tmp_path: Path) -> None:
    failure = OSError(errno.EIO, "")
    error = translate(failure, "write", "_staging/a")
    error.__cause__ = failure
    root = tmp_path / "gone"

    assert LocalRemedies(root).of(error) == f"mount the disk of {root}, or put that directory back"
