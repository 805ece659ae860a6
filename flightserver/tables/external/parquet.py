"""Directories of Parquet files, and single ones, with partitions in the path (Hive).

There is no log: the table is what lies there. So every look lists the directory, and a writer that doesn't move
finished files into it is seen half way. Files whose name, or directory, begins with `.` or `_` are hidden, as
everywhere. Columns are the union of the files' columns by name; types are widened where that is safe, and refused
where it isn't.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from flightserver.errors import InvalidRequest, NotFound, SchemaMismatch
from flightserver.tables.external.footers import Footers
from flightserver.tables.external.source import Source, SourceFile, grouped, nullable
from flightserver.tables.hive import guessed_type, in_path, typed
from flightserver.tables.schema import canonical
from flightserver.tables.types import canonical_type, widened

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

    from flightserver.tables.external.footers import Footer
    from flightserver.tables.external.locations import Location, Locations

_SUFFIXES = (".parquet", ".parq", ".pq")
_SWITCH = {"true": True, "false": False}


class _Found(NamedTuple):
    """A file in the listing; `path` is relative to the table."""

    path: str
    size: int
    modified: int


class ParquetReader:
    """See `Reader`. `hive` says whether directories `name=value` are columns; they are unless it is `false`.

    Args:
        locations: Where files may lie.
    """

    options = frozenset({"hive"})

    def __init__(self, locations: Locations) -> None:
        self._locations = locations
        self._footers = Footers()

    def marker(self, table: Location, options: Mapping[str, str]) -> Hashable:
        """The listing: names, sizes and times."""
        return (options.get("hive"), *_listed(table))

    def describe(self, table: Location, options: Mapping[str, str], known: pa.Schema | None) -> Source:
        """List the files and read the footers of those that are new."""
        hive = _SWITCH.get(options.get("hive", "true"))
        if hive is None:
            msg = f"option 'hive' is {options['hive']!r}, but must be 'true' or 'false'"
            raise InvalidRequest(msg)
        listing = _listed(table)
        files = [SourceFile(self._locations.file(table, one.path), one.size) for one in listing]
        footers = [self._footers.read(file, table, one.modified) for file, one in zip(files, listing, strict=True)]
        texts = [in_path(Path(one.path).parts[:-1]) if hive else {} for one in listing]
        partitioned = _partition_types(texts, known, table)
        schema = nullable(canonical(pa.schema([*_union(footers, set(partitioned), table), *partitioned.items()])))
        entries = []
        for file, footer, values in zip(files, footers, texts, strict=True):
            columns = {name: name for name in footer.schema.names if name not in partitioned}
            scalars = {name: typed(values[name], kind, name, table.shown) for name, kind in partitioned.items()}
            entries.append((file, columns, scalars))
        return Source("", schema, sum(footer.rows for footer in footers), grouped(entries))


def _listed(table: Location) -> tuple[_Found, ...]:
    path = str(table.path)
    try:
        if table.path.is_file():
            status = table.path.stat()
            return (_Found(path, status.st_size, status.st_mtime_ns),)
        found = tuple(sorted(_walk(path, "")))
    except OSError as error:
        msg = f"table {table.shown!r} can't be listed ({error.strerror}): it has been deleted, or is being changed"
        raise NotFound(msg) from error
    if not found:
        msg = f"{table.shown!r} has no Parquet files ({', '.join(_SUFFIXES)})"
        raise NotFound(msg)
    return found


def _walk(directory: str, within: str) -> Iterator[_Found]:
    with os.scandir(directory) as entries:
        for entry in entries:
            name = entry.name
            if name[0] in "._" and "=" not in name:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path, f"{within}{name}/")
            elif name.endswith(_SUFFIXES) and entry.is_file():
                status = entry.stat()
                yield _Found(within + name, status.st_size, status.st_mtime_ns)


def _partition_types(
    texts: list[dict[str, str | None]], known: pa.Schema | None, table: Location
) -> dict[str, pa.DataType]:
    names = list(texts[0])
    odd = next((each for each in texts if list(each) != names), None)
    if odd is not None:
        msg = (
            f"files of table {table.shown!r} lie in directories that say different columns "
            f"({', '.join(names) or 'none'}; {', '.join(odd) or 'none'}): partition all of them in the same way, or "
            "attach it with the option hive = 'false'"
        )
        raise InvalidRequest(msg)
    return {
        name: known.field(name).type
        if known is not None and name in known.names
        else guessed_type(each[name] for each in texts)
        for name in names
    }


def _union(footers: list[Footer], partitioned: set[str], table: Location) -> list[pa.Field]:
    """The columns that stand in files, in the order in which they first occur."""
    types: dict[str, pa.DataType] = {}
    merged: set[pa.Schema] = set()
    for footer in footers:
        schema = footer.schema.remove_metadata()
        if schema in merged:
            continue
        merged.add(schema)
        for field in schema:
            if field.name not in partitioned:
                types[field.name] = _merged(types.get(field.name), field, table)
    return [pa.field(name, kind) for name, kind in types.items()]


def _merged(current: pa.DataType | None, field: pa.Field, table: Location) -> pa.DataType:
    incoming = canonical_type(field.type, field.name)
    if current is None or current == incoming:
        return incoming
    nested = pa.types.is_nested(current) or pa.types.is_nested(incoming)
    found = None if nested else widened(current, incoming)
    if found is None:
        msg = (
            f'column "{field.name}" is {current} in some files of table {table.shown!r} and {incoming} in others, '
            "which no type holds: write them anew with one type"
        )
        raise SchemaMismatch(msg)
    return found
