"""Columns of vectors: which columns can have an index, and their values as matrices.

A vector is a list of numbers, of a fixed length or of any. A row has none when its list is null, has another length
than the index, or holds a null or a number that isn't finite in the precision of the index; where the metric is the
cosine, also when all of its numbers are zero, because it has no direction then. Such rows are in no answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flightserver.catalog.indexes import COSINE
from flightserver.errors import InvalidRequest, NotFound
from flightserver.tables.schema import decode, stored_name
from flightserver.tables.types import is_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flightserver.catalog.entities import Dataset
    from flightserver.catalog.indexes import VectorIndex

MOST_DIMENSIONS = 65_536
"""A vector of so many numbers is 256 KiB; no model that is in use makes more than some thousands."""


def vector_column(dataset: Dataset, name: str) -> pa.Field:
    """The column of this name, if it can have an index.

    Raises:
        NotFound: There is no such column.
        InvalidRequest: It holds no lists of numbers.
    """
    schema = decode(dataset.schema)
    place = schema.get_field_index(name)
    if place < 0:
        vectors = [field.name for field in schema if is_vectors(field.type)]
        hint = f"its columns of vectors are {', '.join(vectors)}" if vectors else "it has no column of vectors"
        raise NotFound(f"dataset {dataset.key} has no column {name!r}: {hint}")
    field = schema.field(place)
    if not is_vectors(field.type):
        raise InvalidRequest(
            f"column {name!r} of {dataset.key} is of type {field.type}: a vector index needs lists of numbers, such as "
            "FLOAT[] or Arrow's fixed_size_list<float>[384]"
        )
    return field


def indexed_column(dataset: Dataset, index: VectorIndex) -> pa.Field:
    """The column that an index is about, whatever it is called now.

    Raises:
        InvalidRequest: It was dropped, or is none of vectors any more.
    """
    for field in decode(dataset.schema):
        if stored_name(field) == index.column and is_vectors(field.type):
            return field
    raise InvalidRequest(
        f"the column of {dataset.key} that vector index {index.key} is about was dropped or replaced: drop the index, "
        "and create one on another column"
    )


def fixed_dimension(field: pa.Field) -> int | None:
    """How many numbers each vector of a column has, if the type says so."""
    return field.type.list_size if pa.types.is_fixed_size_list(field.type) else None


def vectors_of(column: pa.Array, index: VectorIndex) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """The vectors of a column.

    Args:
        column: Lists of numbers.
        index: Says of which dimension, precision and metric.

    Returns:
        A matrix in the precision of the index with a row for each vector, and which rows of the column these are, in
        order.
    """
    fits = pc.equal(pc.list_value_length(column), index.dimension)
    rows = np.flatnonzero(pc.fill_null(fits, fill_value=False).to_numpy(zero_copy_only=False))
    kept = column if len(rows) == len(column) else column.take(pa.array(rows))
    numbers = kept.flatten().cast(pa.float32(), safe=False).fill_null(float("nan"))
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and isn't taken
        matrix = numbers.to_numpy(zero_copy_only=False).astype(index.precision, copy=False)
    matrix = matrix.reshape(len(rows), index.dimension)
    good = np.isfinite(matrix).all(axis=1)
    if index.metric == COSINE:
        good &= matrix.any(axis=1)
    if not good.all():
        return np.ascontiguousarray(matrix[good]), rows[good]
    return matrix, rows
