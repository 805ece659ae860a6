"""What the server answers, as values.

JSON objects become these at once. Fields that are not known are ignored, so that a newer server may say more.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from flightclient.errors import ProtocolError

if TYPE_CHECKING:
    import pyarrow as pa
    from _typeshed import DataclassInstance

_T = TypeVar("_T", bound="DataclassInstance")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long call is.

    Attributes:
        stage: What it is doing, such as "upload" or "write".
        done: Bytes or rows so far, as the stage says.
        total: Of how many; 0 if unknown.
    """

    stage: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What an ingestion did.

    Attributes:
        dataset: Its name.
        bucket: Its bucket.
        version: Of the dataset afterwards.
        rows: Written by this call; bytes and files likewise.
        bytes: Size of the files written.
        files: How many.
        unchanged: Whether nothing had to be done, because identical bytes were there already.
    """

    dataset: str
    bucket: str
    version: int
    rows: int
    bytes: int
    files: int
    unchanged: bool


@dataclass(frozen=True, slots=True)
class UploadResult:
    """What the server received: the id of the upload, its size and the SHA-256 of its bytes in hexadecimal."""

    upload: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class PageFacts:
    """A stored result: its id, its size in rows and pages, and until when it is kept."""

    query_id: str
    rows: int
    pages: int
    page_rows: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A table of the lakehouse.

    Attributes:
        bucket: The bucket it is in.
        name: Its name there.
        rows: How many.
        bytes: Size of its files.
        schema: Its `pyarrow.Schema`.
    """

    bucket: str
    name: str
    rows: int
    bytes: int
    schema: pa.Schema


def decode_object(data: bytes) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        ProtocolError: It is none.
    """
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ProtocolError(f"expected a JSON object, the server answered {bytes(data[:80])!r}")
    return value


def decode_result(kind: type[_T], value: dict[str, Any]) -> _T:
    """Makes a result from the fields of a JSON object.

    Args:
        kind: A dataclass. Its fields may be dataclasses, tuples of them, and times (ISO 8601).
        value: The object.

    Raises:
        ProtocolError: A field is missing, or is no such value.
    """
    names = [field.name for field in fields(kind)]
    missing = [name for name in names if name not in value]
    if missing:
        raise ProtocolError(f"expected the fields {', '.join(names)}, the server left out {', '.join(missing)}")
    hints = get_type_hints(kind)
    return kind(**{name: _decode(hints[name], value[name], name) for name in names})


def _decode(kind: Any, value: Any, name: str) -> Any:
    if isinstance(kind, UnionType):  # "X | None", no other is used
        return None if value is None else _decode(get_args(kind)[0], value, name)
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_decode(get_args(kind)[0], each, name) for each in value)
    if isinstance(kind, type) and is_dataclass(kind) and isinstance(value, dict):
        return decode_result(kind, value)
    if kind is datetime and isinstance(value, str):
        with suppress(ValueError):
            return datetime.fromisoformat(value)
    if kind in {str, bool, int, float} and isinstance(value, (int, float) if kind is float else kind):
        return value
    raise ProtocolError(f"the server answered {value!r} as {name!r}, which should be {kind}")
