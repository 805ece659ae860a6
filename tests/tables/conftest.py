"""Fixtures of this floor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tables.lake import Lake

from flightserver.catalog.catalog import Catalog
from flightserver.storage.buckets import Buckets, OpenBucket, url_scheme
from flightserver.storage.local import LocalObjects
from flightserver.tables.segments import Layout
from flightserver.tables.writes import Tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    """A new lakehouse with small row groups."""
    objects = LocalObjects(tmp_path)
    bucket = OpenBucket("primary", objects, url_scheme("primary"), tmp_path)
    buckets = Buckets()
    buckets.add(bucket)
    catalog = Catalog.open(objects)
    yield Lake(tmp_path, bucket, buckets, catalog, Tables(catalog, buckets, Layout(row_group_rows=1000)))
    catalog.close()
