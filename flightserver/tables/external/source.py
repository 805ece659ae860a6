"""What the reader of a format finds out about a table, in terms that know neither the format nor the engine.

A table is a list of parts. A part is files that hold the same columns under the same names and belong to one
partition; what a partition says about its rows (`values`) stands in no file. A column that a part has neither in its
files nor among its values is null there. Or a table is a provider: an object that hands itself to an engine by
DataFusion's foreign function interface (FFI), as Lance's does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from flightserver.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping
    from pathlib import Path

    from flightserver.tables.external.locations import Location


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One Parquet file; `path` is resolved, `size` is what it has in bytes."""

    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Part:
    """Files of one partition that hold the same columns.

    Attributes:
        files: At least one.
        columns: Column -> its name in the files, whose type there is the column's or a narrower one.
        values: Column -> its value in all rows, where the files don't have it.
    """

    files: tuple[SourceFile, ...]
    columns: Mapping[str, str]
    values: Mapping[str, pa.Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Source:
    """A table at one version.

    Attributes:
        version: What its owner calls the version, or an empty string.
        schema: Its columns, canonical and nullable.
        rows: How many it has, or None when that isn't written anywhere.
        parts: Its files, unless it has a provider.
        provider: Has `__datafusion_table_provider__` and the columns of `schema`, in types that cast to theirs.
    """

    version: str
    schema: pa.Schema
    rows: int | None
    parts: tuple[Part, ...] = ()
    provider: object = None


class Reader(Protocol):
    """Reads the tables of one format. Its methods may be called from any thread."""

    options: frozenset[str]
    """What may be said about a table when it is attached."""

    def marker(self, table: Location, options: Mapping[str, str]) -> Hashable:
        """Something that changes when the table does, as cheaply as it can be had.

        Raises:
            NotFound: There is no such table any more.
        """

    def describe(self, table: Location, options: Mapping[str, str], known: pa.Schema | None) -> Source:
        """The newest version of the table, or the one that `options` say.

        Args:
            table: Where it is.
            options: Those of its attachment.
            known: The columns that it had when it was attached, or None.

        Raises:
            InvalidRequest: It isn't a table of this format, or uses something that we can't read.
            SchemaMismatch: It has columns that no dataset can have.
        """


def nullable(schema: pa.Schema) -> pa.Schema:
    """The schema with all columns nullable: what others promise, we can't check."""
    return pa.schema([field.with_nullable(nullable=True) for field in schema])


def grouped(entries: Iterable[tuple[SourceFile, Mapping[str, str], Mapping[str, pa.Scalar]]]) -> tuple[Part, ...]:
    """Files with their columns and values as parts, in the order in which they first occur."""
    parts: dict[object, list[SourceFile]] = {}
    kinds: dict[object, tuple[Mapping[str, str], Mapping[str, pa.Scalar]]] = {}
    for file, columns, values in entries:
        key = (tuple(columns.items()), tuple((name, value.as_py()) for name, value in values.items()))
        parts.setdefault(key, []).append(file)
        kinds.setdefault(key, (columns, values))
    return tuple(Part(tuple(files), *kinds[key]) for key, files in parts.items())


def number_option(options: Mapping[str, str], name: str) -> int | None:
    """An option that is a whole number, or None when it isn't given.

    Raises:
        InvalidRequest: It isn't a number.
    """
    text = options.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        msg = f"option {name!r} is {text!r}, but must be a whole number"
        raise InvalidRequest(msg)
    return int(text)
