"""Change queries on a real engine: the rows that they answer, and the table that these rows make."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from datafusion import SessionConfig, SessionContext

from flightserver.query.language.building import DELETE, INSERT, UPDATE, change_query
from flightserver.query.language.statements import Statement, parse

if TYPE_CHECKING:
    from collections.abc import Mapping

Row = tuple[Any, ...]

_OPTIONS = {"datafusion.sql_parser.map_string_types_to_utf8view": "false"}


@dataclass(frozen=True)
class Lake:
    """A target and the tables that a statement may read.

    Attributes:
        target: Rows of the table that is changed; row ids are 100, 101, ...
        key: Its primary key.
        others: Tables by name. The target itself can be read under `name`, as it was before.
        name: What statements call the target.
    """

    target: pa.Table
    key: tuple[str, ...] = ()
    others: Mapping[str, pa.Table] = field(default_factory=dict)
    name: str = "t"

    def query(self, statement: Statement | str) -> str:
        """The change query of a statement."""
        parsed = parse(statement) if isinstance(statement, str) else statement
        return change_query(parsed, self.target.schema, self.key)

    def context(self) -> SessionContext:
        """An engine that knows the tables, the target with its row ids among them."""
        context = SessionContext(SessionConfig(_OPTIONS))
        ids = pa.array(range(100, 100 + self.target.num_rows), pa.int64())
        tables = {"__target": self.target.append_column("_rid", ids), self.name: self.target, **self.others}
        for name, table in tables.items():
            batches = table.to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)]
            context.register_record_batches(f'"{name}"', [batches])
        return context

    def answer(self, statement: Statement | str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """What the change query of a statement answers."""
        frame = self.context().sql(self.query(statement), param_values=dict(parameters) if parameters else None)
        return pa.RecordBatchReader.from_stream(frame).read_all()

    def changes(self, statement: Statement | str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """The rows of the answer, ordered by row id; rows that begin come last, in order of their values."""
        table = self.answer(statement, parameters)
        return sorted(_tuples(table), key=lambda row: (row[1] is None, row[1] or 0, str(row)))

    def after(self, statement: Statement | str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """The target's rows after the statement, in order of their values.

        Raises:
            AssertionError: The answer changes a row twice, or has something else than changes.
        """
        rows = dict(enumerate(_tuples(self.target), start=100))
        ended: set[int] = set()
        begun: list[Row] = []
        for action, row_id, _, *values in self.changes(statement, parameters):
            assert action in {DELETE, UPDATE, INSERT}
            assert (row_id is None) == (action == INSERT)
            if action != INSERT:
                assert row_id not in ended
                ended.add(row_id)
                del rows[row_id]
            if action != DELETE:
                begun.append(tuple(values))
        return in_order([*rows.values(), *begun])


def in_order(rows: list[Row]) -> list[Row]:
    """Rows in one order, nulls last."""
    return sorted(rows, key=lambda row: [(value is None, str(type(value)), value or 0) for value in row])


def table(columns: Mapping[str, pa.DataType], *rows: Row) -> pa.Table:
    """A table of rows."""
    schema = pa.schema(list(columns.items()))
    return pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows], schema=schema)


def _tuples(rows: pa.Table) -> list[Row]:
    return list(zip(*(column.to_pylist() for column in rows.columns), strict=True)) if rows.num_rows else []
