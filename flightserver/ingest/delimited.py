"""Delimited text: CSV and its relatives.

Theory of operation: the file is parsed twice, both times as text. The first pass gathers evidence of each column's
type and of the file's null spellings from all values; the second converts by what the first has settled. (pyarrow's
own inference looks at one block and fails, or silently drops leading zeros, at what comes later.) Both passes use
the same parser and the same conversions, so the second can't fail, except on types that the user fixed.

What becomes null: an empty value, and a null spelling, if not quoted. In a column of text a quoted value is always
text: `""` is the empty string. In other columns quotes mean nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from flightserver.errors import InvalidRequest
from flightserver.ingest.dialect import find_dialect
from flightserver.ingest.inference import ColumnEvidence, convert, first_misfit
from flightserver.ingest.options import decode_types
from flightserver.ingest.records import NotUtf8Error, Records
from flightserver.ingest.text import UTF8, redetect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.ingest.options import CsvOptions
    from flightserver.ingest.source import File


class DelimitedSource:
    """A delimited text file.

    Args:
        file: The file.
        options: What the user knows of it.

    Raises:
        InvalidRequest: It isn't a delimited text file, or a record has another number of values than the first.
        LimitExceeded: A record is longer than `Limits.record_bytes`.
    """

    def __init__(self, file: File, options: CsvOptions) -> None:
        self._file = file
        self._options = options
        self._dialect = find_dialect(file, options)
        try:
            evidence = self._inspect()
        except NotUtf8Error as error:
            self._change_encoding(error)
            evidence = self._inspect()
        names = self._dialect.names
        fixed = decode_types(options.column_types, names, file.name)
        self._nulls = self._null_spellings(evidence)
        self.schema = pa.schema(
            [(name, fixed.get(name, seen.type)) for name, seen in zip(names, evidence, strict=True)]
        )

    def batches(self) -> Iterator[Any]:
        """Read the file from its beginning.

        Raises:
            InvalidRequest: A value doesn't fit a type that the user fixed; names column, row and value.
        """
        row = 0
        for batch in Records(self._file, self._dialect, self._nulls).batches("read"):
            columns = [self._convert(batch, place, row) for place in range(batch.num_columns)]
            yield pa.RecordBatch.from_arrays(columns, schema=self.schema)
            row += batch.num_rows

    def _inspect(self) -> list[ColumnEvidence]:
        """Gather evidence from the whole file."""
        named = self._options.null_values
        evidence = [
            ColumnEvidence(spellings_count=named is None, decimal_point=self._options.decimal_point)
            for _ in self._dialect.names
        ]
        for batch in Records(self._file, self._dialect, ["", *(named or ())]).batches("inspect"):
            for seen, values in zip(evidence, batch.columns, strict=True):
                seen.add(values)
        return evidence

    def _null_spellings(self, evidence: list[ColumnEvidence]) -> list[str]:
        if self._options.null_values is not None:
            return ["", *self._options.null_values]
        return ["", *sorted(set[str]().union(*(seen.null_spellings for seen in evidence)) - {""})]

    def _change_encoding(self, error: NotUtf8Error) -> None:
        encoding = UTF8 if self._options.encoding else redetect(self._file)
        if encoding == UTF8:
            msg = (
                f"{self._file.name}: column {self._dialect.names[error.column]!r} has bytes that aren't UTF-8, the "
                "encoding of the rest; set the option encoding to what the file is written in, or mend it"
            )
            raise InvalidRequest(msg) from error
        self._dialect = find_dialect(self._file, self._options, encoding)

    def _convert(self, batch: Any, place: int, row: int) -> Any:
        field = self.schema.field(place)
        point = self._options.decimal_point
        values = batch.column(place)
        try:
            return convert(values, field.type, point)
        except pa.ArrowInvalid:
            # Unquoted null spellings are null already; what is left of them was quoted.
            spelled = pc.is_in(values, value_set=pa.array(self._nulls))
            values = pc.if_else(spelled, pa.scalar(None, pa.string()), values)
        try:
            return convert(values, field.type, point)
        except pa.ArrowInvalid as error:
            misfit = first_misfit(values, field.type, point)
            msg = (
                f"{self._file.name}: column {field.name!r}, row {row + misfit + 1}: {values[misfit].as_py()!r} is no "
                f"{field.type}, which column_types asks for. Give the column a type that holds it, such as string, or, "
                "if it stands for a missing value, add it to null_values"
            )
            raise InvalidRequest(msg, details={"column": field.name}) from error
