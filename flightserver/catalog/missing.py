"""Errors for names that nothing has, which tell nobody of anything that they may not see.

What is missing is also in their details, for whoever does something again if it was just that (`may_miss`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flightserver.catalog.quoting import identifier
from flightserver.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flightserver.catalog.entities import DatasetKey
    from flightserver.errors import Hint, Sees

_BUCKET = "bucket"
_DATASET = "dataset"


def no_bucket(name: str, there: Iterable[str]) -> NotFound:
    """The error for a bucket that isn't there; lists those that are."""
    known = sorted(there)

    def listed(sees: Sees) -> str:
        seen = [one for one in known if sees(one, None)]
        return f"; there are: {', '.join(seen)}" if seen else ""

    return NotFound(f"there is no bucket {name!r}", listed, details={_BUCKET: name})


def no_dataset(missing: DatasetKey | str, *said: str | Hint) -> NotFound:
    """The error for a dataset that isn't there.

    Args:
        missing: Its key, or its bare name.
        said: The message.
    """
    return NotFound(*said, details={_DATASET: identifier(missing) if isinstance(missing, str) else str(missing)})


def may_miss(error: NotFound, key: DatasetKey) -> bool:
    """Whether it may be a dataset, or its bucket, that wasn't there: not when the error says that it was another."""
    return error.details.get(_DATASET) == str(key) or error.details.get(_BUCKET) == key.bucket
