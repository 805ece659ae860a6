"""The schema of a dataset: its canonical form, what fits it, and how it may grow.

Invariants:

- A dataset's schema is canonical (`flightserver.tables.types`), has at least one column, and no two with the same
  name. Names are compared exactly; data whose name differs only in case is matched when that leaves no doubt.
- `_rid` is the row id that segments carry; no schema of a dataset has it.
- Metadata is dropped, except a column's comment, so that the same columns from pandas, polars and JDBC are the same
  schema.
- A column that was renamed, or that has the name of one that files still hold, has another name in the files
  (`stored_name`). Files are never touched when columns are renamed, dropped or added.
- The fingerprint depends on names, names in files, types and nullability in order, and on nothing else.
- Growth never makes a row that exists unreadable: columns are added as nullable, types only widen.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec
import pyarrow as pa

from flightserver.errors import InvalidRequest, SchemaDrift, SchemaMismatch
from flightserver.tables.casts import conform_array
from flightserver.tables.types import canonical_type, decoded, describe, widened

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

ROW_ID = "_rid"
"""Name of the column that holds a row's place in its segment."""

COMMENT = b"comment"
"""Key of a field's metadata under which a column comment travels."""

STORED = b"stored"
"""Key of a field's metadata that says the column's name in files, where it differs."""

