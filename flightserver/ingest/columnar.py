"""Files that are columns already: Parquet and Arrow IPC.

Theory of operation: they describe themselves, so the schema is theirs, and batches are handed on as they lie there,
after `validate(full=True)`: a file from outside may claim offsets and lengths that its buffers don't have.

Files are read, never mapped into memory: a mapped file that somebody truncates kills the process (SIGBUS).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet

from flightserver.ingest.compression import SourceBytes, read_fully
from flightserver.ingest.source import Progress, reading, valid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.ingest.source import File

_MAX_ROWS = 1 << 16
_FRAME_BYTES = 8
"""ARROW1 and two bytes of padding."""
_PAGE_BUFFER = 1 << 20
"""Reading a column chunk through a buffer rather than whole keeps memory bounded by pages, not by row groups."""


class ParquetSource:
    """A Parquet file.

    Args:
        file: The file.

    Raises:
        InvalidRequest: Its footer can't be read.
    """

    def __init__(self, file: File) -> None:
        self._file = file
        with reading(file), self._open() as parquet:
            self.schema = parquet.schema_arrow

    def batches(self) -> Iterator[Any]:
        """Read the file from its beginning.

        Raises:
            InvalidRequest: A page is damaged.
        """
        total = self._file.size()
        with reading(self._file), self._open() as parquet:
            metadata = parquet.metadata
            groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
            unpacked = sum(group.total_byte_size for group in groups)
            row_bytes = max(1, unpacked // max(metadata.num_rows, 1))
            rows = max(1, min(_MAX_ROWS, self._file.limits.batch_bytes // row_bytes))
            done = 0
            for batch in parquet.iter_batches(batch_size=rows):
                yield valid(self._file, batch, done)
                done += batch.num_rows
                self._file.progress(Progress("read", total * done // max(metadata.num_rows, done, 1), total))

    def _open(self) -> Any:
        source = pa.OSFile(str(self._file.path))
        return pyarrow.parquet.ParquetFile(source, pre_buffer=False, buffer_size=_PAGE_BUFFER)


class ArrowSource:
    """An Arrow IPC file or stream; Feather version 2 is the former.

    An IPC file is its stream between two magic numbers, so a compressed one, which can't be read at random, is
    read as a stream.

    Args:
        file: The file.
        framed: Whether it has the magic number of an IPC file.
        packed: Whether it is compressed.

    Raises:
        InvalidRequest: It doesn't begin with a schema, or its footer can't be read.
    """

    def __init__(self, file: File, *, framed: bool, packed: bool) -> None:
        self._file = file
        self._framed = framed
        self._packed = packed
        with reading(file), self._bytes("inspect") as stream:
            self.schema = self._open(stream).schema

    def batches(self) -> Iterator[Any]:
        """Read the file from its beginning.

        Raises:
            InvalidRequest: A batch is damaged or cut off.
        """
        done = 0
        total = self._file.size()
        with reading(self._file), self._bytes("read") as stream:
            for batch in _batches(self._open(stream)):
                yield valid(self._file, batch, done)
                done += batch.num_rows
                if not self._packed:
                    self._file.progress(Progress("read", min(stream.tell(), total), total))

    def _bytes(self, stage: str) -> Any:
        return SourceBytes(self._file, stage) if self._packed else pa.OSFile(str(self._file.path))

    def _open(self, stream: Any) -> Any:
        if not self._packed:
            return pa.ipc.open_file(stream) if self._framed else pa.ipc.open_stream(stream)
        if self._framed:
            read_fully(stream, _FRAME_BYTES)
        return pa.ipc.open_stream(pa.PythonFile(stream, mode="r"))


def _batches(reader: Any) -> Iterator[Any]:
    if isinstance(reader, pa.ipc.RecordBatchFileReader):
        return (reader.get_batch(place) for place in range(reader.num_record_batches))
    return iter(reader)
