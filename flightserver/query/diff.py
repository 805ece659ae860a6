"""What differs between two versions of a dataset: columns, and rows as multisets.

Theory of operation: a row of one version is told apart from a row of the other by its values alone. Rows are compared
by the columns of the newer side. Its columns are found in the other side by their names in files, so that a column that
was renamed is the same column; failing that, by their names. Where one side's type is wider, both are read as
that; a column that the other side lacks, or has with a type that has nothing in common, is null there. For that each
side becomes a dataset with the schema to compare by, which the scan reads like any dataset that has evolved.

Segments that both versions have, with the same dead rows, cancel each other, if their files hold the same for both
schemas. They are left out beforehand, so that the diff of neighbours costs what has changed and not what there is.

The rest is one statement: rows of both sides, counted with -1 and +1, grouped by all columns; what doesn't add up
to zero has changed. With a primary key a row that went and one that came with its key are a row that has changed. Where
several rows have one key, they are rows that went and came.

Invariant: a dataset made here has an id of its own, so that nothing that is kept by id is taken for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

from flightserver.catalog.identities import Privilege
from flightserver.catalog.quoting import delimited
from flightserver.errors import InvalidRequest, NotFound
from flightserver.query.language.statements import Kind, Statement
from flightserver.query.namespace import Scope
from flightserver.query.request import Planned
from flightserver.query.wire import wire_schema
from flightserver.tables.plan import names_in_files
from flightserver.tables.schema import decode, encode, fingerprint, free_stored_name, stored_name, with_stored_name
from flightserver.tables.types import widened
from flightserver.tables.versions import dataset_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.entities import Dataset, Segment
    from flightserver.query.engine import Engine
    from flightserver.query.request import Request
    from flightserver.tables.versions import Moment

BEFORE = "__before"
AFTER = "__after"
"""Bare names of the two sides in the statement that compares them."""

CHANGE = "_change"
"""First column of changed rows: `insert` or `delete`, and with a primary key `update_before` or `update_after`."""


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """A column that both versions have, but not the same. Types are Arrow's names of them."""

    column: str
    was: str
    type: str
    type_was: str
    nullable: bool
    nullable_was: bool


@dataclass(frozen=True, slots=True)
class RowCounts:
    """How many rows came, went, and changed; `changed` is None where there is no primary key to tell."""

    added: int
    removed: int
    changed: int | None


@dataclass(frozen=True, slots=True)
class Diff:
    """Two versions of a dataset, ready to be compared.

    Attributes:
        then: The version that is compared from.
        now: The version that is compared to.
        before: `then` with the schema to compare by, without what both share.
        after: As `before`, of `now`.
        columns: What is compared, by the names in `now`.
        primary_key: Of both versions; empty if they have none or not the same.
        columns_added: Names of columns that `then` lacks.
        columns_removed: Names of columns that `now` lacks.
        columns_changed: Columns that are called otherwise, or have another type or nullability.
        segments_shared: How many segments were left out.
    """

    then: Dataset
    now: Dataset
    before: Dataset
    after: Dataset
    columns: tuple[str, ...]
    primary_key: tuple[str, ...]
    columns_added: tuple[str, ...]
    columns_removed: tuple[str, ...]
    columns_changed: tuple[ColumnChange, ...]
    segments_shared: int


