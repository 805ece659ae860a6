"""Result types as every client reads them, and batches cut to a size that every client accepts.

The engine may answer with string views, dictionaries or run-end encoding where a query asks for them. View types
inflate the wire (slices carry their whole buffers) and JDBC can't read them; dictionaries break pyarrow's
GeneratorStream. So a result's schema is planned once, in plain types, and every batch is made to match it to the
letter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from flightserver.tables.schema import COMMENT, STORED

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BATCH_BYTES = 8 * 1024 * 1024
"""Half of what the Go Flight client (ADBC) accepts as one message by default, 16 MiB."""


def wire_type(kind: pa.DataType) -> pa.DataType:
    """The plain type that carries the values of `kind`: no views, dictionaries or run-end encoding, at any depth."""
    types = pa.types
    plain = kind
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        plain = wire_type(kind.value_type)
    elif types.is_string_view(kind):
        plain = pa.string()
    elif types.is_binary_view(kind):
        plain = pa.binary()
    elif types.is_struct(kind):
        plain = pa.struct([_wire_field(kind.field(index)) for index in range(kind.num_fields)])
    elif types.is_map(kind):
        plain = pa.map_(_wire_field(kind.key_field), _wire_field(kind.item_field), keys_sorted=kind.keys_sorted)
    elif types.is_fixed_size_list(kind):
        plain = pa.list_(_wire_field(kind.value_field), kind.list_size)
    elif types.is_large_list(kind) or types.is_large_list_view(kind):
        plain = pa.large_list(_wire_field(kind.value_field))
    elif types.is_list(kind) or types.is_list_view(kind):
        plain = pa.list_(_wire_field(kind.value_field))
    return plain


def _wire_field(field: pa.Field) -> pa.Field:
    return field.with_type(wire_type(field.type))


def wire_schema(schema: pa.Schema) -> pa.Schema:
    """The schema that clients see for a result planned as `schema`.

    Metadata of the schema itself is dropped, and that by which datasets keep facts of their columns: whether the engine
    hands it on depends on where it reads the rows from, and so differs between two plans of one statement.
    """
    return pa.schema([_without_facts(_wire_field(field)) for field in schema])


def _without_facts(field: pa.Field) -> pa.Field:
    if field.metadata is None:
        return field
    kept = {key: value for key, value in field.metadata.items() if key not in {COMMENT, STORED}}
    return field.with_metadata(kept or None)


def to_wire(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """`batch` with exactly `schema`; columns match by position, because results may repeat a name."""
    if batch.schema.equals(schema, check_metadata=True):
        return batch
    columns = [
        column if column.type.equals(field.type) else _decoded(column).cast(field.type)
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _decoded(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def sliced(batch: pa.RecordBatch, max_bytes: int = MAX_BATCH_BYTES) -> Iterator[pa.RecordBatch]:
    """`batch` in pieces of about `max_bytes` at most; a single larger row stays whole."""
    if batch.num_rows <= 1 or batch.nbytes <= max_bytes:
        yield batch
        return
    # By halves: rows may be of very different sizes.
    half = batch.num_rows // 2
    yield from sliced(batch.slice(0, half), max_bytes)
    yield from sliced(batch.slice(half), max_bytes)
