"""Datasets with vectors on a circle, and short ways to say what becomes of their indexes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from query.asking import rows, run
from tables.moving import operation

from flightserver.catalog.entities import DatasetKey
from flightserver.catalog.indexes import VectorIndex
from flightserver.vectors.service import MovedIndex

if TYPE_CHECKING:
    from flightserver.lakehouse import Lakehouse

DOCS = 360
"""Rows of `docs`: number n looks into the direction of n degrees."""


def make_docs(lakehouse: Lakehouse, *, name: str = "docs") -> None:
    """A dataset of `DOCS` directions."""
    angle = "radians(value)"
    vector = f"[cos({angle}), sin({angle})]"
    numbers = f"generate_series(0, {DOCS - 1})"
    run(lakehouse, f"CREATE TABLE {name} AS SELECT value AS id, {vector} AS direction FROM {numbers}")


def create(
    lakehouse: Lakehouse, name: str = "directions", *, bucket: str = "primary", dataset: str = "docs", **how: Any
) -> VectorIndex:
    """Create an index to the end."""
    found = lakehouse.catalog.snapshot().dataset(dataset)
    asked = operation("create index")
    *_, last = lakehouse.indexes.create(DatasetKey(bucket, name), found, how.pop("column", "direction"), asked, **how)
    assert isinstance(last, VectorIndex)
    return last


def refresh(lakehouse: Lakehouse, name: str = "directions", *, bucket: str = "primary") -> VectorIndex:
    """Refresh an index to the end."""
    *_, last = lakehouse.indexes.refresh(DatasetKey(bucket, name), operation("refresh index"))
    assert isinstance(last, VectorIndex)
    return last


def move(lakehouse: Lakehouse, to: str, name: str = "directions", *, source: str = "primary") -> MovedIndex:
    """Move an index to the end."""
    *_, last = lakehouse.indexes.move(DatasetKey(source, name), to, operation("move index"))
    assert isinstance(last, MovedIndex)
    return last


def toward(degrees: float) -> str:
    """A direction as SQL writes it."""
    return f"[{math.cos(math.radians(degrees))!r}, {math.sin(math.radians(degrees))!r}]"


def nearest(
    lakehouse: Lakehouse, degrees: float, k: int = 3, name: str = "directions", **options: Any
) -> list[tuple[int, float]]:
    """Ids and distances of the docs that look most into a direction, by SQL."""
    sql = f"SELECT id, _distance FROM vector_search('{name}', {toward(degrees)}, {k})"
    return [(number, round(distance, 6)) for number, distance in rows(lakehouse, sql, **options)]


def expected(degrees: float, *ids: int) -> list[tuple[int, float]]:
    """What `nearest` answers when these are the nearest."""
    return [(number, round(1 - math.cos(math.radians(number - degrees)), 6)) for number in ids]


def objects(lakehouse: Lakehouse, bucket: str = "primary") -> dict[str, bytes]:
    """Everything under `_vectors/` in a bucket."""
    there = lakehouse.buckets.get(bucket).objects
    return {meta.key: there.get(meta.key) for meta in there.list("_vectors/")}
