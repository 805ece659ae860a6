"""How a delimited text file is written: found from its beginning, each part overridable by an option.

Theory of operation: the first MiB is parsed with each candidate delimiter by the parser that will read the file, and
the one that gives every row as many values as the first wins. The first row is a header when a text stands over a
column of numbers, dates or booleans, or when nothing speaks against it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv

from flightserver.errors import InvalidRequest
from flightserver.ingest.inference import ColumnEvidence, Kind, join
from flightserver.ingest.text import SAMPLE_BYTES, detect_encoding, known_encoding, sample

if TYPE_CHECKING:
    from flightserver.ingest.options import CsvOptions
    from flightserver.ingest.source import File

_DELIMITERS = ("\t", ";", "|", ",")
"""The comma comes last: it is the one that also occurs inside of numbers and sentences."""
_SEPARATOR_LINE = re.compile(rb"sep=(.)\r?\n", re.IGNORECASE)
"""What Excel writes and reads as a first line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoting:
    """How values that contain delimiters are written.

    Args:
        quote: What encloses them, or False.
        escape: What takes away the next character's meaning, or False.
    """

    quote: str | bool
    escape: str | bool


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a delimited file is written.

    Args:
        encoding: Its character encoding.
        delimiter: What separates values.
        quoting: How values that contain it are written.
        names: Column names, unique.
        header: The first record is a header.
        preamble: UTF-8 bytes before the first record.
        preamble_lines: Lines before the first record.
    """

    encoding: str
    delimiter: str
    quoting: Quoting
    names: tuple[str, ...]
    header: bool
    preamble: int
    preamble_lines: int

    def parse_options(self, handler: Any = None) -> Any:
        """The dialect as pyarrow says it."""
        return _parse_options(self.delimiter, self.quoting, columns=len(self.names), handler=handler)


def find_dialect(file: File, options: CsvOptions, encoding: str | None = None) -> Dialect:
    """Find out how `file` is written.

    Args:
        file: The file.
        options: What the user knows of it.
        encoding: The encoding, when the sample's turned out to be wrong.

    Raises:
        InvalidRequest: It is empty, isn't text in its encoding, has no line end in the first MiB, or doesn't fit
            the options.
    """
    data = sample(file)
    complete = len(data) < SAMPLE_BYTES
    encoding = encoding or (known_encoding(options.encoding) if options.encoding else detect_encoding(data))
    text = _as_utf8(file, data, encoding, complete=complete)
    preamble = len(text) - len(text.lstrip(b"\r\n"))
    separator = _SEPARATOR_LINE.match(text, preamble)
    if separator:
        preamble = separator.end()
    before, text = text[:preamble], text[preamble:]
    if not text.strip():
        msg = f"{file.name} is empty: a delimited file has at least a line with column names"
        raise InvalidRequest(msg)
    text = text if complete else _whole_lines(file, text)
    quoting = Quoting(quote=options.quote or (options.quote is None and '"'), escape=options.escape or False)
    candidates = _candidates(file, options, separator)
    delimiter, rows = _best(file, text, candidates, quoting)
    header = options.header if options.header is not None else _has_header(rows, options.decimal_point)
    return Dialect(
        encoding=encoding,
        delimiter=delimiter,
        quoting=quoting,
        names=_names(file, rows, options, header=header),
        header=header,
        preamble=preamble,
        preamble_lines=before.count(b"\n"),
    )


def _candidates(file: File, options: CsvOptions, separator: re.Match[bytes] | None) -> tuple[str, ...]:
    if options.delimiter:
        return (options.delimiter,)
    if separator:
        return (separator[1].decode("latin-1"),)
    if ".tsv" in PurePath(file.name.lower()).suffixes:
        return ("\t", *_DELIMITERS)
    return _DELIMITERS


def _as_utf8(file: File, data: bytes, encoding: str, *, complete: bool) -> bytes:
    try:
        text = data.decode(encoding) if complete else _decode_cut(data, encoding)
    except UnicodeError as error:
        msg = f"{file.name} isn't {encoding} text: {error}; set the option encoding to what it is"
        raise InvalidRequest(msg) from error
    return text.removeprefix("\ufeff").encode()


def _decode_cut(data: bytes, encoding: str) -> str:
    """Decode a beginning that may end within a character, of four bytes at most."""
    for cut in range(4):
        try:
            return data[: len(data) - cut].decode(encoding)
        except UnicodeError:
            continue
    return data.decode(encoding)


def _whole_lines(file: File, text: bytes) -> bytes:
    end = max(text.rfind(b"\n"), text.rfind(b"\r"))
    if end < 0:
        msg = f"{file.name} has no line end in its first {SAMPLE_BYTES:,} bytes, so it isn't a delimited text file"
        raise InvalidRequest(msg)
    return text[: end + 1]


def _parse_options(delimiter: str, quoting: Quoting, *, columns: int, handler: Any) -> Any:
    return pyarrow.csv.ParseOptions(
        delimiter=delimiter,
        quote_char=quoting.quote,
        escape_char=quoting.escape,
        newlines_in_values=bool(quoting.quote),
        # An empty line is a row of one null where there is one column, and nothing elsewhere.
        ignore_empty_lines=columns != 1,
        invalid_row_handler=handler,
    )


def _best(file: File, text: bytes, candidates: tuple[str, ...], quoting: Quoting) -> tuple[str, pa.Table]:
    """The delimiter that cuts the rows most evenly, and the rows as it cuts them."""
    best: tuple[float, str, Any] | None = None
    problem = ""
    for delimiter in candidates:
        try:
            rows, share = _cut(text, delimiter, quoting)
        except pa.ArrowInvalid as error:
            problem = str(error).splitlines()[0]
            continue
        if rows.num_columns == 1 and len(candidates) > 1:
            share = 0.0
        if best is None or share > best[0] or best[0] == share == 0:
            best = (share, delimiter, rows)
    if best is None:
        msg = f"{file.name} isn't a delimited text file: {problem}"
        raise InvalidRequest(msg)
    return best[1], best[2]


def _cut(text: bytes, delimiter: str, quoting: Quoting) -> tuple[pa.Table, float]:
    """Rows with as many values as the first, and what share of all rows they are."""
    uneven = 0

    def skip(_row: Any) -> str:
        nonlocal uneven
        uneven += 1
        return "skip"

    rows = pyarrow.csv.read_csv(
        pa.BufferReader(text + b"\n"),
        read_options=pyarrow.csv.ReadOptions(
            block_size=len(text) + 2, autogenerate_column_names=True, use_threads=False
        ),
        parse_options=_parse_options(delimiter, quoting, columns=2, handler=skip),
        convert_options=pyarrow.csv.ConvertOptions(default_column_type=pa.string(), strings_can_be_null=True),
    )
    return rows, rows.num_rows / max(rows.num_rows + uneven, 1)


def _has_header(rows: pa.Table, decimal_point: str) -> bool:
    against = False
    for column in rows.columns:
        values = column.combine_chunks()
        cell, below = (
            _kind(values.slice(0, 1), decimal_point),
            _kind(values.slice(1), decimal_point),
        )
        if cell is Kind.TEXT and below not in {Kind.TEXT, Kind.EMPTY}:
            return True
        against = against or (cell not in {Kind.TEXT, Kind.EMPTY} and join(cell, below) is not Kind.TEXT)
    return not against


def _kind(values: pa.Array, decimal_point: str) -> Kind:
    evidence = ColumnEvidence(decimal_point=decimal_point)
    evidence.add(values)
    return evidence.kind


def _names(file: File, rows: pa.Table, options: CsvOptions, *, header: bool) -> tuple[str, ...]:
    if options.column_names is not None:
        if len(options.column_names) != rows.num_columns:
            msg = (
                f"{file.name}: the option column_names has {len(options.column_names)} names, "
                f"but the first line has {rows.num_columns} values"
            )
            raise InvalidRequest(msg)
        return unique_names(options.column_names)
    if not header:
        return unique_names([""] * rows.num_columns)
    return unique_names([str(column[0].as_py() or "").strip() for column in rows.columns])


def unique_names(names: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """Name the nameless `column0`, `column1`, ... by place, and the second of a name `name_1`, as DuckDB does."""
    taken: set[str] = set()
    result = []
    given = {name for name in names if name}
    for place, name in enumerate(names):
        base = name or f"column{place}"
        unique, number = base, 0
        while unique in taken or (number and unique in given):
            number += 1
            unique = f"{base}_{number}"
        taken.add(unique)
        result.append(unique)
    return tuple(result)
