"""What the server answers, as values.

JSON objects become these at once. Fields that are not known are ignored, so that a newer server may say more.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from flightclient.errors import ProtocolError

if TYPE_CHECKING:
    import pyarrow as pa

_T = TypeVar("_T", "IngestResult", "PageFacts", "Progress", "UploadResult")


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
    """A stored result: its id, its size in rows and pages, and until when (ISO 8601) it is kept."""

    query_id: str
    rows: int
    pages: int
    page_rows: int
    expires_at: str

    @property
    def expires(self) -> datetime:
        """`expires_at` as a time with its zone."""
        return datetime.fromisoformat(self.expires_at)


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

    Raises:
        ProtocolError: A field is missing.
    """
    names = [field.name for field in fields(kind)]
    missing = [name for name in names if name not in value]
    if missing:
        raise ProtocolError(f"expected the fields {', '.join(names)}, the server left out {', '.join(missing)}")
    return kind(**{name: value[name] for name in names})
