"""Arrow that clients send, made safe.

One bad offset in a buffer kills the process when it is read, so every batch is fully validated before anything else
touches it. Errors of the IPC reader are the client's and become INVALID_ARGUMENT; some are OSError, because to Arrow
a damaged message is a failed read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flightserver.errors import InvalidRequest, LimitExceeded
from flightserver.tables.schema import check_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.flight.calls import SentStream

_UNREADABLE = (pa.ArrowException, OSError)
"""What pyarrow's reader raises for bytes that it can't decode."""


def sent_schema(reader: Any) -> pa.Schema:
    """The schema of the stream that a client sends.

    Raises:
        InvalidRequest: The stream doesn't begin with a valid schema.
        SchemaMismatch: The schema's names are no proper text.
    """
    try:
        schema: pa.Schema = reader.schema
    except _UNREADABLE as error:
        raise InvalidRequest(
            f"the stream sent does not begin with a valid Arrow schema: {_first_line(error)}"
        ) from None
    check_text(schema)
    return schema


class SentRows:
    """The rows that a client sends, as they come; not validated yet. Its errors are ours."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self.schema = sent_schema(reader)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yield the batches.

        Raises:
            InvalidRequest: One can't be decoded; says which.
        """
        number = 0
        while True:
            try:
                batch = self._reader.read_chunk().data
            except StopIteration:
                return
            except _UNREADABLE as error:
                raise _not_valid(number, error) from None
            if batch is not None:
                number += 1
                yield batch


def sent_batches(reader: Any) -> Iterator[pa.RecordBatch]:
    """The batches of a stream that a client sends, each fully validated.

    Raises:
        InvalidRequest: A batch can't be decoded or is not valid; says which.
    """
    for number, batch in enumerate(SentRows(reader)):
        try:
            batch.validate(full=True)
        except pa.ArrowException as error:
            raise _not_valid(number, error) from None
        yield batch


def _not_valid(number: int, error: Exception) -> InvalidRequest:
    return InvalidRequest(f"batch {number} of the stream sent is not valid Arrow: {_first_line(error)}")


def held_batches(sent: SentStream, max_bytes: int) -> list[pa.RecordBatch]:
    """All batches of a stream, in memory.

    Raises:
        LimitExceeded: They have more than `max_bytes`.
        Overloaded: Together with those of all other calls they have too many.
    """
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in sent_batches(sent):
        sent.hold(batch.nbytes)
        size += batch.nbytes
        if size > max_bytes:
            raise LimitExceeded(f"the stream sent has more than {max_bytes:,} bytes; ingest it into a table instead")
        held.append(batch)
    return held


def one_batch(schema: pa.Schema, batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """The rows of all batches as one.

    Raises:
        InvalidRequest: They have a type whose values can't be put together.
    """
    try:
        merged = pa.Table.from_batches(batches, schema=schema).combine_chunks().to_batches()
        # Of no rows there is no batch, and `from_pylist` knows fewer types than `nulls`.
        return (
            merged[0]
            if merged
            else pa.RecordBatch.from_arrays([pa.nulls(0, kind) for kind in schema.types], schema=schema)
        )
    except pa.ArrowException as error:
        raise InvalidRequest(f"the rows sent can't be taken as one batch: {_first_line(error)}") from None


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:500]
