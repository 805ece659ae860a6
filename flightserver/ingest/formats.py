"""Which format a file has, and the reader for it.

Theory of operation: content decides before name. Binary formats are known by their magic number, under a
compression too. Among texts the extension decides if it names a text format; otherwise a bracket or brace begins
JSON, and anything else is delimited. A format that the user names must agree with the magic number.
"""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import TYPE_CHECKING

from flightserver.errors import InvalidRequest
from flightserver.ingest.columnar import ArrowSource, ParquetSource
from flightserver.ingest.compression import SUFFIXES, SourceBytes, is_regular, read_fully
from flightserver.ingest.delimited import DelimitedSource
from flightserver.ingest.documents import JsonSource
from flightserver.ingest.options import CsvOptions, JsonOptions, NoOptions, decode_options
from flightserver.ingest.source import File, Limits, no_progress, reading
from flightserver.ingest.text import detect_encoding

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from flightserver.ingest.source import Progress, Source

FORMATS = ("csv", "tsv", "ndjson", "json", "parquet", "arrow")
_ALIASES = {
    "tab": "tsv",
    "jsonl": "ndjson",
    "ipc": "arrow",
    "arrows": "arrow",
    "feather": "arrow",
    "pq": "parquet",
}
_TEXTS = frozenset({"csv", "tsv", "ndjson", "json"})
_HEAD_BYTES = 1 << 16
_PARQUET = b"PAR1"
_ARROW_FILE = b"ARROW1"
_ARROW_STREAM = b"\xff\xff\xff\xff"
"""The continuation marker before the schema message."""
_REFUSED = {
    b"FEA1": "a Feather file of version 1, which was superseded in 2020; write it again as version 2",
    b"PARE": "an encrypted Parquet file, for which there is no key; write it without encryption",
    b"SQLite format 3": "an SQLite database; export its tables as CSV or Parquet",
    b"%PDF": "a PDF document; export its tables as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel 97 workbook; save its sheets as CSV",
    b"Obj\x01": "an Avro file; convert it to Parquet",
    b"ORC": "an ORC file; convert it to Parquet",
}


def open_source(
    path: Path,
    file_format: str | None = None,
    options: Mapping[str, object] | None = None,
    name: str | None = None,
    *,
    limits: Limits | None = None,
    progress: Callable[[Progress], None] = no_progress,
) -> Source:
    """Open a file of rows and settle its schema, reading all of a text file to do so.

    Args:
        path: Where it is.
        file_format: One of `FORMATS`, or None to find out.
        options: What the user knows of it; see `flightserver.ingest.options`.
        name: What messages call it; the last part of the path if not given.
        limits: Bounds of reading.
        progress: Is told how far each stage has come.

    Raises:
        InvalidRequest: It has no known format, isn't what `file_format` says, is damaged, or an option isn't valid.
        NotFound: There is no such file.
        LimitExceeded: It unfolds to more bytes, or has a longer record, than the limits allow.
    """
    file = File(path, name or path.name, limits or Limits(), progress)
    if not is_regular(file):
        msg = f"{file.name} isn't a regular file"
        raise InvalidRequest(msg)
    with SourceBytes(file, "inspect") as stream:
        head = read_fully(stream, _HEAD_BYTES)
        packed = stream.compression
        member = stream.member_name
    found = _find(file, head, _wanted(file_format), member)
    given = options or {}
    if found == "parquet":
        decode_options(NoOptions, given, found)
        if packed:
            msg = f"{file.name} is a Parquet file inside of {packed}; it compresses itself, so send it unpacked"
            raise InvalidRequest(msg)
        return ParquetSource(file)
    if found == "arrow":
        decode_options(NoOptions, given, found)
        return ArrowSource(file, framed=head.startswith(_ARROW_FILE), packed=packed is not None)
    if found in {"json", "ndjson"}:
        return JsonSource(file, decode_options(JsonOptions, given, found), lines=found == "ndjson")
    csv_options = decode_options(CsvOptions, {"delimiter": "\t", **given} if found == "tsv" else given, found)
    return DelimitedSource(file, csv_options)


def check_format(file_format: str) -> str:
    """Return the canonical name of a format.

    Raises:
        InvalidRequest: There is no such format.
    """
    canonical = _ALIASES.get(file_format.lower(), file_format.lower())
    if canonical not in FORMATS:
        msg = f"format {file_format!r} isn't known; there are {', '.join(FORMATS)}"
        raise InvalidRequest(msg)
    return canonical


def _wanted(file_format: str | None) -> str | None:
    return None if file_format is None else check_format(file_format)


def _find(file: File, head: bytes, wanted: str | None, member: str) -> str:
    if not head:
        msg = f"{file.name} is empty; a file of rows has at least a line with column names, or a schema"
        raise InvalidRequest(msg)
    found = _binary(file, head)
    if wanted is not None and (found or wanted) != wanted:
        msg = f"{file.name} should be {wanted}, but it is {found}; leave the format out or set it to {found!r}"
        raise InvalidRequest(msg)
    if found is not None:
        return found
    if wanted is not None and wanted not in _TEXTS:
        msg = f"{file.name} should be {wanted}, but it doesn't begin as one; it is damaged or has another format"
        raise InvalidRequest(msg)
    return wanted or _text(file, head, member)


def _binary(file: File, head: bytes) -> str | None:
    for magic, what in _REFUSED.items():
        if head.startswith(magic):
            msg = f"{file.name} is {what}"
            raise InvalidRequest(msg)
    if head.startswith(_PARQUET):
        return "parquet"
    if head.startswith((_ARROW_FILE, _ARROW_STREAM)):
        return "arrow"
    return None


def _text(file: File, head: bytes, member: str) -> str:
    encoding = detect_encoding(head)
    with reading(file):
        text = head.decode(encoding, "ignore").removeprefix("\ufeff").lstrip()
    if "\0" in text:
        msg = f"{file.name} is neither text nor Parquet nor Arrow; the formats are {', '.join(FORMATS)}"
        raise InvalidRequest(msg)
    extension = _extension(member or file.name)
    if extension in {"csv", "tsv"}:
        return extension
    if text.startswith("{"):
        return "ndjson" if extension == "ndjson" or _is_lines(text) else "json"
    if text.startswith("["):
        return "json"
    return extension if extension in _TEXTS else "csv"


def _extension(name: str) -> str:
    path = PurePath(name.lower())
    if path.suffix in SUFFIXES:
        path = path.with_suffix("")
    extension = path.suffix.removeprefix(".")
    return _ALIASES.get(extension, extension)


def _is_lines(text: str) -> bool:
    """Tell whether the first line is an object of its own, so that each line is."""
    try:
        return isinstance(json.loads(text.partition("\n")[0]), dict)
    except ValueError:
        return False
    except RecursionError:
        return False
