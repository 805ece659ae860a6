"""The change query of MERGE: one join, as small as its clauses allow.

Theory of operation: target and source are joined on the condition. INNER keeps pairs only; rows of the source without
a partner are kept when a clause inserts them (RIGHT), rows of the target when a clause is for those (LEFT), both for
both (FULL). Whether a row has a partner is told from the row id, and from a column of truth that the source gets where
needed. Then each row takes the first clause that fits it: every column is one CASE over the clauses, whose conditions
the engine computes once.

Conditions that answer differently each time they are computed, or that hold a subquery, are computed in an inner query,
which gives every pair the number of its clause. As the target's columns must keep their names for the expressions,
the target is then joined once more, by row id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flightserver.catalog.quoting import delimited
from flightserver.query.language.changes import Clause, DeleteRow, InsertRow, SetColumns, Star, When
from flightserver.query.language.columns import has_subquery, mentions, qualified
from flightserver.query.language.target import DELETE, INSERT, UPDATE, projection

if TYPE_CHECKING:
    from flightserver.query.language.changes import Merge
    from flightserver.query.language.target import Target

_JOINS = {(False, False): "INNER", (True, False): "RIGHT", (False, True): "LEFT", (True, True): "FULL"}
_PRESENT = '"__present"'
_CLAUSE = '"__clause"'

_VOLATILE = frozenset({"random", "rand", "uuid", "gen_random_uuid"})
"""Functions of the engine that answer anew for each row, each time."""


class Merging:
    """Builds the change query of one MERGE.

    Args:
        merge: What the statement says.
        target: The table that it changes.

    Raises:
        InvalidRequest: A column doesn't exist, or an INSERT gives more or fewer values than columns.
    """

    def __init__(self, merge: Merge, target: Target) -> None:
        self._merge = merge
        self._target = target
        self._columns = frozenset(target.schema.names)
        whens = {clause.when for clause in merge.clauses}
        self._keeps_source = When.NOT_MATCHED in whens
        self._keeps_target = When.NOT_MATCHED_BY_SOURCE in whens
        self._values = [self._new_values(clause) for clause in merge.clauses]

    def query(self) -> str:
        """The query, whose rows are as `target.py` says."""
        twice = any(has_subquery(one.condition) or mentions(one.condition, _VOLATILE) for one in self._merge.clauses)
        return self._through_clause_numbers() if twice else self._direct()

    def _direct(self) -> str:
        conditions = [self._holds(clause) for clause in self._merge.clauses]
        changes = self._projection(conditions, self._target.row_id)
        return f'SELECT * FROM (SELECT {changes} FROM {self._join()}) AS "__changes" WHERE "__action" <> 0'  # noqa: S608  # names are quoted, texts are the statement's own

    def _through_clause_numbers(self) -> str:
        source = delimited(self._merge.source_name)
        numbers = " ".join(f"WHEN {self._holds(one)} THEN {place}" for place, one in enumerate(self._merge.clauses))
        numbered = (
            f'SELECT {source}.*, {self._target.row_id} AS "__rid", CASE {numbers} END AS {_CLAUSE} '  # noqa: S608  # as above
            f"FROM {self._join()}"
        )
        conditions = [f"{source}.{_CLAUSE} = {place}" for place in range(len(self._merge.clauses))]
        changes = self._projection(conditions, f'{source}."__rid"')
        pairs = f'({numbered}) AS {source} LEFT JOIN {self._target.scan} ON {self._target.row_id} = {source}."__rid"'
        return f'SELECT * FROM (SELECT {changes} FROM {pairs}) AS "__changes" WHERE "__action" <> 0'  # noqa: S608  # as above

    def _projection(self, conditions: list[str], row_id: str) -> str:
        actions = [_action(clause) for clause in self._merge.clauses]
        columns = {
            name: _case(conditions, [new.get(name) for new in self._values], self._target.column(name))
            for name in self._target.schema.names
        }
        if all(isinstance(clause.action, DeleteRow) or not _action(clause) for clause in self._merge.clauses):
            columns = {}
        return projection(_case(conditions, [str(action) for action in actions], "0"), row_id, "1", columns)

    def _join(self) -> str:
        merge = self._merge
        source = merge.source
        if self._keeps_target:
            name = delimited(merge.source_name)
            source = f"(SELECT {name}.*, TRUE AS {_PRESENT} FROM {source}) AS {name}"  # noqa: S608  # as above
        kind = _JOINS[self._keeps_source, self._keeps_target]
        return f"{self._target.scan} {kind} JOIN {source} ON ({merge.condition})"

    def _holds(self, clause: Clause) -> str:
        """The condition under which a clause is for a row, true or not."""
        present = f"{delimited(self._merge.source_name)}.{_PRESENT}"
        parts = []
        if clause.when is When.NOT_MATCHED:
            parts.append(f"{self._target.row_id} IS NULL")
        elif self._keeps_source:
            parts.append(f"{self._target.row_id} IS NOT NULL")
        if clause.when is When.NOT_MATCHED_BY_SOURCE:
            parts.append(f"{present} IS NULL")
        elif clause.when is When.MATCHED and self._keeps_target:
            parts.append(f"{present} IS NOT NULL")
        if clause.condition:
            parts.append(f"({self._seen(clause, clause.condition)})")
        return " AND ".join(parts) or "TRUE"

    def _seen(self, clause: Clause, text: str) -> str:
        """A text of a clause, whose bare columns are those of the one table that the clause sees."""
        if clause.when is When.MATCHED:
            return text
        seen = self._merge.source_name if clause.when is When.NOT_MATCHED else self._target.alias
        return qualified(text, self._columns, seen)

    def _new_values(self, clause: Clause) -> dict[str, str]:
        """Column -> expression of its value when the clause is taken; others stay or, in new rows, are null."""
        source = delimited(self._merge.source_name)
        every = {name: f"{source}.{delimited(name)}" for name in self._target.schema.names}
        match clause.action:
            case SetColumns(assignments=assignments):
                said = self._target.assigned(assignments, every)
                return {name: self._seen(clause, text) for name, text in said.items()}
            case InsertRow(columns=columns, values=values):
                if isinstance(values, Star):
                    given = every
                else:
                    names = self._target.given(columns, len(values), "INSERT of MERGE")
                    given = dict(zip(names, (self._seen(clause, text) for text in values), strict=True))
                return {name: self._target.cast(name, given.get(name, "NULL")) for name in self._target.schema.names}
        return {}


def _action(clause: Clause) -> int:
    match clause.action:
        case DeleteRow():
            return DELETE
        case SetColumns():
            return UPDATE
        case InsertRow():
            return INSERT
    return 0


def _case(conditions: list[str], values: list[str | None], otherwise: str) -> str:
    """The value of the first condition that holds; None stands for `otherwise`."""
    if all(value is None for value in values):
        return otherwise
    whens = " ".join(
        f"WHEN {condition} THEN {value or otherwise}" for condition, value in zip(conditions, values, strict=True)
    )
    return f"CASE {whens} ELSE {otherwise} END"