Kind = Literal["added", "missing", "type", "nullability"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which data differs from the dataset that it should be appended to.

    Attributes:
        column: Name in the dataset, or in the data when the dataset lacks it.
        kind: What differs. `nullability` means that the data may have nulls where the dataset has none.
        current: Type in the dataset, empty when it lacks the column.
        incoming: Type in the data, empty when it lacks the column.
        safe: Whether `evolve` can reconcile it without touching rows that exist.
    """

    column: str
    kind: Kind
    current: str
    incoming: str
    safe: bool

    def __str__(self) -> str:
        """One clause of a message."""
        verdict = "a safe widening" if self.safe else "not a safe widening"
        clause = {
            "added": f"data has {self.incoming}, dataset has no such column",
            "missing": f"dataset has {self.current}{'' if self.safe else ' not null'}, data has no such column",
            "type": f"dataset has {self.current}, data has {self.incoming} ({verdict})",
            "nullability": f"dataset has {self.current} not null, data may have nulls",
        }[self.kind]
        return f'column "{self.column}": {clause}'


def canonical(schema: pa.Schema) -> pa.Schema:
    """The schema that a dataset has when it is created from data with this one.

    Raises:
        SchemaMismatch: There is no column; a name is empty, reserved, used twice or no proper text; a type can't be
            kept.
    """
    if not len(schema):
        msg = "the data has no columns: a dataset needs at least one"
        raise SchemaMismatch(msg)
    check_text(schema)
    seen: set[str] = set()
    for name in schema.names:
        _check_column_name(name, seen)
        seen.add(name)
    return pa.schema([_canonical_field(field) for field in schema])


def check_text(schema: pa.Schema) -> None:
    """Return when all names in a schema, those inside of types too, are text that the engine can take.

    Arrow does not look at them when it decodes a schema. The engine panics at what isn't UTF-8, and is handed names as
    C strings, which end at a NUL: two columns could become one.

    Raises:
        SchemaMismatch: One is not UTF-8, or holds a NUL; says in which column.
    """
    for place, field in enumerate(schema, start=1):
        try:
            text = "".join([*_texts(field), (field.metadata or {}).get(COMMENT, b"").decode()])
        except UnicodeDecodeError:
            msg = f"a name, type or comment of column {place} is not UTF-8: send text as UTF-8"
            raise SchemaMismatch(msg) from None
        if "\0" in text:
            msg = f"a name, type or comment of column {place} holds a NUL character: send it without"
            raise SchemaMismatch(msg)


def _texts(field: pa.Field) -> Iterator[str]:
    """Its name, and the names and time zones inside of its type."""
    yield field.name
    values = decoded(field.type)
    if pa.types.is_timestamp(values):
        yield values.tz or ""
    elif pa.types.is_nested(values):
        for place in range(values.num_fields):
            yield from _texts(values.field(place))


def _check_column_name(name: str, seen: set[str]) -> None:
    problem = None
    if not name:
        problem = "a column has an empty name: give every column a name"
    elif name == ROW_ID:
        problem = f'column name "{ROW_ID}" is reserved for row ids: rename the column'
    elif name in seen:
        problem = f'column name "{name}" is used twice: rename one of them'
    if problem is not None:
        raise SchemaMismatch(problem)


def _canonical_field(field: pa.Field) -> pa.Field:
    comment = (field.metadata or {}).get(COMMENT)
    metadata = None if comment is None else {COMMENT: comment}
    data_type = canonical_type(field.type, field.name)
    # A column of type null becomes a string column of nulls, whatever its field claims.
    return pa.field(field.name, data_type, nullable=field.nullable or pa.types.is_null(field.type), metadata=metadata)


def fingerprint(schema: pa.Schema) -> str:
    """SHA-256, in hexadecimal, over names, types and nullability of a canonical schema."""
    columns = [
        [
            field.name,
            field.nullable,
            describe(field.type),
            *([] if stored_name(field) == field.name else [stored_name(field)]),
        ]
        for field in schema
    ]
    return hashlib.sha256(msgspec.json.encode(columns)).hexdigest()


def stored_name(field: pa.Field) -> str:
    """The name that a dataset's column has in files."""
    metadata = field.metadata or {}
    return str(metadata[STORED].decode()) if STORED in metadata else str(field.name)


def with_stored_name(field: pa.Field, name: str) -> pa.Field:
    """The column, in files called `name`."""
    metadata = {key: value for key, value in (field.metadata or {}).items() if key != STORED}
    if name != field.name:
        metadata[STORED] = name.encode()
    return field.with_metadata(metadata or None)


def stored(schema: pa.Schema) -> pa.Schema:
    """What files hold of a dataset with this schema: their names for its columns, without metadata."""
    return pa.schema([pa.field(stored_name(field), field.type, nullable=field.nullable) for field in schema])


def visible(schema: pa.Schema) -> pa.Schema:
    """What clients see: the schema without the names in files."""
    return pa.schema([with_stored_name(field, field.name) for field in schema])


def free_stored_name(name: str, taken: Collection[str]) -> str:
    """A name in files for a new column: its own, unless files hold another column of that name."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}#{number}"
    return found


def encode(schema: pa.Schema) -> bytes:
    """The schema as an Arrow IPC message, as the catalog keeps it."""
    return bytes(schema.serialize())


def decode(data: bytes) -> pa.Schema:
    """The schema of an Arrow IPC message.

    Raises:
        InvalidRequest: The bytes are no such message.
    """
    try:
        return pa.ipc.read_schema(pa.py_buffer(data))
    except (pa.ArrowInvalid, OSError) as error:
        msg = f"{len(data)} bytes are no Arrow schema ({error}): send an IPC schema message"
        raise InvalidRequest(msg) from None


def match_columns(current: Iterable[str], incoming: Sequence[str]) -> dict[str, int]:
    """Which incoming column (by its place) belongs to which current one (by its name).

    Exact names first; then names that differ in case, when exactly one on each side is left over.
    """
    exact = {name: place for place, name in enumerate(incoming)}
    matched = {name: exact[name] for name in current if name in exact}
    left_current = _by_folded_name(name for name in current if name not in exact)
    left_incoming = _by_folded_name(name for name in incoming if name not in matched)
    for folded, names in left_current.items():
        candidates = left_incoming.get(folded, [])
        if len(names) == len(candidates) == 1:
            matched[names[0]] = exact[candidates[0]]
    return matched


def _by_folded_name(names: Iterable[str]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for name in names:
        grouped.setdefault(name.casefold(), []).append(name)
    return grouped


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The rows of `batch` under `schema`, without copying the columns that have the right type already.

    Args:
        batch: Columns in any order, of any type whose values have an exact form in `schema`.
        schema: A canonical schema.

    Returns:
        A batch whose schema is exactly `schema`; nullable columns that `batch` lacks are null.

    Raises:
        SchemaMismatch: A column is unknown, missing, has nulls that it may not have, or values that don't fit.
    """
    names = batch.schema.names
    matched = match_columns(schema.names, names)
    if len(matched) < len(names):
        _refuse_columns(names, set(matched.values()), schema)
    columns = [_conform_column(batch, matched.get(field.name), field) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _refuse_columns(names: list[str], known: set[int], schema: pa.Schema) -> None:
    extra = ", ".join(f'"{name}"' for place, name in enumerate(names) if place not in known)
    has = ", ".join(f'"{name}"' for name in schema.names)
    msg = f"data has columns that the dataset lacks, or names them twice: {extra}; the dataset has {has}"
    raise SchemaMismatch(msg)


def _conform_column(batch: pa.RecordBatch, place: int | None, field: pa.Field) -> pa.Array:
    if place is None:
        if not field.nullable:
            msg = f'column "{field.name}" is not null and the data lacks it: send a value for every row'
            raise SchemaMismatch(msg)
        return pa.nulls(batch.num_rows, field.type)
    column = conform_array(batch.column(place), field.type, field.name)
    if not field.nullable and column.null_count:
        msg = f'column "{field.name}" is not null, and {column.null_count} of {len(column)} rows are null'
        raise SchemaMismatch(msg)
    return column


def drift(current: pa.Schema, incoming: pa.Schema) -> list[Difference]:
    """How data differs from a dataset. Data that is narrower, or in another order, does not differ.

    Args:
        current: A dataset's schema, canonical.
        incoming: The data's schema, as it came.

    Raises:
        SchemaMismatch: No dataset could hold the data (see `canonical`).
    """
    fields = canonical(incoming)
    matched = match_columns(current.names, incoming.names)
    found: list[Difference] = []
    for field in current:
        place = matched.get(field.name)
        if place is None:
            found.append(Difference(field.name, "missing", str(field.type), "", safe=field.nullable))
        else:
            found.extend(_column_drift(field, incoming.field(place)))
    extra = set(range(len(fields))) - set(matched.values())
    found.extend(
        Difference(fields.field(place).name, "added", "", str(fields.field(place).type), safe=True)
        for place in sorted(extra)
    )
    return found


def _column_drift(current: pa.Field, incoming: pa.Field) -> Iterable[Difference]:
    target = widened(current.type, incoming.type)
    if target != current.type:
        shown = str(canonical_type(incoming.type, incoming.name))
        yield Difference(current.name, "type", str(current.type), shown, safe=target is not None)
    if incoming.nullable and not current.nullable:
        yield Difference(current.name, "nullability", str(current.type), str(incoming.type), safe=True)


def evolve(current: pa.Schema, incoming: pa.Schema, in_files: Collection[str] = ()) -> pa.Schema:
    """The schema that holds both the dataset's rows and the data's.

    Args:
        current: A dataset's schema.
        incoming: The data's schema, as it came.
        in_files: Names of columns that the dataset's files hold, of dropped columns too.

    Returns:
        The columns of `current` in their order, widened where needed; then new ones, nullable.

    Raises:
        SchemaDrift: Not every difference is safe; the message lists those that aren't.
        SchemaMismatch: No dataset could hold the data (see `canonical`).
    """
    unsafe = [difference for difference in drift(current, incoming) if not difference.safe]
    if unsafe:
        raise drift_error("the dataset can't evolve to hold the data", unsafe)
    fields = canonical(incoming)
    matched = match_columns(current.names, incoming.names)
    taken = {*in_files, *(stored_name(field) for field in current)}
    merged = [
        field.with_type(widened(field.type, incoming.field(matched[field.name]).type)).with_nullable(
            field.nullable or incoming.field(matched[field.name]).nullable
        )
        if field.name in matched
        else field
        for field in current
    ]
    extra = sorted(set(range(len(fields))) - set(matched.values()))
    added = [fields.field(place).with_nullable(nullable=True) for place in extra]
    return pa.schema([*merged, *(with_stored_name(field, free_stored_name(field.name, taken)) for field in added)])


def drift_error(asked: str, differences: Sequence[Difference]) -> SchemaDrift:
    """The error that lists differences and says what would reconcile them.

    Args:
        asked: What was attempted, as the start of a sentence.
        differences: At least one.
    """
    right = (
        "ask for `evolve` to add columns and widen types"
        if all(difference.safe for difference in differences)
        else "cast the data, or use mode replace"
    )
    listed = "; ".join(map(str, differences))
    details = {"columns": ", ".join(difference.column for difference in differences)}
    return SchemaDrift(f"{asked}: {listed}: {right}", details=details)