class Diffs:
    """Compares versions of datasets.

    Args:
        engine: Plans the comparison.
        catalog: Knows the versions.
    """

    def __init__(self, engine: Engine, catalog: Catalog) -> None:
        self._engine = engine
        self._catalog = catalog

    def between(self, dataset: Dataset, start: Moment, end: Moment | None = None) -> Diff:
        """Find two versions of a dataset; `end` None is the dataset as it is given.

        Raises:
            NotFound: There is no such version or tag, or its files may be gone.
            InvalidRequest: The dataset is attached, or rows of it can't be compared.
        """
        _, then = dataset_at(self._catalog, dataset, start)
        return compared(then, dataset if end is None else dataset_at(self._catalog, dataset, end)[1])

    def rows(self, diff: Diff, request: Request) -> Planned:
        """Plan the query of the changed rows. Of `request` everything counts but its text, which is only shown."""
        return self._planned(diff, request, diff_query(diff.columns, diff.primary_key))

    def tally(self, diff: Diff, request: Request) -> Planned:
        """As `rows`, of one row per kind of change with their number; see `counted`."""
        return self._planned(diff, request, tally_query(diff.columns, diff.primary_key))

    def _planned(self, diff: Diff, request: Request, sql: str) -> Planned:
        newest = self._catalog.snapshot()
        # The versions may have another name than the dataset has now, which policies go by.
        request = replace(request, rights=request.rights.at(newest.access))
        key = request.rights.key_now(diff.now, newest)
        if key is None and request.rights.has_policies:
            raise NotFound(f"dataset {diff.now.key} was dropped meanwhile")
        key = key or diff.now.key
        request.rights.require((Privilege.SELECT,), key, None)
        request.rights.require_unprotected(key, newest.datasets.get(key, diff.now))
        scope = Scope(newest, request.bucket, named={BEFORE: diff.before, AFTER: diff.after})
        frame = self._engine.query(sql, scope, {})
        return Planned(request, Statement(Kind.QUERY, sql), scope, wire_schema(frame.schema()), frame)


def counted(diff: Diff, batches: Iterable[pa.RecordBatch]) -> RowCounts:
    """The answer of `Diffs.tally`."""
    counts = {row[CHANGE]: row["rows"] for batch in batches for row in batch.to_pylist()}
    changed = counts.get("update_after", 0) if diff.primary_key else None
    return RowCounts(counts.get("insert", 0), counts.get("delete", 0), changed)


def compared(then: Dataset, now: Dataset) -> Diff:
    """Prepare two versions of one dataset to be compared.

    Raises:
        InvalidRequest: Rows can't be compared: a column holds maps, which have no equality.
    """
    pairs = _paired(then, now)
    before, after = reduced(then, now)
    names = tuple(pair.name for pair in pairs)
    if before.segments or after.segments:
        _check_comparable(pairs)
    known = {pair.was for pair in pairs}
    return Diff(
        then=then,
        now=now,
        before=before,
        after=after,
        columns=names,
        primary_key=_common_key(then, now, pairs),
        columns_added=tuple(pair.name for pair in pairs if pair.was is None),
        columns_removed=tuple(name for name in decode(then.schema).names if name not in known),
        columns_changed=tuple(_changed_columns(then, now, pairs)),
        segments_shared=len(now.segments) - len(after.segments),
    )


def reduced(then: Dataset, now: Dataset) -> tuple[Dataset, Dataset]:
    """The same two versions of one dataset under the schema to compare by, without the segments that both share."""
    pairs = _paired(then, now)
    others = {segment.id: segment for segment in then.segments}
    shared = {
        segment.id
        for segment in now.segments
        if segment.id in others
        and then.deltas_of((segment.id,)) == now.deltas_of((segment.id,))
        and _reads_alike(segment, pairs)
    }
    side = f"{then.version}-{now.version}"
    same_columns = then.schema_fingerprint == now.schema_fingerprint
    schemas = None if same_columns else (_schema(pairs, before=True), _schema(pairs, before=False))
    before_schema, after_schema = (None, None) if schemas is None else schemas
    return _without(then, shared, before_schema, f"{side}-before"), _without(now, shared, after_schema, f"{side}-after")


