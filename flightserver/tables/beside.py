"""What lies beside the rows of a segment: its manifest and, after compaction, `_origin.parquet`.

Theory of operation: who copies a segment has to know which of these it has. A bucket that doesn't answer may have a
file that `rescue` lacks, so that what isn't there says nothing. But the manifest tells whether there is an
`_origin.parquet`, and `rescue` has the manifest when it has the rest, because that is copied last. Every segment was
written with a manifest; where it is lost, the bucket has to answer what it has.

Invariant: a file that exists and can't be read is an error, and never taken for one that isn't there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flightserver.errors import InternalError, NotFound
from flightserver.storage.buckets import ALSO_ASKED
from flightserver.tables.segments import MANIFEST, ORIGIN, manifest_in

if TYPE_CHECKING:
    from flightserver.storage.buckets import Buckets, OpenBucket


def keys_beside(directory: str) -> tuple[str, ...]:
    """Keys of all that may lie beside the rows of a segment; the manifest comes last, as where one is written."""
    return f"{directory}/{ORIGIN}", f"{directory}/{MANIFEST}"


def files_beside(bucket: OpenBucket, directory: str) -> tuple[tuple[str, ...], bool]:
    """Keys of what lies beside the rows of a segment, and whether that is certain; otherwise any may be missing.

    Raises:
        BackendUnavailable: The bucket doesn't answer, and no other has the manifest.
    """
    every = keys_beside(directory)
    try:
        has_origin = bool(manifest_in(bucket, directory).origins)
    except (NotFound, InternalError):  # it is lost or damaged
        return every, False
    return every if has_origin else every[1:], True


def is_nowhere(buckets: Buckets, bucket: OpenBucket, key: str, error: NotFound) -> bool:
    """Whether every bucket that was asked for an object lacks it; `error` says which those were.

    Raises:
        BackendUnavailable: One doesn't answer, or has gone, and may have the object.
    """
    also = error.details.get(ALSO_ASKED)
    asked = (bucket,) if also is None else (bucket, buckets.get(str(also)))
    for one in asked:
        lost = one.lost()
        if lost is not None:
            raise lost
    return all(one.objects.head(key) is None for one in asked)
