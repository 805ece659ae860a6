"""The nouns of the catalog: frozen structs that a commit writes and a snapshot holds.

Format rule: a released field is never renamed, reordered or removed; new fields come last and have a
default, so that every log ever written stays readable. Unknown fields are ignored on reading.
"""

from __future__ import annotations

import re
from datetime import datetime  # noqa: TC003  # msgspec resolves the annotations when it decodes
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from flightserver.catalog.quoting import delimited, identifier
from flightserver.errors import InvalidRequest
from flightserver.storage.limits import DEFAULT_PUT_BYTES, VECTOR_PUT_BYTES
from flightserver.storage.s3_access import S3Location

if TYPE_CHECKING:
    from collections.abc import Collection

PRIMARY = "primary"
RESCUE = "rescue"
"""What another bucket can't serve is read from here, when there is such a bucket."""
OLD_PRIMARY = frozenset({"", "data", "local"})
"""What references to `primary` were written as once; `catalog.migrate_buckets` mends them."""
LOCAL = "local"
S3 = "s3"
"""The bucket that always exists and holds the catalog."""

_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9:_-]{0,62}")
_MAX_NAME_BYTES = 200
"""Percent-encoding triples a byte at most; a directory entry holds 255 (Linux NAME_MAX) and most names are ASCII."""


ArrowSchema = bytes
"""An Arrow IPC schema message. It has a name because `Dataset.bytes` hides the type where fields are resolved."""


class DatasetKey(NamedTuple):
    """What identifies a dataset: names are unique per bucket."""

    bucket: str
    name: str

    def __str__(self) -> str:
        return f"{delimited(self.bucket)}.{identifier(self.name)}"


class ColumnRange(msgspec.Struct, frozen=True, omit_defaults=True):
    """Smallest and largest value of a column as text, and how many values are null.

    `low` and `high` are None where the column holds no comparable value (all null, nested, binary).
    """

    low: str | None = None
    high: str | None = None
    nulls: int = 0


class Segment(msgspec.Struct, frozen=True, omit_defaults=True):
    """One write of one dataset: an immutable directory of Parquet files.

    Files are named `part-00000.parquet` to `part-{files-1:05d}.parquet`. Each carries `_rid`, which is `row_id_base`
    plus the row's place in the segment (0-based, sequential over the files). Writers draw `row_id_base` at random from
    62 bits, so that row ids of a dataset's segments don't meet though nobody agrees on them; where they do meet
    (always for segments of before, whose base is 0), readers tell the segments apart. `first_row_id`, set by the
    commit, numbers the rows of a dataset in the order of their commits. `columns` goes by the names in the files.
    `dead` says how many of `rows` deltas have removed.
    """

    id: str
    bucket: str
    directory: str
    files: int
    rows: int
    bytes: int
    schema_fingerprint: str
    first_row_id: int = 0
    columns: dict[str, ColumnRange] = {}
    row_id_base: int = 0
    dead: int = 0

    @property
    def live(self) -> int:
        """Rows that no delta has removed."""
        return self.rows - self.dead

    def object_keys(self) -> list[str]:
        """Object keys of the segment's files, in row order."""
        return [f"{self.directory}/part-{number:05d}.parquet" for number in range(self.files)]


class Delta(msgspec.Struct, frozen=True, omit_defaults=True):
    """Rows that one change removed: an immutable Parquet file of places in segments.

    Attributes:
        id: A ULID.
        bucket: Where the file is.
        key: Of the file; its columns are `segment` (string) and `place` (int64), sorted.
        rows: How many it removes in all; a place is removed by one delta at most.
        bytes: Size of the file.
        removed: How many it removes of each segment that the dataset still has, by the segment's id.
    """

    id: str
    bucket: str
    key: str
    rows: int
    bytes: int
    removed: dict[str, int] = {}


