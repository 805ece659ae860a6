"""The change query of INSERT with conflicts: the proposed rows, joined with the rows of their keys.

The proposed rows are the table `excluded`, with all columns of the target in its types, so that keys are compared as
what they will be stored as. DO NOTHING proposes the first given of rows with equal keys only, and keeps those without a
row in the target; DO UPDATE says with each row how many have its key. Rows with a null in their key conflict with none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flightserver.catalog.quoting import delimited
from flightserver.errors import InvalidRequest
from flightserver.query.language.changes import Assignment, Star
from flightserver.query.language.columns import qualified
from flightserver.query.language.dml import EXCLUDED
from flightserver.query.language.target import INSERT, NO_ROW, UPDATE, projection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flightserver.query.language.changes import Upsert
    from flightserver.query.language.target import Target


def upsert_query(upsert: Upsert, target: Target, primary_key: tuple[str, ...]) -> str:
    """The query, whose rows are as `target.py` says.

    Raises:
        InvalidRequest: A column doesn't exist, there are more or fewer values than columns, or the conflict is not one
            of the primary key.
    """
    _check_key(upsert, target, primary_key)
    given = target.given(upsert.columns, upsert.width, "INSERT")
    if upsert.assignments is None:
        return _unless_there(upsert, target, primary_key, given)
    return _or_update(upsert, target, primary_key, given)


def _check_key(upsert: Upsert, target: Target, primary_key: tuple[str, ...]) -> None:
    target.check_columns(upsert.conflict)
    if not primary_key:
        raise InvalidRequest(
            f"table {str(target.name)!r} has no primary key, which a conflict is about: set one with ALTER TABLE ... "
            "ADD PRIMARY KEY (...)"
        )
    if upsert.conflict and set(upsert.conflict) != set(primary_key):
        raise InvalidRequest(
            f"ON CONFLICT ({', '.join(upsert.conflict)}) is not about the primary key of table {str(target.name)!r}, "
            f"which is ({', '.join(primary_key)})"
        )


def _unless_there(upsert: Upsert, target: Target, key: tuple[str, ...], given: tuple[str, ...]) -> str:
    nth = f'row_number() OVER (PARTITION BY {_list(key)} ORDER BY "__place") AS "__nth"'
    proposed = f'(SELECT *, {nth} FROM ({_proposed(upsert, target, given)}) AS "__typed") AS {delimited(EXCLUDED)}'  # noqa: S608  # names are quoted, texts are the statement's own
    columns = {name: _excluded(name) for name in target.schema.names}
    there = f"SELECT 1 FROM {target.scan} WHERE {_same_key(target, key)}"  # noqa: S608  # as above
    return (
        f"SELECT {projection(str(INSERT), NO_ROW, '1', columns)} FROM {proposed} "  # noqa: S608  # as above
        f"WHERE ({_excluded('__nth')} = 1 OR {_null_key(key)}) AND NOT EXISTS ({there})"
    )


def _or_update(upsert: Upsert, target: Target, key: tuple[str, ...], given: tuple[str, ...]) -> str:
    times = f'CASE WHEN {_null_key(key, "")} THEN 1 ELSE count(*) OVER (PARTITION BY {_list(key)}) END AS "__times"'
    proposed = f'(SELECT *, {times} FROM ({_proposed(upsert, target, given)}) AS "__typed") AS {delimited(EXCLUDED)}'  # noqa: S608  # as above
    every = {name: _excluded(name) for name in given}
    assigned = target.assigned(_of_existing(upsert, target), every)
    is_new = f"{target.row_id} IS NULL"
    columns = {
        name: f"CASE WHEN {is_new} THEN {_excluded(name)} ELSE {assigned.get(name, target.column(name))} END"
        for name in target.schema.names
    }
    action = f"CASE WHEN {is_new} THEN {INSERT} ELSE {UPDATE} END"
    condition = qualified(upsert.condition, set(target.schema.names), target.alias)
    return (
        f"SELECT {projection(action, target.row_id, _excluded('__times'), columns)} "  # noqa: S608  # as above
        f"FROM {proposed} LEFT JOIN {target.scan} ON {_same_key(target, key)}"
        + (f" WHERE {is_new} OR ({condition})" if condition else "")
    )


def _of_existing(upsert: Upsert, target: Target) -> tuple[Assignment, ...] | Star:
    """The assignments, with bare columns meaning those of the row that exists."""
    if not isinstance(upsert.assignments, tuple):
        return Star.EVERY_COLUMN
    names = set(target.schema.names)
    return tuple(Assignment(one.column, qualified(one.expression, names, target.alias)) for one in upsert.assignments)


def _proposed(upsert: Upsert, target: Target, given: tuple[str, ...]) -> str:
    """A query for the given rows with all columns in the target's types, and their place in the order given."""
    known = set(given)
    columns = ", ".join(
        f"{target.cast(name, delimited(name) if name in known else 'NULL')} AS {delimited(name)}"
        for name in target.schema.names
    )
    return (
        f'SELECT {columns}, row_number() OVER () AS "__place" '  # noqa: S608  # as above
        f'FROM ({upsert.query}) AS "__given"({_list(given)})'
    )


def _list(names: Iterable[str]) -> str:
    return ", ".join(map(delimited, names))


def _excluded(name: str) -> str:
    return f"{delimited(EXCLUDED)}.{delimited(name)}"


def _null_key(key: tuple[str, ...], qualifier: str = f"{delimited(EXCLUDED)}.") -> str:
    return "(" + " OR ".join(f"{qualifier}{delimited(name)} IS NULL" for name in key) + ")"


def _same_key(target: Target, key: tuple[str, ...]) -> str:
    return " AND ".join(f"{target.column(name)} = {_excluded(name)}" for name in key)
