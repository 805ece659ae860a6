"""Delta Lake tables, by the `deltalake` package, which reads the log; the engine reads the files.

The log says which files a version has and the values of its partition columns, which stand in no file. Column mapping
by name gives columns other names in files. What needs more than that is refused: deletion vectors name rows by their
places, column mapping by id needs every footer, and features that we don't know may mean anything.

The protocol: https://github.com/delta-io/delta/blob/master/PROTOCOL.md
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from flightserver.errors import InvalidRequest, NotFound
from flightserver.tables.external.source import Source, SourceFile, grouped, nullable, number_option
from flightserver.tables.schema import canonical

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from flightserver.tables.external.locations import Location, Locations

LOG = "_delta_log"

_KNOWN_FEATURES = {
    "appendOnly",
    "checkConstraints",
    "columnMapping",
    "deletionVectors",
    "domainMetadata",
    "inCommitTimestamp",
    "timestampNtz",
    "typeWidening",
    "v2Checkpoint",
    "vacuumProtocolCheck",
}
"""Of readers, as the protocol calls them. Types that were widened are cast by the engine."""

_PHYSICAL_NAME = "delta.columnMapping.physicalName"
_VERSION_DIGITS = 20


class DeltaReader:
    """See `Reader`. `version` pins a version.

    Args:
        locations: Where files may lie.
    """

    options = frozenset({"version"})

    def __init__(self, locations: Locations) -> None:
        self._locations = locations

    def marker(self, table: Location, options: Mapping[str, str]) -> Hashable:
        """The newest entry of the log: a version is one new file, whose name is its number."""
        try:
            entries = [entry for entry in (table.path / LOG).iterdir() if entry.name[:_VERSION_DIGITS].isdigit()]
            newest = max(entries, key=lambda entry: entry.name, default=None)
            status = None if newest is None else newest.stat()
        except OSError:
            newest = status = None
        if newest is None or status is None:
            msg = f"{table.shown!r} is no Delta table: it has no log, or it has been deleted"
            raise NotFound(msg)
        return newest.name, status.st_mtime_ns, status.st_ino, options.get("version")

    def describe(self, table: Location, options: Mapping[str, str], known: pa.Schema | None) -> Source:  # noqa: ARG002  # the log has the types
        """Read the log."""
        if "%" in str(table.path):
            msg = f"Delta table {table.shown!r} has a '%' in its path, which deltalake can't open: move it"
            raise InvalidRequest(msg)
        try:
            delta = DeltaTable(table.path.as_uri(), version=number_option(options, "version"))
            _check_features(delta, table)
            actions = pa.table(delta.get_add_actions(flatten=False)).to_pylist()
            schema = nullable(canonical(_schema(delta)))
            in_files = _names_in_files(delta, table)
        except DeltaError as error:
            msg = f"Delta table {table.shown!r} can't be read: {_reason(error)}"
            raise InvalidRequest(msg) from error
        partitioned = delta.metadata().partition_columns
        entries = []
        for action in actions:
            path = self._locations.file(table, unquote(action["path"]))
            values = action.get("partition") or {}
            scalars = {name: pa.scalar(values.get(name), schema.field(name).type) for name in partitioned}
            columns = {name: in_files[name] for name in schema.names if name not in scalars}
            entries.append((SourceFile(path, action["size_bytes"]), columns, scalars))
        counts = [action["num_records"] for action in actions]
        rows = None if None in counts else sum(counts)
        return Source(str(delta.version()), schema, rows, grouped(entries))


def _schema(delta: DeltaTable) -> pa.Schema:
    # Names in files travel as metadata, which no dataset's schema keeps.
    return pa.schema(delta.schema().to_arrow())


def _check_features(delta: DeltaTable, table: Location) -> None:
    protocol = delta.protocol()
    features = set(protocol.reader_features or ())
    unknown = sorted(features - _KNOWN_FEATURES)
    if unknown:
        msg = f"Delta table {table.shown!r} uses {', '.join(unknown)}, which can't be read here: copy it without"
        raise InvalidRequest(msg)
    if "deletionVectors" in features and _has_deletion_vectors(delta):
        msg = (
            f"Delta table {table.shown!r} has deletion vectors, which can't be read here: "
            "let its owner rewrite the files (REORG TABLE ... APPLY (PURGE)) and switch them off"
        )
        raise InvalidRequest(msg)
    if delta.metadata().configuration.get("delta.columnMapping.mode") == "id":
        msg = f"Delta table {table.shown!r} maps columns by id, which can't be read here: only mapping by name can"
        raise InvalidRequest(msg)


def _has_deletion_vectors(delta: DeltaTable) -> bool:
    """The list of files doesn't show them; their contents are asked for, which fails when one is damaged."""
    try:
        return bool(pa.table(delta.deletion_vectors()).num_rows)
    except DeltaError:
        return True


def _names_in_files(delta: DeltaTable, table: Location) -> dict[str, str]:
    fields = json.loads(delta.schema().to_json())["fields"]
    for field in fields:
        if not isinstance(field["type"], str) and _PHYSICAL_NAME in json.dumps(field["type"]):
            msg = (
                f"Delta table {table.shown!r} maps names inside of column {field['name']!r}, which can't be read here: "
                "only names of whole columns can be mapped"
            )
            raise InvalidRequest(msg)
    return {field["name"]: _physical(field) for field in fields}


def _physical(field: dict[str, Any]) -> str:
    return str(field["metadata"].get(_PHYSICAL_NAME, field["name"]))


def _reason(error: DeltaError) -> str:
    """The first line of the library's message, unless it names a path."""
    line = str(error).partition("\n")[0]
    return f"its log says what deltalake doesn't understand ({type(error).__name__})" if "/" in line else line
