"""Rows as text: what each type looks like in a table, in CSV and in JSON.

Values are turned into text by Arrow, column by column, so that no digit of a timestamp in nanoseconds or of a decimal
is lost on the way through Python. JSON has numbers, booleans, text and null: numbers that are not finite become null;
decimals, times and bytes (in base64) become text.
"""

from __future__ import annotations

import base64
import json
import math
from datetime import date, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

_ANY_WIDTH = 100_000
"""Where no terminal bounds it, a table is as wide as its rows."""

_NULL = Text("NULL", style="dim")

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}
"""Control characters in data must not control the terminal."""


def output_console(file: TextIO | None = None) -> Console:
    """A console on standard output or `file`, as wide as the terminal or, where there is none, as what is printed."""
    console = Console(file=file, highlight=False)
    if not console.is_terminal:
        console.width = _ANY_WIDTH
    return console


def rich_table(rows: pa.Table) -> Table:
    """Rows as a table for rich: numbers to the right, nulls told from text."""
    table = Table(header_style="bold", pad_edge=False, box=SIMPLE_HEAD)
    for field in rows.schema:
        table.add_column(Text(field.name), justify="right" if _is_number(field.type) else "left", overflow="fold")
    columns = [_texts(column) for column in rows.columns]
    for row in zip(*columns, strict=True):
        table.add_row(*(_NULL if text is None else Text(text.translate(_ESCAPES)) for text in row))
    return table


def csv_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch that pyarrow's CSV writer can write: nested values as JSON, bytes as base64."""
    columns = [
        pa.array(_texts(column), pa.string()) if _needs_json(column.type) else column for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def csv_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of what `csv_batch` makes."""
    return pa.schema([pa.field(field.name, pa.string() if _needs_json(field.type) else field.type) for field in schema])


def json_rows(batch: pa.RecordBatch) -> Iterator[str]:
    """Each row as a JSON object on one line."""
    names = batch.schema.names
    columns = [_json_values(column) for column in batch.columns]
    for row in zip(*columns, strict=True):
        yield json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False, allow_nan=False)


def print_json(answer: dict[str, Any]) -> None:
    """Print the result of an action as one line."""
    print(json.dumps(answer, ensure_ascii=False))  # noqa: T201  # what the command prints


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _needs_json(kind: pa.DataType) -> bool:
    return bool(pa.types.is_nested(kind) or _is_bytes(kind))


def _texts(column: Any) -> list[str | None]:
    if _needs_json(column.type):
        values = _json_values(column)
        return [
            value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for value in values
        ]
    texts: list[str | None] = pc.cast(column, pa.string()).to_pylist()
    return texts


def _json_values(column: Any) -> list[Any]:
    kind = column.type
    if pa.types.is_nested(kind) or _is_bytes(kind) or pa.types.is_floating(kind):
        return [_json_value(value) for value in column.to_pylist()]
    values: list[Any]
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_string(kind):
        values = column.to_pylist()
        return values
    texts = pc.cast(column, pa.string())
    if pa.types.is_timestamp(kind):
        texts = pc.replace_substring(texts, " ", "T", max_replacements=1)
    values = texts.to_pylist()
    return values


def _json_value(value: Any) -> Any:
    converted: Any = value
    match value:
        case float():
            converted = value if math.isfinite(value) else None
        case bytes():
            converted = base64.b64encode(value).decode("ascii")
        case list():
            converted = [_json_value(each) for each in value]
        case dict():
            converted = {name: _json_value(each) for name, each in value.items()}
        case date() | time():
            converted = value.isoformat()
        case Decimal() | timedelta():
            converted = str(value)
    return converted
