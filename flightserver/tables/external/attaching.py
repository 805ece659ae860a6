"""Attached datasets: the catalog says where the rows lie and which columns were there; others write them.

Theory of operation: each statement looks at the table anew, cheaply, by a marker that changes when the table does;
only then is it described again. What is described is one version, with all of its files, so a statement that holds a
`Source` reads one version whatever its owner does meanwhile. The dataset's columns stay as they were when it was
attached: columns that came later are not seen, and a table that no longer has the others, or has them with types that
don't fit, is refused.

Readers need packages that are not always installed; each is imported when its format is first named. `_lock` guards
the map of sources; describing happens outside of it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING

import pyarrow as pa

from flightserver.catalog.entities import Dataset, DatasetKey, External, check_dataset_name
from flightserver.catalog.missing import no_bucket
from flightserver.catalog.requirements import DatasetAbsent
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.ulid import new_ulid
from flightserver.catalog.updates import CreateDataset
from flightserver.errors import BackendUnavailable, InvalidRequest, NotFound, SchemaDrift
from flightserver.tables.plan import taken
from flightserver.tables.schema import Difference, decode, encode, fingerprint
from flightserver.tables.types import widened

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from flightserver.catalog.log import Operation
    from flightserver.catalog.transaction import Commits
    from flightserver.tables.external.locations import Location, Locations
    from flightserver.tables.external.source import Reader, Source

_READERS = {"delta": "DeltaReader", "iceberg": "IcebergReader", "lance": "LanceReader", "parquet": "ParquetReader"}
"""Format -> its class in the module of that name."""
FORMATS = tuple(_READERS)

_SIGNS = {"_delta_log": "delta", "metadata": "iceberg", "_versions": "lance"}
"""Directory in a table -> the format that has it."""

_KEPT_SOURCES = 256
MAX_PARTS = 4096
"""Of a table. The engine plans a union of them: measured with DataFusion 54.1, 0.1 s for 1,000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachRequest:
    """What to attach as what.

    Attributes:
        name: The dataset's.
        bucket: Its bucket.
        location: Of the table, see `Locations.find`.
        format: One of `FORMATS`, or None to tell it by what lies there.
        options: For the format's reader.
        operation: Who asks.
    """

    name: str
    bucket: str
    location: str
    format: str | None
    options: Mapping[str, str]
    operation: Operation


@dataclass(frozen=True, slots=True)
class Attached:
    """A dataset that was attached; `rows` as in `Source`."""

    key: DatasetKey
    version: int
    format: str
    schema: pa.Schema
    rows: int | None


