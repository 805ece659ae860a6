"""What is said of buckets, and what the server answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  # the fields are decoded by their annotations
from typing import Literal


@dataclass(frozen=True, slots=True)
class S3Place:
    """Where a bucket is on S3; what is None is as the server has it by default.

    Attributes:
        bucket: The S3 bucket.
        endpoint: URL of the S3 server; AWS if None.
        region: Its region.
        prefix: What all keys begin with.
        path_style: Whether the name of the S3 bucket stands in the path of URLs (the default) or in their host.
        credentials: Where the server finds them, such as `profile:lake`; never a secret.
        encryption: Of new objects: `AES256`, `aws:kms` or `aws:kms:dsse`.
        kms_key: The id of the key, for those with `kms`.
        create: Whether the S3 bucket is made, unless it is there.
    """

    bucket: str
    endpoint: str | None = None
    region: str | None = None
    prefix: str | None = None
    path_style: bool | None = None
    credentials: str | None = None
    encryption: str | None = None
    kms_key: str | None = None
    create: bool | None = None


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket: its name, `local` or `s3`, and its URL."""

    name: str
    backend: str
    url: str


@dataclass(frozen=True, slots=True)
class BucketState(Bucket):
    """A bucket, and what the server's last look at it found.

    Attributes:
        datasets: How many it has.
        reachable: Whether it answered; None until it was looked at.
        error: Why not.
        checked: When it was looked at.
    """

    datasets: int
    reachable: bool | None
    error: str | None
    checked: datetime | None


@dataclass(frozen=True, slots=True)
class BucketList:
    """All buckets."""

    buckets: tuple[BucketState, ...]


@dataclass(frozen=True, slots=True)
class BucketCheck:
    """What a bucket can do.

    Attributes:
        name: Its name.
        reachable: Whether it answers at all.
        readable: Whether objects can be read.
        writable: Whether objects can be written and deleted.
        conditional_put: Whether a second put of a taken key is refused; without that it can't be used.
        latency_ms: Of a small request, in milliseconds.
        error: What went wrong first; None if nothing did.
    """

    name: str
    reachable: bool
    readable: bool
    writable: bool
    conditional_put: bool
    latency_ms: float
    error: str | None


@dataclass(frozen=True, slots=True)
class DroppedBucket:
    """A bucket that isn't any more: how many datasets and vector indexes went with it, and how many objects."""

    name: str
    datasets: int
    indexes: int
    objects: int


@dataclass(frozen=True, slots=True)
class PutLimits:
    """How large one put into a bucket may be, in bytes: any, and those below `_vectors/`."""

    name: str
    put_bytes: int
    vector_put_bytes: int


@dataclass(frozen=True, slots=True)
class KindUsage:
    """Objects of one kind in a bucket, such as `datasets` or `garbage`, and their bytes."""

    kind: str
    objects: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What something has in a bucket: its newest version, and in `past_` what only earlier versions name.

    Attributes:
        bucket: Its home, which may be another bucket by now.
        objects: How many; `bytes` is their size.
    """

    bucket: str
    objects: int
    bytes: int
    past_objects: int
    past_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetUsage(Held):
    """What the dataset of this name has in a bucket."""

    dataset: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexUsage(Held):
    """What the vector index of this name has in a bucket."""

    index: str


@dataclass(frozen=True, slots=True)
class BucketUsage:
    """All objects of a bucket and their bytes, by kind, by dataset and by vector index."""

    name: str
    objects: int
    bytes: int
    kinds: tuple[KindUsage, ...]
    datasets: tuple[DatasetUsage, ...]
    indexes: tuple[IndexUsage, ...]


@dataclass(frozen=True, slots=True)
class PresignedUrl:
    """A URL that reads or writes one object until `expires_at`. Whoever has it can use it."""

    url: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class LifecycleRule:
    """What becomes of objects below a prefix by age, in days; what is None isn't done.

    Attributes:
        prefix: What their keys begin with.
        expire_days: Older ones are deleted.
        abort_upload_days: Uploads in parts that were begun earlier are given up (S3).
        transition_days: Older ones change to `storage_class` (S3).
        storage_class: Such as `STANDARD_IA`; empty without `transition_days`.
    """

    prefix: str
    expire_days: int | None = None
    abort_upload_days: int | None = None
    transition_days: int | None = None
    storage_class: str = ""


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The lifecycle rules of a bucket, and who applies them: `s3`, or `server`, which is flightserver."""

    name: str
    rules: tuple[LifecycleRule, ...]
    applied_by: str


@dataclass(frozen=True, slots=True)
class Collected:
    """Garbage that was deleted, or would be.

    Attributes:
        bucket: Where.
        objects: How many; `bytes` likewise.
        kept: How many others are needed, or too young.
        horizon: The oldest version of the catalog that can still be read.
        examples: Some of the keys.
    """

    bucket: str
    objects: int
    bytes: int
    kept: int
    horizon: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What was copied to the bucket `rescue`.

    Attributes:
        bucket: From where.
        objects: How many; `bytes` likewise.
        already: How many more were there.
        continuous: Whether the copy is kept current from now on; that of a dataset also is when that of its bucket is.
    """

    bucket: str
    objects: int
    bytes: int
    already: int
    continuous: bool


@dataclass(frozen=True, slots=True)
class DuplicateName:
    """Entries of an old catalog that have one name: the newest is kept."""

    kept: str
    dropped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Migrated:
    """How many references to buckets were mended, or would be, and how many were right."""

    renamed: int
    unchanged: int
    duplicates: tuple[DuplicateName, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What has another home.

    Attributes:
        bucket: The new home.
        moved_from: The old one.
        version: The commit that moved it.
        objects: How many were copied; `bytes` likewise.
        already: How many more were there.
    """

    bucket: str
    moved_from: str
    version: int
    objects: int
    bytes: int
    already: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedDataset(Moved):
    """The dataset of this name has another home."""

    dataset: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedIndex(Moved):
    """The vector index of this name has another home."""

    index: str


Contents = Literal["keep", "delete"]
"""What becomes of the files of datasets and indexes when their bucket is dropped."""