class External(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the rows of an attached dataset lie, which others write and we only read.

    Attributes:
        format: delta, iceberg, lance or parquet.
        location: As it was given when it was attached, below one of the allowed roots.
        options: Of the format's reader.
    """

    format: str
    location: str
    options: dict[str, str] = {}


class Lineage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where rows came from.

    `system` is one of file, upload, arrow, sql, postgresql, mysql; `source` is the redacted origin (a file name, a
    table, a statement kind) and never holds a secret or a path of the server. `content` is the SHA-256 of
    the ingested bytes together with the reading options, or None where identity means nothing.
    """

    system: str
    source: str
    time: datetime
    job: str
    rows: int
    content: str | None = None


class ForeignKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """Columns whose values are those of another dataset's primary key, as its owner says: nothing makes sure of it.

    `dataset_id` is what identifies the dataset that is referred to, whatever it is called later; empty for the dataset
    itself. `bucket` and `dataset` are what it was called when the key was declared. A key whose dataset or columns are
    gone stays here and is shown nowhere.

    Attributes:
        name: Of the constraint.
        columns: Of this dataset.
        bucket: Of the dataset that is referred to.
        dataset: Its name.
        referenced: Its columns, in the order of `columns`.
        dataset_id: Its id.
        on_update: CASCADE, RESTRICT, SET NULL, NO ACTION or SET DEFAULT.
        on_delete: Likewise.
    """

    name: str
    columns: tuple[str, ...]
    bucket: str
    dataset: str
    referenced: tuple[str, ...]
    dataset_id: str = ""
    on_update: str = "NO ACTION"
    on_delete: str = "NO ACTION"


class Dataset(msgspec.Struct, frozen=True, omit_defaults=True):
    """A table at one version: pointers only.

    `id` is new with each creation, so that a dropped and re-created name is another dataset. `version` is the
    number of the commit that last changed it. `schema` is an Arrow IPC schema message (nullability, comments and names
    in the files included, without `_rid`). `tags` names versions. An attached dataset has `external` and no segments.
    `column_tags` says what columns are, such as `pii`, for policies. An empty `primary_key_name` stands for the usual
    one, see `Dataset.key_name`. `mirrored` says whether `rescue` keeps a copy of it, whatever bucket it is in.
    """

    id: str
    bucket: str
    name: str
    schema: ArrowSchema
    schema_fingerprint: str
    created: datetime
    version: int = 0
    rows: int = 0
    bytes: int = 0
    next_row_id: int = 0
    segments: tuple[Segment, ...] = ()
    lineage: tuple[Lineage, ...] = ()
    primary_key: tuple[str, ...] = ()
    comment: str = ""
    deltas: tuple[Delta, ...] = ()
    tags: dict[str, int] = {}
    external: External | None = None
    column_tags: dict[str, tuple[str, ...]] = {}
    foreign_keys: tuple[ForeignKey, ...] = ()
    primary_key_name: str = ""
    mirrored: bool = False

    @property
    def key_name(self) -> str:
        """Name of the primary key as a constraint: the one that it was given, or the usual one."""
        return self.primary_key_name or f"{self.name}_pkey"

    def deltas_of(self, segments: Collection[str]) -> tuple[str, ...]:
        """Ids of the deltas that removed rows of any of these segments, in the order of their commits."""
        return tuple(delta.id for delta in self.deltas if not delta.removed.keys().isdisjoint(segments))

    @property
    def state(self) -> tuple[object, ...]:
        """What its rows and columns depend on: two datasets of equal state read the same."""
        return (
            self.id,
            self.schema_fingerprint,
            tuple(segment.id for segment in self.segments),
            tuple(delta.id for delta in self.deltas),
        )

    @property
    def key(self) -> DatasetKey:
        """Bucket and name."""
        return DatasetKey(self.bucket, self.name)


class Meaning(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a name in the text of a view means that the catalog has by another name since.

    Attributes:
        schema: What stands before the dot; None for a bare name.
        name: What stands behind it.
        means: What it means.
    """

    schema: str | None
    name: str
    means: DatasetKey

    def __str__(self) -> str:
        """As `system.views` shows it."""
        written = identifier(self.name) if self.schema is None else str(DatasetKey(self.schema, self.name))
        return f"{written} is {self.means}"


class View(msgspec.Struct, frozen=True, omit_defaults=True):
    """A query with a name; names are shared with datasets.

    Attributes:
        bucket: As of a dataset.
        name: As of a dataset.
        sql: The query.
        schema: Of its rows when it was made, an Arrow IPC schema message.
        created: When.
        version: The commit that made it or last changed it.
        default_bucket: Where the query's bare names are looked up first; None for primary.
        default_schema: The schema of the session that made it.
        comment: On the view.
        meanings: Of names in the query whose datasets were moved or renamed (`flightserver.catalog.view_names`).
    """

    bucket: str
    name: str
    sql: str
    schema: ArrowSchema
    created: datetime
    version: int = 0
    default_bucket: str | None = None
    default_schema: str = "public"
    comment: str = ""
    meanings: tuple[Meaning, ...] = ()

    @property
    def key(self) -> DatasetKey:
        """Bucket and name."""
        return DatasetKey(self.bucket, self.name)


class S3Place(S3Location, frozen=True, omit_defaults=True):
    """Where the objects of an S3 bucket are, and who asks for them.

    Attributes:
        credentials: Names where they are found (`flightserver.storage.credentials`); never what they are.
    """

    credentials: str = "environment"


class PutLimits(msgspec.Struct, frozen=True, omit_defaults=True):
    """How large a put may be, in bytes: below `_vectors/`, and elsewhere."""

    put_bytes: int = DEFAULT_PUT_BYTES
    vector_put_bytes: int = VECTOR_PUT_BYTES


class LifecycleRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """What becomes of objects by their age in days; a period that is None isn't applied.

    Attributes:
        prefix: Of their keys.
        expire_days: They are deleted.
        abort_upload_days: Uploads in parts that were never finished are given up.
        transition_days: They change to `storage_class`; only S3 has such.
        storage_class: As S3 names it.
    """

    prefix: str
    expire_days: int | None = None
    abort_upload_days: int | None = None
    transition_days: int | None = None
    storage_class: str = ""


class Bucket(msgspec.Struct, frozen=True, omit_defaults=True):
    """A named place for objects.

    Attributes:
        name: Its name.
        backend: `local` or `s3`.
        root: The directory of a local bucket, relative to the data directory unless it is absolute; empty for the
            directory of the bucket's name there.
        created: When.
        s3: Where an S3 bucket is.
        limits: Of its puts; None for the usual ones.
        lifecycle: Rules that objects of it follow.
        former: Names that it had before, under which versions before its renaming know it.
        mirrored: Whether `rescue` keeps a copy of it.
    """

    name: str
    backend: str
    root: str = ""
    created: datetime | None = None
    s3: S3Place | None = None
    limits: PutLimits | None = None
    lifecycle: tuple[LifecycleRule, ...] = ()
    former: tuple[str, ...] = ()
    mirrored: bool = False


def check_bucket_name(name: str) -> str:
    """Return `name` when it can name a bucket.

    Raises:
        InvalidRequest: It doesn't match `[a-z0-9][a-z0-9:_-]{0,62}`.
    """
    if not _BUCKET_NAME.fullmatch(name):
        msg = (
            f"{name!r} can't name a bucket: a name starts with a lower-case letter or digit and has at most 63 "
            "characters of a-z, 0-9, ':', '_' and '-'"
        )
        raise InvalidRequest(msg)
    return name


def check_dataset_name(name: str, what: str = "a dataset") -> str:
    """Return `name` when it can name a dataset.

    Any text that SQL can quote is a name, except what could be mistaken for a path.

    Args:
        name: The name.
        what: What is to have it, where that isn't a dataset.

    Raises:
        InvalidRequest: It is empty, too long, or has a slash, a backslash or a control character, or is dots only.
    """
    problem = None
    if not name.strip():
        problem = "it is empty"
    elif len(name.encode("utf-8", "replace")) > _MAX_NAME_BYTES:
        problem = f"it is longer than {_MAX_NAME_BYTES} bytes"
    elif not name.isprintable() or "/" in name or "\\" in name:
        problem = "it has a slash, a backslash or a character that can't be printed"
    elif not name.strip("."):
        problem = "it is nothing but dots"
    if problem is not None:
        shown = name if len(name) <= _MAX_NAME_BYTES else name[:40] + "..."
        msg = f"{shown!r} can't name {what}: {problem}"
        raise InvalidRequest(msg)
    return name
