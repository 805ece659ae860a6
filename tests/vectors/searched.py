"""A dataset `points` whose vectors change, searches of it, and what they should find: by comparing all, in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from query.asking import rows, run
from tables.moving import operation

from flightserver.catalog.entities import DatasetKey
from flightserver.tables.compaction import CompactResult
from flightserver.tables.reading import read_segment
from flightserver.tables.rowids import RowIds
from flightserver.tables.schema import decode
from flightserver.tables.writes import Mode, WriteRequest
from flightserver.vectors.frames import Frames
from flightserver.vectors.searching import UNREADABLE, Searcher

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from flightserver.catalog.entities import Dataset
    from flightserver.catalog.indexes import VectorIndex
    from flightserver.lakehouse import Lakehouse
    from flightserver.tables.nearest import Nearest

Vector = list[float]
Found = list[tuple[int, float]]
"""Ids of rows with their distances, the nearest first."""

EAST = np.array([1, 0], np.float32)
NEAREST_EAST: Found = [(0, 0.0), (2, 1.0), (3, 1.0)]
"""Of the fixture `few`, by l2."""


def points(lakehouse: Lakehouse, version: int | None = None) -> Dataset:
    """The dataset, at its newest version or an earlier one."""
    catalog = lakehouse.catalog
    return (catalog.snapshot() if version is None else catalog.snapshot_at(version)).dataset("points")


def index_of(lakehouse: Lakehouse, name: str = "directions") -> VectorIndex:
    """An index as it is now."""
    return lakehouse.catalog.snapshot().index(name)


def make_points(lakehouse: Lakehouse) -> None:
    """The dataset, without rows."""
    run(lakehouse, "CREATE TABLE points (id BIGINT, direction FLOAT[])")


def add(lakehouse: Lakehouse, first: int, vectors: Sequence[Vector | None]) -> None:
    """Append one segment, whose rows have ids from `first` on."""
    values = ", ".join(f"({first + at}, {sql_of(vector)})" for at, vector in enumerate(vectors))
    run(lakehouse, f"INSERT INTO points VALUES {values}")


def sql_of(vector: Vector | None) -> str:
    """A vector as SQL writes it."""
    return "NULL" if vector is None else f"[{', '.join(repr(float(value)) for value in vector)}]"


def compact(lakehouse: Lakehouse) -> None:
    """Write all segments as one."""
    key = DatasetKey("primary", "points")
    *_, last = lakehouse.compactor.compact(key, operation("compact"), lakehouse.compactor.wanted())
    assert isinstance(last, CompactResult)


def searcher(lakehouse: Lakehouse, *, open_bytes: int = 2**30) -> Searcher:
    """One that knows nothing yet."""
    return Searcher(frames(lakehouse, open_bytes), lakehouse.buckets, lakehouse.tables.dead, lakehouse.events)


def frames(lakehouse: Lakehouse, open_bytes: int = 2**30) -> Frames:
    """What opens generations."""
    return Frames(lakehouse.buckets, lakehouse.settings.server.data / "server" / "vectors", open_bytes)


def unreadable(lakehouse: Lakehouse) -> list[str]:
    """Details of the events of generations that could not be read."""
    return [event.detail for event in lakehouse.events.entries() if event.kind == UNREADABLE]


def placed(lakehouse: Lakehouse, dataset: Dataset) -> dict[int, int]:
    """Ids of rows by row id, in the order of the dataset; those of rows that are alive."""
    schema = pa.schema([decode(dataset.schema).field("id")])
    dead, offsets = lakehouse.tables.dead.of(dataset), RowIds(dataset).offsets
    found: dict[int, int] = {}
    for segment in dataset.segments:
        base = segment.row_id_base + offsets[segment.id]
        for batch, places in read_segment(lakehouse.buckets.get("primary"), segment, schema, dead.get(segment.id)):
            found.update(zip((places + base).tolist(), batch.column(0).to_pylist(), strict=True))
    return found


def shown(lakehouse: Lakehouse, version: int | None = None) -> dict[int, Vector | None]:
    """Vectors by id of their row, as SQL shows them."""
    past = "" if version is None else f" FOR VERSION AS OF {version}"
    return dict(rows(lakehouse, f"SELECT id, direction FROM points{past}"))


def distance(metric: str, vector: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """By the book, in float64."""
    if metric == "l2":
        return float(np.sqrt(((vector - other) ** 2).sum()))
    inner = (vector * other).sum()
    if metric == "dot":
        return float(-inner)
    lengths = np.sqrt((vector * vector).sum()) * np.sqrt((other * other).sum())
    return float(np.clip(1 - inner / lengths, 0, 2))


def wanted(
    lakehouse: Lakehouse,
    index: VectorIndex,
    vector: NDArray[np.float32],
    k: int,
    allowed: set[int] | None = None,
    version: int | None = None,
) -> Found:
    """The nearest rows that SQL shows; of equally near ones that which comes first in the dataset.

    Args:
        lakehouse: Has the dataset.
        index: Says which metric and precision.
        vector: What is searched for.
        k: How many rows.
        allowed: Ids among which to search; None for all.
        version: Of the dataset; None for the newest.
    """
    vectors = shown(lakehouse, version)
    ids = list(placed(lakehouse, points(lakehouse, version)).values())
    assert sorted(ids) == sorted(vectors)
    found = []
    for place, number in enumerate(ids):
        values = np.array([np.nan if value is None else value for value in vectors[number] or ()], index.precision)
        fits = (
            len(values) == index.dimension and np.isfinite(values).all() and (index.metric != "cosine" or values.any())
        )
        if fits and (allowed is None or number in allowed):
            away = distance(index.metric, values.astype(np.float64), vector.astype(np.float64))
            found.append((away, place, number))
    return [(number, away) for away, _, number in sorted(found)[:k]]


def found_by(
    one: Searcher,
    lakehouse: Lakehouse,
    index: VectorIndex,
    vector: NDArray[np.float32],
    k: int,
    allowed: set[int] | None = None,
    version: int | None = None,
) -> Found:
    """What a searcher finds, by ids of rows. Allowed row ids are in no order."""
    dataset = points(lakehouse, version)
    ids = placed(lakehouse, dataset)
    row_ids = None if allowed is None else np.array([row for row, number in ids.items() if number in allowed], np.int64)
    nearest = one.nearest(index, dataset, vector, k, row_ids if row_ids is None else row_ids[::-1])
    return answer(nearest, ids)


def answer(nearest: Nearest, ids: dict[int, int]) -> Found:
    """A result by ids of rows, of arrays that are what they should be."""
    types: tuple[Any, Any] = (nearest.row_ids.dtype, nearest.distances.dtype)
    assert types == (np.int64, np.float64)
    return [(ids[row], away) for row, away in zip(nearest.row_ids.tolist(), nearest.distances.tolist(), strict=True)]


def append(lakehouse: Lakehouse, first: int, matrix: NDArray[np.float32]) -> None:
    """Append one segment of many vectors, whose rows have ids from `first` on."""
    count, dimension = matrix.shape
    offsets = pa.array(np.arange(0, (count + 1) * dimension, dimension, dtype=np.int32))
    table = pa.table(
        {
            "id": np.arange(first, first + count),
            "direction": pa.ListArray.from_arrays(offsets, pa.array(matrix.reshape(-1))),
        }
    )
    write(lakehouse, table)


def write(lakehouse: Lakehouse, table: pa.Table) -> None:
    """Append one segment, and make the dataset if there is none."""
    request = WriteRequest(
        name="points",
        bucket="primary",
        mode=Mode.CREATE_APPEND,
        schema=table.schema,
        operation=operation("append"),
        lineage_system="arrow",
        lineage_source="test",
    )
    lakehouse.tables.write(request, table.to_batches())


def clustered(count: int, dimension: int, seed: int) -> NDArray[np.float32]:
    """Vectors as models make them: of length 1, and some much nearer to each other than others."""
    random = np.random.default_rng(seed)
    centers = np.random.default_rng(0).normal(size=(20, dimension))
    found = centers[random.integers(len(centers), size=count)] + 0.5 * random.normal(size=(count, dimension))
    return np.asarray(found / np.linalg.norm(found, axis=1)[:, None], np.float32)
