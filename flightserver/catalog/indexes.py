"""Vector indexes as the catalog knows them; `index_updates` has what changes them.

An index belongs to a column of a dataset and says nothing that the dataset doesn't: it can be dropped and built anew at
any time. It names its dataset by id and its column by the name that the column has in files, so that it follows both
through renames. Its contents are one object per generation (`flightserver.vectors.frame`), which holds vectors of whole
segments; which of their rows are alive is said by the version of the dataset that is searched. So a generation is never
wrong for any version: what it lacks is read from the dataset.

Names are unique per bucket, among indexes. An index goes with its dataset: when that is dropped, so is the index.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # msgspec resolves the annotations when it decodes
from typing import TYPE_CHECKING

import msgspec

from flightserver.catalog.entities import DatasetKey

if TYPE_CHECKING:
    from flightserver.catalog.entities import Dataset

COSINE = "cosine"
"""The metric that needs a direction."""
L2 = "l2"
METRICS = (COSINE, L2, "dot")
"""1 - cosine of the angle; Euclidean distance; negated inner product. The nearest have the least of it."""

PRECISIONS = ("float32", "float16")
"""Of the numbers that are kept of a vector."""


class Generation(msgspec.Struct, frozen=True, omit_defaults=True):
    """The contents of an index at one time: an immutable object.

    Attributes:
        id: A ULID.
        bucket: Where the object is.
        key: Of the object.
        bytes: Its size.
        vectors: How many are in it.
        skipped: How many rows of its segments have none: null, of another length, or with a number that isn't finite.
        segments: Ids of the segments of the dataset whose rows are in it.
    """

    id: str
    bucket: str
    key: str
    bytes: int
    vectors: int
    skipped: int = 0
    segments: tuple[str, ...] = ()


class VectorIndex(msgspec.Struct, frozen=True, omit_defaults=True):
    """An index over a column of vectors.

    Attributes:
        id: New with each creation.
        bucket: Its home.
        name: Its name.
        dataset_id: Of the dataset that it is about.
        column: What the column is called in files (`flightserver.tables.schema.stored_name`).
        metric: One of `METRICS`.
        dimension: Length of its vectors.
        created: When.
        precision: One of `PRECISIONS`.
        generation: Its contents.
        version: The commit that last changed it.
    """

    id: str
    bucket: str
    name: str
    dataset_id: str
    column: str
    metric: str
    dimension: int
    created: datetime
    generation: Generation
    precision: str = "float32"
    version: int = 0

    @property
    def key(self) -> DatasetKey:
        """Bucket and name."""
        return DatasetKey(self.bucket, self.name)

    def missing_rows(self, dataset: Dataset) -> int:
        """Live rows of a version of its dataset that are in segments which its generation lacks."""
        there = frozenset(self.generation.segments)
        return sum(segment.live for segment in dataset.segments if segment.id not in there)