def diff_query(columns: Sequence[str], primary_key: Sequence[str] = ()) -> str:
    """SQL over `__before` and `__after` whose rows are what changed: `_change`, then the columns.

    A row that occurs several times more often on one side comes as often. With a primary key the rows come in its
    order, `update_before` right before its `update_after`.

    Raises:
        InvalidRequest: A column is called `_change`.
    """
    net, listed = _free("__net", columns), _listed(columns)
    order = f" ORDER BY {_listed(primary_key)}, {net}" if primary_key else ""
    repeated = f"SELECT *, unnest(range(0, abs({net}))) FROM ({_changes(columns, primary_key)})"  # noqa: S608  # names are quoted
    return f'SELECT "{CHANGE}", {listed} FROM ({repeated}){order}'  # noqa: S608  # as above


def tally_query(columns: Sequence[str], primary_key: Sequence[str] = ()) -> str:
    """SQL whose rows say how many rows `diff_query` would answer of each kind: `_change`, `rows`.

    Raises:
        InvalidRequest: As `diff_query`.
    """
    net = _free("__net", columns)
    changes = f'SELECT "{CHANGE}", abs({net}) AS {net} FROM ({_changes(columns, primary_key)})'  # noqa: S608  # names are quoted
    return f'SELECT "{CHANGE}", sum({net}) AS "rows" FROM ({changes}) GROUP BY "{CHANGE}"'  # noqa: S608  # as above


def _changes(columns: Sequence[str], primary_key: Sequence[str]) -> str:
    """A query of rows that differ, each once: their kind, themselves, and how much more often they occur afterwards."""
    if CHANGE in columns:
        msg = f'a column is called "{CHANGE}", which the rows of a diff say of themselves: rename it to compare rows'
        raise InvalidRequest(msg)
    side, net, listed = _free("__side", columns), _free("__net", columns), _listed(columns)
    both = f'SELECT {listed}, -1 AS {side} FROM "{BEFORE}" UNION ALL SELECT {listed}, 1 AS {side} FROM "{AFTER}"'  # noqa: S608  # names are quoted
    summed = f"SELECT {listed}, sum({side}) AS {net} FROM ({both}) GROUP BY {listed} HAVING sum({side}) <> 0"  # noqa: S608  # as above
    kind = f"CASE WHEN {net} < 0 THEN 'delete' ELSE 'insert' END"
    if primary_key:
        window = f"OVER (PARTITION BY {_listed(primary_key)})"
        gone = f"sum(CASE WHEN {net} < 0 THEN -{net} ELSE 0 END) {window}"
        come = f"sum(CASE WHEN {net} > 0 THEN {net} ELSE 0 END) {window}"
        update = f"CASE WHEN {net} < 0 THEN 'update_before' ELSE 'update_after' END"
        kind = f"CASE WHEN {gone} = 1 AND {come} = 1 THEN {update} ELSE {kind} END"
    return f'SELECT {kind} AS "{CHANGE}", {listed}, {net} FROM ({summed})'  # noqa: S608  # as above


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(delimited(name) for name in columns)


def _free(name: str, columns: Sequence[str]) -> str:
    """A name like `name`, quoted, that no column has."""
    return delimited(free_stored_name(name, columns))


@dataclass(frozen=True, slots=True)
class _Pair:
    """A column of `now`, and what it is compared with.

    Attributes:
        name: In `now`.
        was: In `then`; None if that lacks it.
        type: That both are read as.
        stored: Its name in files, for `now`.
        stored_then: Its name in files, for `then`: one that no file has if it can't be compared.
    """

    name: str
    was: str | None
    type: pa.DataType
    stored: str
    stored_then: str


def _paired(then: Dataset, now: Dataset) -> tuple[_Pair, ...]:
    earlier, later = decode(then.schema), decode(now.schema)
    taken = {*names_in_files(then), *names_in_files(now), *map(stored_name, earlier), *map(stored_name, later)}
    partners = _partners(earlier, later)
    pairs = []
    for field in later:
        partner = partners.get(field.name)
        common = None if partner is None else widened(field.type, partner.type) or widened(partner.type, field.type)
        if partner is not None and common is not None:
            stored_then = stored_name(partner)
        else:
            stored_then = free_stored_name(field.name, taken)
            taken.add(stored_then)
        was = None if partner is None else partner.name
        pairs.append(_Pair(field.name, was, common or field.type, stored_name(field), stored_then))
    return tuple(pairs)