class ExternalTables:
    """Attaches tables and describes them. All methods may be called from any thread.

    Args:
        locations: Where they may lie.
    """

    def __init__(self, locations: Locations) -> None:
        self.locations = locations
        self._lock = threading.Lock()
        self._readers: dict[str, Reader] = {}
        self._kept: OrderedDict[Hashable, tuple[Hashable, Source]] = OrderedDict()

    def attach(self, request: AttachRequest, catalog: Commits) -> Attached:
        """Make a table known as a dataset.

        Raises:
            AlreadyExists: The name is taken.
            NotFound: There is no such table below an allowed directory, or no such bucket.
            InvalidRequest: The format or an option is not known, or the table uses something that we can't read.
            SchemaMismatch: It has columns that no dataset can have.
        """
        key = DatasetKey(request.bucket, check_dataset_name(request.name))
        snapshot = catalog.snapshot()
        if request.bucket not in snapshot.buckets:
            raise no_bucket(request.bucket, snapshot.buckets)
        if key in snapshot.datasets and request.operation.id not in snapshot.operations:
            raise taken(snapshot.datasets[key])
        location = self.locations.find(request.location)
        table_format = request.format or _guessed(location)
        reader = self._reader(table_format)
        _check_options(reader, table_format, request.options)
        reader.marker(location, request.options)
        source = _bounded(reader.describe(location, request.options, None), location)
        external = External(table_format, self.locations.relative(location), dict(request.options))
        dataset = Dataset(
            id=new_ulid(),
            bucket=key.bucket,
            name=key.name,
            schema=encode(source.schema),
            schema_fingerprint=fingerprint(source.schema),
            created=datetime.now(UTC),
            external=external,
        )
        outcome = catalog.commit(
            Transaction(request.operation, (CreateDataset(dataset),), (DatasetAbsent(key.bucket, key.name),))
        )
        return Attached(key, outcome.version, table_format, source.schema, source.rows)

    def source(self, dataset: Dataset) -> Source:
        """The newest version of an attached dataset's table; its columns include the dataset's.

        Raises:
            BackendUnavailable: The table, or a file of it, is gone.
            SchemaDrift: Its columns no longer fit the dataset.
            InvalidRequest: It uses something by now that we can't read.
        """
        external = dataset.external
        if external is None:
            msg = f"dataset {dataset.key} isn't attached"
            raise InvalidRequest(msg)
        try:
            location = self.locations.find(external.location)
            source = self._newest(dataset, external, location)
        except NotFound as error:
            msg = (
                f"dataset {dataset.key} is attached to {external.location!r}, which is gone ({external.format}): "
                "put it back, or drop the dataset"
            )
            raise BackendUnavailable(msg) from error
        _check_fit(dataset, external, source.schema)
        _check_files(dataset, source)
        return source

    def _newest(self, dataset: Dataset, external: External, location: Location) -> Source:
        reader = self._reader(external.format)
        marker = reader.marker(location, external.options)
        with self._lock:
            kept = self._kept.get(dataset.id)
            if kept is not None and kept[0] == marker:
                self._kept.move_to_end(dataset.id)
                return kept[1]
        source = _bounded(reader.describe(location, external.options, decode(dataset.schema)), location)
        with self._lock:
            self._kept[dataset.id] = (marker, source)
            self._kept.move_to_end(dataset.id)
            while len(self._kept) > _KEPT_SOURCES:
                self._kept.popitem(last=False)
        return source

    def _reader(self, table_format: str) -> Reader:
        if table_format not in _READERS:
            msg = f"format {table_format!r} is not known: there are {', '.join(FORMATS)}"
            raise InvalidRequest(msg)
        with self._lock:
            reader = self._readers.get(table_format)
        if reader is None:
            try:
                module = import_module(f"flightserver.tables.external.{table_format}")
            except ModuleNotFoundError as error:
                msg = (
                    f"tables of format {table_format!r} can't be read because the package {error.name!r} is not "
                    f"installed: ask the administrator to install flightserver[{table_format}]"
                )
                raise InvalidRequest(msg) from error
            made: Reader = getattr(module, _READERS[table_format])(self.locations)
            with self._lock:
                reader = self._readers.setdefault(table_format, made)
        return reader


def _guessed(location: Location) -> str:
    return next((name for sign, name in _SIGNS.items() if (location.path / sign).is_dir()), "parquet")


def _check_options(reader: Reader, table_format: str, options: Mapping[str, str]) -> None:
    unknown = sorted(options.keys() - reader.options)
    if unknown:
        known = ", ".join(sorted(reader.options))
        msg = f"option {unknown[0]!r} is not known for format {table_format!r}: there are {known}"
        raise InvalidRequest(msg)


def _bounded(source: Source, location: Location) -> Source:
    if len(source.parts) > MAX_PARTS:
        msg = (
            f"table {location.shown!r} has {len(source.parts):,} partitions, and at most {MAX_PARTS:,} can be read: "
            "partition it by fewer columns, or attach a part of it"
        )
        raise InvalidRequest(msg)
    return source


def _check_fit(dataset: Dataset, external: External, schema: pa.Schema) -> None:
    differences = []
    for field in decode(dataset.schema):
        if field.name not in schema.names:
            differences.append(Difference(field.name, "missing", str(field.type), "", safe=True))
            continue
        kind = schema.field(field.name).type
        if kind != field.type and (pa.types.is_nested(kind) or widened(field.type, kind) != field.type):
            differences.append(Difference(field.name, "type", str(field.type), str(kind), safe=False))
    if differences:
        listed = "; ".join(map(str, differences))
        msg = (
            f"the {external.format} table of dataset {dataset.key} has changed since it was attached: {listed}: "
            "drop the dataset and attach it again"
        )
        raise SchemaDrift(msg, details={"columns": ", ".join(each.column for each in differences)})


def _check_files(dataset: Dataset, source: Source) -> None:
    """The engine takes a missing file for one without rows, so each use of a table looks first."""
    for part in source.parts:
        for file in part.files:
            try:
                size = file.path.stat().st_size
            except OSError:
                size = -1
            if size != file.size:
                found = "is missing" if size < 0 else f"has {size:,} bytes and should have {file.size:,}"
                msg = (
                    f"file {file.path.name!r} of attached dataset {dataset.key} {found}: "
                    "let the owner of the table repair it"
                )
                raise BackendUnavailable(msg)
