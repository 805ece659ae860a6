"""The rows of a result as they come.

Invariant: a stream that is not read to its end is cancelled when it is closed, so the server stops working for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from flightclient.translation import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from types import TracebackType


class Stream:
    """An iterator of record batches, and a context manager that cancels what is left.

    Libraries that read Arrow streams (DuckDB, polars, pandas) take it as it is. One thread uses it at a time.

    Args:
        schema: Of the rows.
        parts: Each opens a `pyarrow.flight.FlightStreamReader`; they are read one after the other.
    """

    def __init__(self, schema: pa.Schema, parts: Iterable[Callable[[], Any]]) -> None:
        self.schema = schema
        self._parts = iter(parts)
        self._current: Any = None
        self._batches = self._read()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> pa.RecordBatch:
        with translated():
            return next(self._batches)

    def read_all(self) -> pa.Table:
        """What is left, as one table."""
        return pa.Table.from_batches(list(self), schema=self.schema)

    def close(self) -> None:
        """Cancel what has not been read; may be repeated."""
        self._parts = iter(())
        if self._current is not None:
            self._current.cancel()
            self._current = None
        self._batches.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Hands the rest of the stream over: https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html."""
        reader = pa.RecordBatchReader.from_batches(self.schema, self)
        return reader.__arrow_c_stream__(requested_schema)

    def _read(self) -> Generator[pa.RecordBatch]:
        for part in self._parts:
            self._current = part()
            for chunk in self._current:
                yield chunk.data
        self._current = None
