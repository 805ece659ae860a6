"""Buckets: made, looked at, changed and dropped; what is in them counted, moved, mirrored and collected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from flightclient.actions import given, result
from flightclient.errors import InvalidRequest
from flightclient.places import (
    Bucket,
    BucketCheck,
    BucketList,
    BucketUsage,
    Collected,
    DroppedBucket,
    Lifecycle,
    LifecycleRule,
    Migrated,
    Mirrored,
    MovedDataset,
    PresignedUrl,
    PutLimits,
    S3Place,
)
from flightclient.results import decode_result

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from flightclient.actions import Tell
    from flightclient.connection import Connection
    from flightclient.places import BucketState, Contents

_T = TypeVar("_T", bound="DataclassInstance")


class Buckets:
    """`Client.buckets`. Methods may be called from any thread, and raise the errors of `flightclient.errors`.

    `name` is the bucket's. All but `list` are the administrator's, and `move` is that of whoever may alter the dataset.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self) -> tuple[BucketState, ...]:
        """The buckets, and which of them answered when the server looked last."""
        return self._do(BucketList, "bucket.list", {}).buckets

    def create(self, name: str, root: str | None = None) -> Bucket:
        """Make a local bucket.

        Args:
            name: `a-z`, `0-9`, `:`, `_` and `-`, 63 at most.
            root: Its directory on the server: below `DIR/buckets`, or below one that the server allows; None for the
                usual one.
        """
        return self._do(Bucket, "bucket.create", given(name=name, backend="local", root=root))

    def create_on_s3(self, name: str, place: S3Place) -> Bucket:
        """Attach an S3 bucket, or a part of one. It is tried before it is added.

        Args:
            name: As in `create`.
            place: Where it is.

        Raises:
            BackendUnavailable: It doesn't answer, or ignores conditional puts.
        """
        if not isinstance(place, S3Place):
            raise InvalidRequest(f"a place on S3 is an S3Place, such as S3Place('lake'); given was {place!r:.200}")
        body = given(name=name, backend="s3", s3=given(**asdict(place)))
        return self._do(Bucket, "bucket.create", body)

    def check(self, name: str) -> BucketCheck:
        """Find out what a bucket can do, now. One that can't be reached is an answer, not an error."""
        return self._do(BucketCheck, "bucket.check", {"name": name})

    def drop(self, name: str, contents: Contents | None = None, progress: Tell = None) -> DroppedBucket:
        """Drop a bucket.

        Args:
            name: Which; neither `primary` nor `rescue`.
            contents: What becomes of the files in it: must be said unless it is empty.
            progress: Is told how many objects were deleted.
        """
        return self._do(DroppedBucket, "bucket.drop", given(name=name, contents=contents), progress)

    def rename(self, name: str, to: str) -> Bucket:
        """Call a bucket by another name; no object moves."""
        return self._do(Bucket, "bucket.rename", {"name": name, "to": to})

    def set_limits(self, name: str, put_bytes: int | None = None, vector_put_bytes: int | None = None) -> PutLimits:
        """Change how large one put may be, in bytes; a limit that is None stays. Returns both."""
        body = given(name=name, put_bytes=put_bytes, vector_put_bytes=vector_put_bytes)
        return self._do(PutLimits, "bucket.set_limits", body)

    def usage(self, name: str, progress: Tell = None) -> BucketUsage:
        """Count what is in a bucket, by listing it."""
        return self._do(BucketUsage, "bucket.usage", {"name": name}, progress)

    def presign(
        self, name: str, key: str, method: Literal["GET", "PUT"] = "GET", expires_seconds: int | None = None
    ) -> PresignedUrl:
        """Make a URL for one object of an S3 bucket, for somebody without credentials.

        Args:
            name: The bucket.
            key: Of the object; for PUT below `_staging/uploads/`.
            method: What the URL allows.
            expires_seconds: For how long, a week at most; None for an hour.
        """
        body = given(name=name, key=key, method=method, expires_seconds=expires_seconds)
        return self._do(PresignedUrl, "bucket.presign", body)

    def lifecycle(self, name: str) -> Lifecycle:
        """The rules by which objects of a bucket expire or change their storage class."""
        return self._do(Lifecycle, "bucket.get_lifecycle", {"name": name})

    def set_lifecycle(self, name: str, rules: Iterable[LifecycleRule | Mapping[str, Any]]) -> Lifecycle:
        """Set all lifecycle rules of a bucket.

        Args:
            name: The bucket.
            rules: All that it is to have, as `LifecycleRule` or mappings with its fields; `[]` takes those that it has
                away.
        """
        body = {"name": name, "rules": _lifecycle_rules(rules)}
        return self._do(Lifecycle, "bucket.set_lifecycle", body)

    def collect(
        self, name: str, *, dry_run: bool = False, older_than_hours: float | None = None, progress: Tell = None
    ) -> Collected:
        """Delete files that no version within retention names.

        Args:
            name: The bucket.
            dry_run: Delete nothing, say what would be.
            older_than_hours: A retention other than the configured one.
            progress: Is told how far it is.
        """
        body = given(bucket=name, dry_run=dry_run, older_than_hours=older_than_hours)
        return self._do(Collected, "bucket.collect", body, progress)

    def mirror(
        self, name: str, dataset: str | None = None, *, continuous: bool | None = None, progress: Tell = None
    ) -> Mirrored:
        """Copy to the bucket `rescue` what it lacks.

        Args:
            name: The bucket.
            dataset: Only this one, with its vector indexes.
            continuous: Whether the copy of the bucket, or of the dataset wherever it is moved to, is kept current from
                now on; False copies nothing.
            progress: Is told how many bytes were copied.
        """
        body = given(bucket=name, dataset=dataset, continuous=continuous)
        return self._do(Mirrored, "bucket.mirror", body, progress)

    def move(self, dataset: str, to: str, bucket: str | None = None, progress: Tell = None) -> MovedDataset:
        """Give a dataset another home.

        Args:
            dataset: Its name.
            to: The bucket that becomes its home.
            bucket: Its home now, where the name alone isn't enough.
            progress: Is told how many bytes were copied.
        """
        return self._do(MovedDataset, "dataset.move", given(dataset=dataset, to=to, bucket=bucket), progress)

    def migrate(self, *, dry_run: bool = False) -> Migrated:
        """Make references to buckets in old catalogs (`data`, `local`) say `primary`; `dry_run` changes nothing."""
        return self._do(Migrated, "catalog.migrate_buckets", {"dry_run": dry_run})

    def _do(self, kind: type[_T], action: str, body: Mapping[str, Any], progress: Tell = None) -> _T:
        return decode_result(kind, result(self._connection, action, body, progress))


def _lifecycle_rules(rules: Iterable[LifecycleRule | Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rules as JSON objects.

    Raises:
        InvalidRequest: They are none. An empty text or mapping isn't taken for no rules, which deletes those there are.
    """
    if isinstance(rules, str | bytes | Mapping) or not isinstance(rules, Iterable):
        raise _no_rules(rules)
    found = []
    for rule in rules:
        if isinstance(rule, LifecycleRule):
            found.append(asdict(rule))
        elif isinstance(rule, Mapping):
            found.append(dict(rule))
        else:
            raise _no_rules(rule)
    return found


def _no_rules(value: object) -> InvalidRequest:
    return InvalidRequest(
        "lifecycle rules are a list of LifecycleRule, or of mappings such as {'prefix': 'x/', 'expire_days': 7}; "
        f"given was {value!r:.200}"
    )
