"""What a write means in one snapshot: which schema its rows need, and which transaction adds them.

Pure functions of a request and a snapshot, so that a write whose commit was refused can ask again with the
snapshot that refused it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
from msgspec.structs import replace

from flightserver.catalog.entities import Dataset, Lineage
from flightserver.catalog.missing import no_dataset
from flightserver.catalog.requirements import ContentAbsent, DatasetAbsent, DatasetUnchangedSchema
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.ulid import new_ulid
from flightserver.catalog.updates import AppendSegments, CreateDataset, ReplaceSegments
from flightserver.errors import AlreadyExists, InvalidRequest, SchemaMismatch
from flightserver.tables.requests import Mode
from flightserver.tables.schema import canonical, decode, drift, drift_error, encode, evolve, fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flightserver.catalog.entities import DatasetKey, Segment
    from flightserver.catalog.log import Operation
    from flightserver.catalog.requirements import Requirement
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.catalog.updates import Update
    from flightserver.errors import Hint, Sees
    from flightserver.tables.requests import CreateRequest, WriteRequest

_APPENDS = frozenset({Mode.APPEND, Mode.CREATE_APPEND})


@dataclass(frozen=True, slots=True)
class Target:
    """What a write goes to.

    Attributes:
        dataset: The one that is there, or None when the write creates it.
        schema: That the dataset has afterwards, and the segment therefore.
        primary_key: Of the dataset afterwards.
    """

    dataset: Dataset | None
    schema: pa.Schema
    primary_key: tuple[str, ...]

    def holds(self, request: WriteRequest) -> bool:
        """Whether the dataset has the very bytes of the request, so that nothing is left to do.

        A replacement must find nothing else in it: one write is all that it ever had, and its rows are all there.
        """
        if self.dataset is None or request.content is None:
            return False
        if request.mode is not Mode.REPLACE:
            return _has_content(request, self.dataset)
        lineage = self.dataset.lineage
        return (
            [entry.content for entry in lineage] == [request.content]
            and self.dataset.rows == lineage[0].rows
            and len(self.dataset.segments) <= 1
            and not self.dataset.deltas
            and self.dataset.schema_fingerprint == fingerprint(self.schema)
            and self.dataset.primary_key == self.primary_key
        )


def find_target(request: WriteRequest, snapshot: Snapshot) -> Target:
    """What the request goes to in this snapshot.

    Raises:
        AlreadyExists: Mode create, and the dataset is there.
        NotFound: Mode append, and it isn't.
        SchemaDrift: Mode append, and the rows don't fit.
        SchemaMismatch: No dataset can hold the rows, or none with this key.
        InvalidRequest: An append says another primary key than the dataset has.
    """
    found = snapshot.datasets.get(request.key)
    if found is None and request.mode is Mode.APPEND:
        found = snapshot.dataset(request.name, request.bucket)
    if found is None:
        return Target(None, with_key(canonical(request.schema), request.primary_key), request.primary_key)
    if request.mode is Mode.CREATE:
        raise taken(found)
    refuse_external(found)
    if request.mode is Mode.REPLACE:
        schema = canonical(request.schema)
        kept = found.primary_key if set(found.primary_key) <= set(schema.names) else ()
        primary_key = request.primary_key or kept
        return Target(found, with_key(schema, primary_key), primary_key)
    if request.primary_key and request.primary_key != found.primary_key:
        has = ", ".join(found.primary_key) or "none"
        msg = (
            f"dataset {found.key} has the primary key {has}, the request says {', '.join(request.primary_key)}: "
            "leave the key out, or drop the dataset first"
        )
        raise InvalidRequest(msg)
    return Target(found, with_key(_appended(request, found), found.primary_key), found.primary_key)


def refuse_moved(request: WriteRequest, was: Dataset | None, snapshot: Snapshot) -> None:
    """Return unless rows that were written for a dataset's former home are to be added to it.

    Raises:
        NotFound: The dataset has another home, or another name; says which, to who may see it there.
    """
    if was is None or request.mode not in _APPENDS:
        return
    now = next((one.key for one in snapshot.datasets.values() if one.id == was.id), was.key)
    if now != was.key:
        raise no_dataset(was.key, f"dataset {was.key} ", _moved_to(now))


def _moved_to(now: DatasetKey) -> Hint:
    def hint(sees: Sees) -> str:
        if sees(*now):
            return f"is {now} by now: nothing was written; send the rows there"
        return "isn't there any more: it was renamed or moved, and nothing was written"

    return hint


def refuse_external(dataset: Dataset) -> None:
    """Return unless the dataset is attached.

    Raises:
        InvalidRequest: Others write it, in a format that we only read.
    """
    if dataset.external is not None:
        msg = (
            f"dataset {dataset.key} is attached ({dataset.external.format}) and can only be read: "
            "copy it with CREATE TABLE ... AS SELECT to change the copy"
        )
        raise InvalidRequest(msg)


def taken(dataset: Dataset) -> AlreadyExists:
    """The error for a name that a dataset has."""
    msg = f"dataset {dataset.key} exists already, at version {dataset.version}: append to it, replace it or drop it"
    return AlreadyExists(msg)


def with_key(schema: pa.Schema, primary_key: Sequence[str]) -> pa.Schema:
    """The schema with the columns of its key not null.

    Raises:
        InvalidRequest: The key names a column twice.
        SchemaMismatch: It names a column that isn't there, or one whose values can't be compared.
    """
    if len(set(primary_key)) != len(primary_key):
        msg = f"the primary key names a column twice: {', '.join(primary_key)}"
        raise InvalidRequest(msg)
    for name in primary_key:
        place = schema.get_field_index(name)
        if place < 0:
            has = ", ".join(f'"{column}"' for column in schema.names)
            msg = f'primary key column "{name}" is not among the columns {has}'
            raise SchemaMismatch(msg)
        field = schema.field(place)
        if pa.types.is_nested(field.type):
            msg = f'primary key column "{name}" is {field.type}, which has no order: use a column of plain values'
            raise SchemaMismatch(msg)
        schema = schema.set(place, field.with_nullable(nullable=False))
    return schema


def new_dataset(request: WriteRequest | CreateRequest, schema: pa.Schema, lineage: Lineage) -> Dataset:
    """A dataset without rows."""
    return Dataset(
        id=new_ulid(),
        bucket=request.bucket,
        name=request.name,
        schema=encode(schema),
        schema_fingerprint=fingerprint(schema),
        created=lineage.time,
        lineage=(lineage,),
        primary_key=request.primary_key,
        foreign_keys=request.foreign_keys,
        primary_key_name=request.primary_key_name,
    )


def new_lineage(
    system: str, source: str, operation: Operation, *, rows: int = 0, content: str | None = None
) -> Lineage:
    """An entry that says that this operation brought rows now."""
    return Lineage(system, source, datetime.now(UTC), operation.id, rows, content)


def transaction(request: WriteRequest, target: Target, segment: Segment | None) -> Transaction:
    """The transaction that makes a written segment part of the dataset, if the target is still what it was.

    It has no updates when there is nothing to say but that the operation has happened.
    """
    rows = 0 if segment is None else segment.rows
    lineage = new_lineage(
        request.lineage_system, request.lineage_source, request.operation, rows=rows, content=request.content
    )
    updates, requirements = _steps(request, target, () if segment is None else (segment,), lineage)
    return Transaction(replace(request.operation, rows=rows), updates, requirements)


def _steps(
    request: WriteRequest, target: Target, segments: tuple[Segment, ...], lineage: Lineage
) -> tuple[tuple[Update, ...], tuple[Requirement, ...]]:
    bucket, name = request.key
    if target.dataset is None:
        created = replace(new_dataset(request, target.schema, lineage), segments=segments)
        return (CreateDataset(created),), (DatasetAbsent(bucket, name),)
    dataset = target.dataset
    same = DatasetUnchangedSchema(bucket, name, dataset.id, dataset.schema_fingerprint)
    schema, changed = encode(target.schema), fingerprint(target.schema)
    if request.mode is Mode.REPLACE:
        replaced = ReplaceSegments(bucket, name, segments, schema, changed, lineage)
        return (replace(replaced, **_replaced_keys(request, target, dataset)),), (same,)
    evolved = changed != dataset.schema_fingerprint
    if not segments and not evolved and request.content is None:
        return (), (same,)
    append = AppendSegments(
        bucket,
        name,
        segments,
        lineage=None if request.content is None else lineage,
        schema=schema if evolved else None,
        schema_fingerprint=changed if evolved else None,
    )
    absent = () if request.content is None else (ContentAbsent(bucket, name, request.content),)
    return (append,), (same, *absent)


def _replaced_keys(request: WriteRequest, target: Target, dataset: Dataset) -> dict[str, object]:
    """Fields of `ReplaceSegments` that say which keys change."""
    changed: dict[str, object] = {}
    if target.primary_key != dataset.primary_key:
        changed["primary_key"] = target.primary_key
    kept_name = dataset.primary_key_name if target.primary_key == dataset.primary_key else ""
    named = request.primary_key_name or kept_name
    if named != dataset.primary_key_name:
        changed["primary_key_name"] = named
    kept = tuple(key for key in dataset.foreign_keys if set(key.columns) <= set(target.schema.names))
    foreign_keys = request.foreign_keys or kept
    if foreign_keys != dataset.foreign_keys:
        changed["foreign_keys"] = foreign_keys
    return changed


def names_in_files(dataset: Dataset) -> set[str]:
    """Names of all columns that files of the dataset hold, of dropped ones too."""
    return {name for segment in dataset.segments for name in segment.columns}


def _appended(request: WriteRequest, dataset: Dataset) -> pa.Schema:
    """The schema of a dataset after an append: its own, unless the request lets it evolve."""
    current = decode(dataset.schema)
    if _has_content(request, dataset):
        return current  # nothing is going to be appended, even if the dataset has evolved since
    if request.evolve:
        return evolve(current, request.schema, names_in_files(dataset))
    # That data may have nulls is not drift: whether it has them is seen row by row.
    ignored = {"nullability", "missing"} if request.fill_missing else {"nullability"}
    differences = [each for each in drift(current, request.schema) if each.kind not in ignored]
    if differences:
        raise drift_error(f"the rows don't fit dataset {dataset.key}", differences)
    return current


def _has_content(request: WriteRequest, dataset: Dataset) -> bool:
    return request.content is not None and any(entry.content == request.content for entry in dataset.lineage)
