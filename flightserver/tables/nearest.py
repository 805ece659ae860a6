"""What a search by a vector finds: rows of one version of a dataset, named by their row ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from flightserver.catalog.entities import Dataset
    from flightserver.catalog.indexes import VectorIndex


@dataclass(frozen=True, slots=True)
class Nearest:
    """The nearest rows, the nearest first; of equally near ones that which comes first in the dataset.

    Attributes:
        row_ids: As `flightserver.tables.rowids.RowIds` of the dataset has them.
        distances: By the metric of the index.
    """

    row_ids: NDArray[np.int64]
    distances: NDArray[np.float64]


class NearestRows(Protocol):
    """Searches a version of a dataset by one of its vector indexes (`flightserver.vectors.searching`)."""

    def check(self, index: VectorIndex, vector: NDArray[np.float32]) -> None:
        """Return when a vector can be searched for in an index.

        Raises:
            DimensionMismatch: The vector has another length than those of the index.
            InvalidRequest: It has a number that isn't finite, or no direction where the metric needs one.
        """

    def nearest(
        self,
        index: VectorIndex,
        dataset: Dataset,
        vector: NDArray[np.float32],
        k: int,
        allowed: NDArray[np.int64] | None = None,
    ) -> Nearest:
        """The `k` nearest live rows of a dataset, or all where there are fewer.

        Args:
            index: Of any version.
            dataset: Of any version; the answer is about this one.
            vector: What is searched for, of the index's dimension.
            k: How many rows, 1 at least.
            allowed: Row ids, each once, in any order, among which to search; None for all.

        Raises:
            DimensionMismatch: As `check`.
            InvalidRequest: As `check`; or the column was dropped.
            BackendUnavailable: Files of the dataset can't be read.
        """
