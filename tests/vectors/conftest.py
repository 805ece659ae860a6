"""Fixtures of this floor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from s3server import s3_bucket, s3_server
from vectors.indexed import create
from vectors.searched import add, make_points

if TYPE_CHECKING:
    from flightserver.lakehouse import Lakehouse

__all__ = ["s3_bucket", "s3_server"]


@pytest.fixture
def few(lakehouse: Lakehouse) -> Lakehouse:
    """Five directions in two segments, and an index that has both."""
    make_points(lakehouse)
    add(lakehouse, 0, [[1, 0], [0, 1], [1, 1]])
    add(lakehouse, 3, [[1, -1], [2, 1]])
    create(lakehouse, dataset="points", metric="l2")
    return lakehouse
