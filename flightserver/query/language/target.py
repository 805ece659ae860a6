"""The table that a change query changes, and the shape of the rows that the query answers.

Every row says what happens to one row of the target: `__action`, `__rid` (null for a row that begins) and `__times`,
then the new value of every column under its name and in its order. Rows to which nothing happens are not answered.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flightserver.catalog.quoting import delimited
from flightserver.errors import InvalidRequest
from flightserver.query.language.casting import cast
from flightserver.query.language.changes import Star

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa

    from flightserver.query.language.changes import Assignments, TableName

DELETE, UPDATE, INSERT = 1, 2, 3
"""Values of `__action`; 0 would be nothing, and is filtered out."""

ROW_ID = "_rid"
"""Column of `__target` that identifies a row."""

NO_ROW = "CAST(NULL AS BIGINT)"
"""`__rid` of a row that begins."""

_FIXED = ("__action", "__rid", "__times")

_LISTED = 50
"""Columns named in a message."""


@dataclass(frozen=True, slots=True)
class Target:
    """The table `__target` under its alias.

    Attributes:
        name: What the statement calls it, for messages.
        schema: Its columns without the row id.
        alias: Names it in the query.
    """

    name: TableName
    schema: pa.Schema
    alias: str

    def __post_init__(self) -> None:
        """Make sure that no column has the name of another column of the answer.

        Raises:
            InvalidRequest: One has.
        """
        for name in self.schema.names:
            if name in _FIXED:
                raise InvalidRequest(
                    f'column "{name}" of table {str(self.name)!r} has a name that changes of rows need themselves: '
                    f"ALTER TABLE {self.name} RENAME COLUMN {name} TO another"
                )

    @property
    def scan(self) -> str:
        """The table as it stands after FROM."""
        return f'"__target" AS {delimited(self.alias)}'

    @property
    def row_id(self) -> str:
        """The row id."""
        return f"{delimited(self.alias)}.{delimited(ROW_ID)}"

    def column(self, name: str) -> str:
        """A column of the row that exists."""
        return f"{delimited(self.alias)}.{delimited(name)}"

    def cast(self, name: str, expression: str) -> str:
        """An expression, cast to the type of a column."""
        return cast(expression, self.schema.field(name).type)

    def check_columns(self, names: Iterable[str]) -> None:
        """Make sure that there are such columns.

        Raises:
            InvalidRequest: There is none of that name.
        """
        known = set(self.schema.names)
        for name in names:
            if name not in known:
                raise InvalidRequest(f'column "{name}" doesn\'t exist in table {str(self.name)!r}: {self._hint(name)}')

    def _hint(self, name: str) -> str:
        names = self.schema.names
        near = [other for other in names if other.lower() == name.lower()] or difflib.get_close_matches(name, names, 1)
        suggestion = f"did you mean {delimited(near[0])}? " if near else ""
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        return f"{suggestion}its columns are {', '.join(names[:_LISTED])}{more}"

    def given(self, columns: tuple[str, ...], width: int | None, statement: str) -> tuple[str, ...]:
        """The columns that an INSERT gives: those listed, or all.

        Args:
            columns: Those listed, if any.
            width: How many values there are; None where only the engine knows.
            statement: Which statement says so, for messages.

        Raises:
            InvalidRequest: A column doesn't exist, or there are more or fewer values than columns.
        """
        self.check_columns(columns)
        given = columns or tuple(self.schema.names)
        if width is not None and width != len(given):
            listed = ", ".join(given[:_LISTED])
            raise InvalidRequest(f"{statement} gives {width} values for {len(given)} columns ({listed})")
        return given

    def assigned(self, assignments: Assignments, every: Mapping[str, str]) -> dict[str, str]:
        """Column -> expression with the column's type, for the columns that change.

        Args:
            assignments: What SET says.
            every: What the star stands for: column -> expression.

        Raises:
            InvalidRequest: A column doesn't exist.
        """
        said = every if isinstance(assignments, Star) else {one.column: one.expression for one in assignments}
        self.check_columns(said)
        return {name: self.cast(name, expression) for name, expression in said.items()}


def projection(action: str, row_id: str, times: str, columns: Mapping[str, str]) -> str:
    """What stands after SELECT in a change query.

    Args:
        action: Expression of `__action`.
        row_id: Expression of `__rid`.
        times: Expression of `__times`.
        columns: Column -> expression of its new value.
    """
    fixed = zip(_FIXED, (action, row_id, times), strict=True)
    return ", ".join(f"{expression} AS {delimited(name)}" for name, expression in (*fixed, *columns.items()))


def where(condition: str) -> str:
    """WHERE and the condition; nothing where there is none."""
    return f" WHERE ({condition})" if condition else ""
