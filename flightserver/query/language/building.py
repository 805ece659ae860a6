"""Change queries: what a statement does to the rows of its target, as one query.

The target is the table `__target`, with all its columns and `_rid`, which identifies a row. The query answers rows as
`target.py` describes them; the caller ends the rows that it names and begins the new ones. Nothing here asks the engine
anything, so that what the engine can't plan is found when it plans the query.

Conditions of UPDATE and DELETE stand directly over the scan of the target, so that filters reach its files. A row may
be answered more than once when several rows of a source match it: by UPDATE ... FROM, where any of them may win, and
by MERGE, where that is an error; which is the caller's to tell. DELETE answers each row once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flightserver.catalog.quoting import delimited
from flightserver.errors import InvalidRequest
from flightserver.query.language.changes import Delete, Merge, Update, Upsert
from flightserver.query.language.columns import has_subquery, mentions
from flightserver.query.language.merging import Merging
from flightserver.query.language.reader import Reader
from flightserver.query.language.target import DELETE, INSERT, ROW_ID, UPDATE, Target, projection, where
from flightserver.query.language.tokens import placeholders, substituted, tokenize
from flightserver.query.language.upserting import upsert_query

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from flightserver.query.language.statements import Statement

__all__ = ["DELETE", "INSERT", "UPDATE", "change_query", "each_once"]

_BOUND = '"__bound"'


def change_query(statement: Statement, target_schema: pa.Schema, primary_key: tuple[str, ...]) -> str:
    """The query that computes what UPDATE, DELETE, MERGE or INSERT with conflicts does.

    Args:
        statement: Of one of these kinds.
        target_schema: Columns of the target, without the row id.
        primary_key: Its key, which conflicts are about; may be empty.

    Returns:
        A query for `__action` (`DELETE`, `UPDATE` or `INSERT`), `__rid`, `__times` (how many of the given rows have the
        key of this one; 1 where no key is asked for) and, unless every row ends, all columns by their names and in
        their order. Assigned and inserted values have the column's type, with the few exceptions of `casting.py`.

    Raises:
        InvalidRequest: The statement is of another kind, names a column that doesn't exist, gives more or fewer values
            than columns, asks for row ids, or conflicts are not those of the primary key.
    """
    change, name = statement.change, statement.target
    if name is None or not isinstance(change, Update | Delete | Merge | Upsert):
        raise InvalidRequest(f"{statement.kind.value} changes no single rows; UPDATE, DELETE, MERGE and upserts do")
    if ROW_ID in statement.sql.lower() and mentions(statement.sql, {ROW_ID}):
        raise InvalidRequest(
            f'column "{ROW_ID}" doesn\'t exist: the name is reserved for row ids, which are not to be seen'
        )
    target = Target(name, target_schema, change.alias)
    match change:
        case Update():
            return _update(change, target)
        case Delete():
            return _delete(change, target)
        case Merge():
            return Merging(change, target).query()
        case Upsert():
            return upsert_query(change, target, primary_key)


def _update(update: Update, target: Target) -> str:
    assigned = target.assigned(update.assignments, {})
    columns = {name: assigned.get(name, target.column(name)) for name in target.schema.names}
    return (
        f"SELECT {projection(str(UPDATE), target.row_id, '1', columns)} FROM {_tables(target, update.source)}"  # noqa: S608  # names are quoted, texts are the statement's own
        f"{where(update.condition)}"
    )


def _delete(delete: Delete, target: Target) -> str:
    tables = f"FROM {_tables(target, delete.source)}{where(delete.condition)}"
    if not delete.source:
        return f"SELECT {projection(str(DELETE), target.row_id, '1', {})} {tables}"
    once = f'SELECT DISTINCT {target.row_id} AS "__rid" {tables}'
    return f'SELECT {projection(str(DELETE), delimited("__rid"), "1", {})} FROM ({once}) AS "__deleted"'  # noqa: S608  # as above


def _tables(target: Target, source: str) -> str:
    return f"{target.scan}, {source}" if source else target.scan


def each_once(statement: Statement) -> Statement | None:
    """The statement for all bound rows at once, where that does what running it for one after the other does.

    The bound rows are the table `__bound`, whose columns are named as the placeholders; the new statement has none.
    DELETE removes what any of the bound rows asks for. UPDATE may be rewritten when no run can see what another has
    assigned, INSERT with conflicts when values are bound in its VALUES only, and none of them when it reads other
    tables, which may be its target by another name. It remains that two bound rows may hit
    one row of the target, or have one key: UPDATE then answers the row twice, and an upsert says so in
    `__times`. The caller runs such statements one after the other. MERGE is never rewritten, because rows that
    it inserts may match later ones.

    Returns:
        None where the bound rows must run one after the other.
    """
    if not statement.placeholders or statement.searches:  # a search is for one row of values
        return None
    joined: Delete | Update | Upsert | None = None
    match statement.change:
        case Delete() as delete:
            joined = _joined_delete(delete)
        case Update() as update:
            joined = _joined_update(update)
        case Upsert() as upsert:
            joined = _joined_upsert(upsert)
    return None if joined is None else replace(statement, placeholders=(), change=joined)


def _joined_delete(delete: Delete) -> Delete | None:
    if delete.source or has_subquery(delete.condition):
        return None
    return replace(delete, source=_bound_source([delete.condition]), condition=_reading_bound(delete.condition))


def _joined_update(update: Update) -> Update | None:
    expressions = [one.expression for one in update.assignments]
    texts = [update.condition, *expressions]
    assigned = {one.column for one in update.assignments}
    if update.source or any(has_subquery(text) or mentions(text, assigned) for text in texts):
        return None
    return replace(
        update,
        assignments=tuple(replace(one, expression=_reading_bound(one.expression)) for one in update.assignments),
        source=_bound_source(texts),
        condition=_reading_bound(update.condition),
    )


def _joined_upsert(upsert: Upsert) -> Upsert | None:
    assignments = upsert.assignments if isinstance(upsert.assignments, tuple) else ()
    seen = [upsert.condition, *(one.expression for one in assignments)]
    if any(_bound(text) or has_subquery(text) for text in seen):
        return None
    reader = Reader(upsert.query, tokenize(upsert.query))
    if not reader.take("VALUES"):
        return None
    first, last = reader.parenthesised()
    values = reader.text(first, last)
    if not reader.done() or has_subquery(values):
        return None
    return replace(upsert, query=f"SELECT {substituted(values, delimited)} FROM {_BOUND}", width=None)  # noqa: S608  # the statement's own text


def _bound(text: str) -> list[str]:
    """Names of the placeholders in a text."""
    return [one.name for one in placeholders(tokenize(text))]


def _bound_source(texts: Iterable[str]) -> str:
    """The bound rows as a table to be joined, whose columns no bare name of the statement can mean."""
    names = dict.fromkeys(name for text in texts for name in _bound(text))
    columns = ", ".join(f"{delimited(name)} AS {delimited(f'${name}')}" for name in names)
    return f"(SELECT {columns} FROM {_BOUND}) AS {_BOUND}"  # noqa: S608  # names are quoted


def _reading_bound(text: str) -> str:
    return substituted(text, lambda name: f"{_BOUND}.{delimited(f'${name}')}")
