"""Vector indexes to search, and what a search must find."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flightserver.catalog.entities import DatasetKey
from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flightserver.lakehouse import Lakehouse

Row = tuple[int, Sequence[float] | None]


def operation() -> Operation:
    return Operation(new_ulid(), "test")


def make_index(lakehouse: Lakehouse, name: str, dataset: str, bucket: str = "primary", **options: Any) -> None:
    """Create a vector index on the column `e` of a dataset."""
    found = lakehouse.catalog.snapshot().dataset(dataset)
    for _ in lakehouse.indexes.create(DatasetKey(bucket, name), found, "e", operation(), **options):
        pass


def refresh(lakehouse: Lakehouse, name: str) -> None:
    for _ in lakehouse.indexes.refresh(DatasetKey("primary", name), operation()):
        pass


def distance(metric: str, one: Sequence[float], other: Sequence[float]) -> float:
    """By the definition of the metric."""
    a, b = np.array(one, np.float64), np.array(other, np.float64)
    match metric:
        case "l2":
            return float(np.sqrt(((a - b) ** 2).sum()))
        case "dot":
            return float(-(a * b).sum())
        case _:
            return float(1 - (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def distances(metric: str, rows: Iterable[Row], query: Sequence[float]) -> dict[int, float]:
    """Id -> distance, of the rows that have a vector."""
    return {key: distance(metric, vector, query) for key, vector in rows if vector is not None}


def assert_nearest(answer: Sequence[tuple[int, float]], expected: dict[int, float], k: int) -> None:
    """The answer has the k least of the expected distances, in order; of equally near rows it may have any."""
    found = [each for _, each in answer]
    assert len({key for key, _ in answer}) == len(answer)
    assert np.allclose(found, sorted(expected.values())[:k], atol=1e-6)
    assert found == sorted(found)
    assert np.allclose(found, [expected[key] for key, _ in answer], atol=1e-6)
