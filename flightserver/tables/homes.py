"""What a commit requires that names files which were written to a bucket.

Theory of operation: a bucket may be dropped and made again under its name, elsewhere, while files are being written to
it. The commit that then named them would lose them: readers would look in the new place. So whoever writes files keeps
the `OpenBucket` that they went to, and the commit requires that the bucket of that name is still this one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flightserver.catalog.requirements import SameBucket

if TYPE_CHECKING:
    from flightserver.storage.buckets import OpenBucket


def written_to(bucket: OpenBucket) -> tuple[SameBucket, ...]:
    """What to require of a bucket to which files were written; nothing of one that is always the same."""
    return (SameBucket(bucket.name, bucket.identity),) if bucket.identity else ()
