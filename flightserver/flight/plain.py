"""What a descriptor means to people who have only pyarrow.flight.

A path is a table. A command that is no Flight SQL message is SQL text, or a JSON object: a query with options,
or, for DoPut, where the stream goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  # msgspec resolves the annotations when it decodes
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from flightserver.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence


class PlainQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`{"sql": ..., "page_rows": 1000, "parameters": [...], "as_of": ...}`."""

    sql: str
    page_rows: int | None = None
    parameters: list[Any] | dict[str, Any] | None = None
    as_of: int | datetime | None = None

    def bound(self) -> pa.RecordBatch | None:
        """The parameters as one row; named ones by name.

        Raises:
            InvalidRequest: A value has no Arrow type.
        """
        if self.parameters is None:
            return None
        named = isinstance(self.parameters, dict)
        names = list(self.parameters) if named else [str(place + 1) for place in range(len(self.parameters))]
        values = list(self.parameters.values()) if isinstance(self.parameters, dict) else self.parameters
        try:
            return pa.RecordBatch.from_arrays([pa.array([value]) for value in values], names=names)
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            raise InvalidRequest(f"the parameters can't be bound: {error}") from None


class PlainDiff(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`{"diff": "people", "from": 3, "to": 5}`: rows that differ between two versions, by default with that of now."""

    diff: str
    from_: int | str = msgspec.field(name="from")
    to: int | str | None = None
    bucket: str | None = None


class PlainUpload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`{"upload": "flights.csv", "bytes": 123}`: the stream's only column, binary, is the file."""

    upload: str
    bytes: int | None = None


class PlainIngest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`{"ingest": "people", "mode": "create_append", "evolve": false}`: the stream is rows of a dataset."""

    ingest: str
    mode: str = "create_append"
    bucket: str | None = None
    evolve: bool = False
    primary_key: tuple[str, ...] = ()


class PlainDelete(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`{"delete": "people"}`: the stream's rows are keys of rows to delete."""

    delete: str
    bucket: str | None = None


@dataclass(frozen=True, slots=True)
class TablePath:
    """A table by path: `["people"]` or `["testing", "people"]`."""

    name: str
    schema: str | None = None


PlainCommand = PlainQuery | PlainDiff | PlainUpload | PlainIngest | PlainDelete


def table_path(path: Sequence[bytes]) -> TablePath:
    """The table that a descriptor's path names.

    Raises:
        InvalidRequest: It has no, or more than two, parts, or is not UTF-8.
    """
    try:
        parts = [part.decode() for part in path]
    except UnicodeDecodeError:
        raise InvalidRequest("a path's parts must be UTF-8") from None
    match parts:
        case [name]:
            return TablePath(name)
        case [schema, name]:
            return TablePath(name, schema)
        case _:
            shown = "/".join(parts)[:200]
            raise InvalidRequest(f"path {shown!r} can't name a table: expected [table] or [bucket, table]")


# Made while modules are imported, by one thread: two that are the first to need a type at once crash msgspec 0.22.
_decoders: dict[type[PlainCommand], msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in (PlainQuery, PlainUpload, PlainIngest, PlainDelete, PlainDiff)
}


def plain_command(command: bytes) -> PlainCommand:
    """What a command that is no Flight SQL message asks.

    Raises:
        InvalidRequest: It is not UTF-8, or it is a JSON object that is none of the known ones; names the field.
    """
    try:
        text = command.decode()
    except UnicodeDecodeError:
        msg = "the command is neither a Flight SQL message nor UTF-8 text: expected SQL or a JSON object"
        raise InvalidRequest(msg) from None
    if not text.lstrip().startswith("{"):
        return PlainQuery(text)
    try:
        fields = msgspec.json.decode(command)
        kind: type[PlainCommand] = PlainQuery
        if "upload" in fields:
            kind = PlainUpload
        elif "ingest" in fields:
            kind = PlainIngest
        elif "delete" in fields:
            kind = PlainDelete
        elif "diff" in fields:
            kind = PlainDiff
        decoded: PlainCommand = _decoders[kind].decode(command)
    except (msgspec.DecodeError, RecursionError) as error:  # msgspec raises the latter for what is nested too deeply
        raise InvalidRequest(f"the JSON command is not valid: {error}") from None
    return decoded
