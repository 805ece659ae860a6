"""What lies where in a bucket: the prefixes of keys, and which of them the catalog depends on."""

from __future__ import annotations

from flightserver.storage.limits import VECTORS
from flightserver.tables.collecting import DATASETS

CATALOG = "_catalog/"
"""The commit log and its checkpoints, in the bucket `primary`."""

NAMED = (CATALOG, DATASETS, VECTORS)
"""What the catalog names or is: age says nothing of whether it is still needed."""


def meets_named(prefix: str) -> str | None:
    """The first of `NAMED` under which some keys that start with the prefix lie, or None."""
    return next((each for each in NAMED if each.startswith(prefix) or prefix.startswith(each)), None)