def _partners(earlier: pa.Schema, later: pa.Schema) -> dict[str, pa.Field]:
    """Which column of the one schema a column of the other is, by the latter's name."""
    by_stored = {stored_name(field): field for field in earlier}
    found = {field.name: by_stored[stored_name(field)] for field in later if stored_name(field) in by_stored}
    used = {field.name for field in found.values()}
    left = {field.name: field for field in earlier if field.name not in used}
    return {name: left[name] for name in later.names if name in left} | found


def _reads_alike(segment: Segment, pairs: Sequence[_Pair]) -> bool:
    """Whether both sides read the same rows of a segment: each column from the same column of files, or from none."""
    return all(
        pair.stored == pair.stored_then
        or (bool(segment.columns) and segment.columns.keys().isdisjoint((pair.stored, pair.stored_then)))
        for pair in pairs
    )


def _schema(pairs: Sequence[_Pair], *, before: bool) -> pa.Schema:
    """The schema to compare by. All is nullable, because one side may lack what the other has."""
    return pa.schema(
        [
            with_stored_name(pa.field(pair.name, pair.type), pair.stored_then if before else pair.stored)
            for pair in pairs
        ]
    )


def _without(dataset: Dataset, shared: set[str], schema: pa.Schema | None, side: str) -> Dataset:
    """The dataset without some segments, under another schema if one is given."""
    if not shared and schema is None:
        return dataset
    segments = tuple(segment for segment in dataset.segments if segment.id not in shared)
    deltas = set(dataset.deltas_of([segment.id for segment in segments]))
    return msgspec.structs.replace(
        dataset,
        id=f"{dataset.id}:{side}",
        schema=dataset.schema if schema is None else encode(schema),
        schema_fingerprint=dataset.schema_fingerprint if schema is None else fingerprint(schema),
        segments=segments,
        deltas=tuple(delta for delta in dataset.deltas if delta.id in deltas),
        rows=sum(segment.live for segment in segments),
        bytes=sum(segment.bytes for segment in segments),
    )


def _common_key(then: Dataset, now: Dataset, pairs: Sequence[_Pair]) -> tuple[str, ...]:
    """The primary key, if it is of the same columns on both sides and these can be compared."""
    was = {pair.name: pair.was for pair in pairs}
    same = {was[name] for name in now.primary_key} == set(then.primary_key)
    return now.primary_key if same else ()


def _changed_columns(then: Dataset, now: Dataset, pairs: Sequence[_Pair]) -> Iterable[ColumnChange]:
    earlier, later = decode(then.schema), decode(now.schema)
    for pair in pairs:
        if pair.was is not None:
            field, old = later.field(pair.name), earlier.field(pair.was)
            change = ColumnChange(
                column=pair.name,
                was=old.name,
                type=str(field.type),
                type_was=str(old.type),
                nullable=field.nullable,
                nullable_was=old.nullable,
            )
            if change != replace(change, was=change.column, type_was=change.type, nullable_was=change.nullable):
                yield change


def _check_comparable(pairs: Sequence[_Pair]) -> None:
    for pair in pairs:
        if _has_map(pair.type):
            msg = (
                f'column "{pair.name}" is {pair.type}: maps have no equality, so that rows with them can\'t be '
                "compared; keep them as a list of structs"
            )
            raise InvalidRequest(msg)


def _has_map(data_type: pa.DataType) -> bool:
    if pa.types.is_map(data_type):
        return True
    if not pa.types.is_nested(data_type):
        return False
    return any(_has_map(data_type.field(place).type) for place in range(data_type.num_fields))
