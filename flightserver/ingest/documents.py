"""JSON documents: newline-delimited objects, an array of objects, or a single object.

Theory of operation: the file is parsed twice, block by block. The first pass widens each field's type over all
blocks (pyarrow itself infers from the first block and fails at what comes later); the second parses with the
settled schema. Texts of a top-level field that are all ISO dates, times or timestamps become such; nested ones stay
text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from flightserver.errors import InvalidRequest
from flightserver.ingest.inference import TEMPORAL, ColumnEvidence, convert, first_misfit
from flightserver.ingest.json_types import ConflictError, storable, widen_fields, without_instants
from flightserver.ingest.objects import decode_objects, line_blocks, object_blocks
from flightserver.ingest.options import decode_types
from flightserver.ingest.source import reading
from flightserver.ingest.text import detect_encoding, known_encoding, sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.ingest.objects import Block
    from flightserver.ingest.options import JsonOptions
    from flightserver.ingest.source import File

_CHANGED = re.compile(r"Column\(/?(.*)\) changed from (\w+) to (\w+) in row (\d+)")
_TWICE = re.compile(r"Column\(/(.*)\) was specified twice in row (\d+)")
_IN_ROW = re.compile(r"JSON parse error: (.*?)\.? in row (\d+)")
_LONG_INTEGER = re.compile(rb"(?<![\d.])\d{19,}(?![\d.eE])")
"""May not fit into 64 bits; pyarrow would silently round it to a double."""
_DECIMAL_LIMIT = 10**38


class JsonSource:
    """A JSON file.

    Args:
        file: The file.
        options: What the user knows of it.
        lines: Whether each line is one object.

    Raises:
        InvalidRequest: It isn't JSON, or a field has values of kinds that no type holds.
        LimitExceeded: An object is longer than `Limits.record_bytes`.
    """

    def __init__(self, file: File, options: JsonOptions, *, lines: bool) -> None:
        self._file = file
        self._encoding = known_encoding(options.encoding) if options.encoding else detect_encoding(sample(file))
        self._cut = line_blocks if lines else object_blocks
        self._evidence: dict[str, ColumnEvidence] = {}
        found = self._inspect()
        fixed = decode_types(options.column_types, list(found), file.name)
        self._parsed = pa.schema([(name, kept) for name, kind in found.items() if (kept := storable(kind)) is not None])
        if not self._parsed.names:
            msg = f"{file.name} has no objects with fields, so there are no columns"
            raise InvalidRequest(msg)
        self.schema = pa.schema([(field.name, fixed.get(field.name, self._type(field))) for field in self._parsed])

    def batches(self) -> Iterator[Any]:
        """Read the file from its beginning.

        Raises:
            InvalidRequest: A value doesn't fit a type that the user fixed.
        """
        for block in self._blocks("read"):
            table = self._parse(block, self._parsed, "ignore")
            for batch in table.select(self._parsed.names).combine_chunks().to_batches():
                columns = [self._convert(batch, place, block) for place in range(batch.num_columns)]
                yield pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _blocks(self, stage: str) -> Iterator[Block]:
        with reading(self._file):
            yield from self._cut(self._file, self._encoding, stage)

    def _type(self, field: Any) -> Any:
        seen = self._evidence.get(field.name)
        return seen.type if seen and pa.types.is_string(field.type) else field.type

    def _inspect(self) -> dict[str, Any]:
        """Find the type of each top-level field over the whole file."""
        found: dict[str, Any] = {}
        instants: dict[str, Any] = {}
        for block in self._blocks("inspect"):
            table = self._parse(block, pa.schema(instants), "infer")
            names = table.schema.names
            taken = {
                field.name: without_instants(field.type)
                for field in table.schema
                if field.type != without_instants(field.type)
            }
            if taken:
                instants = self._widen(instants, taken, block)
                table = self._parse(block, pa.schema(instants), "infer")
            types = {name: without_instants(table.schema.field(name).type) for name in names}
            types.update(_long_integers(block, found, types))
            found = self._widen(found, types, block)
            self._note(table)
        return found

    def _note(self, table: Any) -> None:
        for field, column in zip(table.schema, table.columns, strict=True):
            if pa.types.is_string(field.type):
                seen = self._evidence.setdefault(field.name, ColumnEvidence(kinds=TEMPORAL, spellings_count=False))
                seen.add(column.combine_chunks())

    def _widen(self, first: dict[str, Any], second: dict[str, Any], block: Block) -> dict[str, Any]:
        try:
            return widen_fields(first, second)
        except ConflictError as error:
            # Parsing with the type so far makes the parser say which object differs.
            self._parse(block, pa.schema(first), "infer")
            msg = (
                f"{self._file.name}: field {error.path!r} was {error.first} before {block.place(0)} and is "
                f"{error.second} there or soon after; all its values must be of one kind"
            )
            raise InvalidRequest(msg) from error

    def _parse(self, block: Block, schema: Any, unexpected: str) -> Any:
        try:
            return pyarrow.json.read_json(
                pa.BufferReader(block.text),
                read_options=pyarrow.json.ReadOptions(block_size=len(block.text) + 1, use_threads=False),
                parse_options=pyarrow.json.ParseOptions(
                    explicit_schema=schema, newlines_in_values=True, unexpected_field_behavior=unexpected
                ),
            )
        except pa.ArrowInvalid as error:
            self._explain(error, block)

    def _explain(self, error: pa.ArrowInvalid, block: Block) -> NoReturn:
        reason = str(error)
        if match := _CHANGED.search(reason):
            path = match[1].replace("/[]", "[]").replace("/", ".")
            what = f"field {path!r}" if path else "the object itself"
            msg = (
                f"{self._file.name}: {block.place(int(match[4]))}: {what} is {_article(match[3])}, but was "
                f"{_article(match[2])} before; all its values must be of one kind"
            )
        elif match := _TWICE.search(reason):
            msg = f"{self._file.name}: {block.place(int(match[2]))} has field {match[1]!r} twice"
        elif match := _IN_ROW.search(reason):
            msg = f"{self._file.name}: {block.place(int(match[2]))} isn't a JSON object: {match[1]}"
        else:
            raise error
        raise InvalidRequest(msg) from error

    def _convert(self, batch: Any, place: int, block: Block) -> Any:
        field = self.schema.field(place)
        values = batch.column(place)
        is_text = pa.types.is_string(values.type)
        try:
            return convert(values, field.type) if is_text else pc.cast(values, field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            misfit = first_misfit(values, field.type)
            msg = (
                f"{self._file.name}: {block.place(misfit)}: field {field.name!r} is {values[misfit].as_py()!r}, "
                f"which is no {field.type}, the type that column_types asks for"
            )
            raise InvalidRequest(msg, details={"column": field.name}) from error


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _long_integers(block: Block, found: dict[str, Any], types: dict[str, Any]) -> dict[str, Any]:
    """Fields that pyarrow rounded to doubles although all of them are integers of at most 38 digits."""
    suspects = [name for name, kind in types.items() if kind == pa.float64() and found.get(name) != pa.float64()]
    if not suspects or not _LONG_INTEGER.search(block.text):
        return {}
    rows = list(decode_objects(block.text))
    return {
        name: pa.decimal128(38, 0)
        for name in suspects
        if all(
            isinstance(value, int) and abs(value) < _DECIMAL_LIMIT
            for row in rows
            if (value := row.get(name)) is not None
        )
    }
