"""Blocks of whole records out of delimited text.

Theory of operation: the text is read in blocks, each is cut after its last whole record, and the rest is carried
over the next. Where a record ends depends on quotes, which only the parser understands. So a cut is a guess (a line
end with an even number of quotes before it), and the parser proves it: each block is followed by a record of our
own, and only if that comes back as the last row was the cut outside of quotes. A wrong guess costs another parse;
if no guess holds, the block grows. At the end of the file it proves that the last quote was closed, which the
parser alone doesn't mind: it would take the rest of the file for one long value.

Blocks are parsed in the calling thread from memory. pyarrow's streaming reader isn't used because it reads ahead in
threads of its own: abandoned halfway over a Python file, it was seen to deadlock and to abort the process.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from flightserver.errors import InvalidRequest, LimitExceeded
from flightserver.ingest.source import reading
from flightserver.ingest.text import Utf8Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.ingest.dialect import Dialect
    from flightserver.ingest.source import File

_END = "\x1eend of block\x1e"
"""First value of the record that proves a cut; RS is the separator that ASCII has for records."""
_NOT_UTF8 = re.compile(r"In CSV column #(\d+): .*invalid UTF8")
_SHOWN_CHARACTERS = 80
_GROWTH = 4
_GUESSES = 8
"""Line ends that are tried in one block; more are needed only where quotes are unbalanced."""


class NotUtf8Error(Exception):
    """A value isn't UTF-8 although the sample was.

    Args:
        column: Place of the value's column.
    """

    def __init__(self, column: int) -> None:
        super().__init__(column)
        self.column = column


class Records:
    """All records of a delimited file as text columns.

    Args:
        file: The file.
        dialect: How it is written.
        nulls: Unquoted texts that are null.
    """

    def __init__(self, file: File, dialect: Dialect, nulls: list[str]) -> None:
        self._file = file
        self._dialect = dialect
        self._end = (_END + dialect.delimiter * (len(dialect.names) - 1) + "\n").encode()
        self._quote = dialect.quoting.quote.encode() if isinstance(dialect.quoting.quote, str) else b""
        self._convert_options = pyarrow.csv.ConvertOptions(
            default_column_type=pa.string(),
            null_values=nulls,
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )

    def batches(self, stage: str) -> Iterator[Any]:
        """Read the file from its beginning.

        Args:
            stage: The stage that progress is reported for.

        Raises:
            NotUtf8Error: A value isn't text in the dialect's encoding.
            InvalidRequest: A record has another number of values than the first, or a quote is never closed.
            LimitExceeded: A record is longer than `Limits.record_bytes`.
        """
        skipped = int(self._dialect.header)
        line = 1 + self._dialect.preamble_lines
        size = min(self._file.limits.block_bytes, self._file.limits.record_bytes)
        with Utf8Stream(self._file, self._dialect.encoding, stage) as stream, reading(self._file):
            stream.read(self._dialect.preamble)
            text, final = b"", False
            while not final:
                text += stream.read(size - len(text)) or b""
                final = len(text) < size
                batch, end = self._whole_records(text, line, final=final)
                if batch is None:
                    size = self._larger(size)
                    continue
                if batch.num_rows > skipped:
                    yield batch.slice(skipped)
                skipped = max(0, skipped - batch.num_rows)
                line += text.count(b"\n", 0, end)
                text = text[end:]

    def _whole_records(self, text: bytes, line: int, *, final: bool) -> tuple[Any, int]:
        """The records at the beginning of `text` and where they end, or (None, 0) if no end was found."""
        for end in [len(text)] if final else self._guesses(text):
            batch = self._parse(text[:end], line)
            if batch is not None:
                return batch, end
        if final:
            msg = (
                f"{self._file.name} ends within quotes: one is never closed, and all that follows it would be a single "
                'value. Close it, or set the option quote to "" if quotes mean nothing in this file'
            )
            raise InvalidRequest(msg)
        return None, 0

    def _guesses(self, text: bytes) -> Iterator[int]:
        """Line ends from the last, those first that have an even number of quotes before them."""
        newline = b"\n" if b"\n" in text else b"\r"
        quotes = text.count(self._quote) if self._quote else 0
        end = len(text)
        odd: list[int] = []
        given = 0
        while given + len(odd) < _GUESSES:
            start = text.rfind(newline, 0, end)
            if start < 0:
                break
            quotes -= text.count(self._quote, start, end) if self._quote else 0
            if quotes % 2:
                odd.append(start + 1)
            else:
                given += 1
                yield start + 1
            end = start
        yield from odd

    def _larger(self, size: int) -> int:
        limit = self._file.limits.record_bytes
        if size >= limit:
            msg = (
                f"{self._file.name} has a record of more than {limit:,} bytes; a quote that is never closed is the "
                'usual reason. Mend it, or set the option quote to "" if quotes mean nothing in this file'
            )
            raise LimitExceeded(msg)
        return min(size * _GROWTH, limit)

    def _parse(self, text: bytes, line: int) -> Any:
        """Rows of `text`, or None if it ends within quotes."""
        uneven: list[Any] = []
        batch = self._rows(text, uneven, threads=True)
        last = batch.num_rows - 1
        if last < 0 or batch.column(0)[last].as_py() != _END:
            return None
        if uneven:
            raise self._uneven_record(text, line)
        return batch.slice(0, last)

    def _rows(self, text: bytes, uneven: list[Any], *, threads: bool) -> Any:
        def skip(row: Any) -> str:
            uneven.append(row)
            return "skip"

        newline = b"" if text.endswith((b"\n", b"\r")) or not text else b"\n"
        whole = b"".join((text, newline, self._end))
        try:
            table = pyarrow.csv.read_csv(
                pa.BufferReader(whole),
                read_options=pyarrow.csv.ReadOptions(
                    block_size=len(whole) + 1, column_names=self._dialect.names, use_threads=threads
                ),
                parse_options=self._dialect.parse_options(skip),
                convert_options=self._convert_options,
            )
        except pa.ArrowInvalid as error:
            if match := _NOT_UTF8.search(str(error)):
                raise NotUtf8Error(int(match[1])) from error
            raise
        return (
            table.combine_chunks().to_batches()[0] if table.num_rows else pa.RecordBatch.from_pylist([], table.schema)
        )

    def _uneven_record(self, text: bytes, line: int) -> InvalidRequest:
        """Parse once more, in sequence, to learn the line: parallel parsing doesn't tell it."""
        uneven: list[Any] = []
        batch = self._rows(text, uneven, threads=False)
        row = uneven[0]
        before = batch.slice(0, row.number - 1)
        line += row.number - 1 + sum(pc.sum(pc.count_substring(v, "\n")).as_py() or 0 for v in before.columns)
        shown = row.text if len(row.text) <= _SHOWN_CHARACTERS else row.text[:_SHOWN_CHARACTERS] + "..."
        return InvalidRequest(
            f"{self._file.name}: line {line} has {row.actual_columns} values, but the first line has "
            f"{row.expected_columns}: {shown!r}. Values that contain {self._dialect.delimiter!r} must be quoted; if "
            "another character separates the values, set the option delimiter",
            details={"line": str(line)},
        )
