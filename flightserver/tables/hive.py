"""Hive's convention for partitions: values that hold for whole files stand in the path, as directories `name=value`.

Spark, DuckDB, polars and pyarrow share it: names and values are percent-encoded, and one word means null. Such text
has no types; those of the values are guessed as carefully as in other text: a number is one only in its plain
spelling, so that codes such as `007` stay text.
"""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import pyarrow as pa

from flightserver.errors import InvalidRequest, SchemaDrift

if TYPE_CHECKING:
    from collections.abc import Iterable

NULL = "__HIVE_DEFAULT_PARTITION__"
"""Hive's word for null in a path."""

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
"""All that fits into 64 bits, without its few largest values."""
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def in_path(directories: Iterable[str]) -> dict[str, str | None]:
    """Names and texts of the partition that directories say, in their order."""
    found: dict[str, str | None] = {}
    for directory in directories:
        name, equals, text = directory.partition("=")
        if equals and name:
            found[unquote(name)] = None if text == NULL else unquote(text)
    return found


def path_text(value: Any, column: str) -> str:
    """A value as it stands in the name of a directory, by Hive's convention.

    Raises:
        InvalidRequest: It is a text that would be read as null.
    """
    match value:
        case None:
            return NULL
        case bool():
            return str(value).lower()
        case date():
            return value.isoformat()
        case "" | "__HIVE_DEFAULT_PARTITION__":
            msg = (
                f'column "{column}" has the value {value!r}, which reads as null in the name of a directory: '
                "partition by another column"
            )
            raise InvalidRequest(msg)
        case _:
            return quote(str(value), safe="")


def guessed_type(texts: Iterable[str | None]) -> pa.DataType:
    """The type that all of these texts fit: int64, date32, or string."""
    present = {text for text in texts if text is not None}
    if present and all(_INTEGER.fullmatch(text) for text in present):
        return pa.int64()
    if present and all(_is_date(text) for text in present):
        return pa.date32()
    return pa.string()


def typed(text: str | None, data_type: pa.DataType, column: str, table: str) -> pa.Scalar:
    """The value that a text of a path means.

    Raises:
        SchemaDrift: It isn't of the type that the column had when the table was attached.
        InvalidRequest: A path can't hold values of that type.
    """
    if text is None:
        return pa.scalar(None, data_type)
    if pa.types.is_string(data_type):
        return pa.scalar(text, data_type)
    if pa.types.is_int64(data_type) and _INTEGER.fullmatch(text):
        return pa.scalar(int(text), data_type)
    if pa.types.is_date32(data_type) and _is_date(text):
        return pa.scalar(date.fromisoformat(text), data_type)
    if not (pa.types.is_int64(data_type) or pa.types.is_date32(data_type)):
        msg = f'table {table!r} has column "{column}" in its paths and had it in its files as {data_type} before'
        raise InvalidRequest(msg)
    msg = (
        f'table {table!r} has the directory "{column}={text}", whose values were {data_type} when it was '
        "attached: drop the dataset and attach it again"
    )
    raise SchemaDrift(msg, details={"columns": column})


def _is_date(text: str) -> bool:
    if not _DATE.fullmatch(text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
