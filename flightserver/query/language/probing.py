"""Probes: queries that are planned and never run, from whose plans the types of placeholders can be read.

The engine knows the type of a placeholder by what it is compared or combined with: `id = $1` has the type of `id`. A
statement that changes rows assigns where a query compares, so a probe is a query over the same tables that compares
each assigned column with its expression, under the conditions of the statement. What INSERT gives has the types of the
columns by the engine's own planning of INSERT. Casts and LIMIT say types without any plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from flightserver.catalog.quoting import delimited
from flightserver.query.language.changes import Assignment, Delete, InsertRow, Merge, SetColumns, Update, Upsert
from flightserver.query.language.statements import Kind
from flightserver.query.language.tokens import placeholders, tokenize, word

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sqlglot.tokenizer_core import Token

    from flightserver.query.language.changes import Clause, TableName
    from flightserver.query.language.statements import Statement


@dataclass(frozen=True, slots=True)
class Probe:
    """A statement to plan: an INSERT, or a query."""

    sql: str
    is_insert: bool


def probes(statement: Statement) -> list[Probe]:
    """What to plan for a statement that changes data, to learn the types of its placeholders."""
    target, found = statement.target, []
    if target is None:
        return []
    match statement.change:
        case Update() as update:
            conditions = [update.condition, *_compared(update.alias, update.assignments)]
            found = [_query(target, update.alias, update.source, conditions)]
        case Delete() as delete:
            found = [_query(target, delete.alias, delete.source, [delete.condition])]
        case Merge() as merge:
            conditions = [merge.condition, *(text for clause in merge.clauses for text in _of_clause(merge, clause))]
            found = [_query(target, merge.alias, merge.source, conditions)]
        case Upsert() as upsert:
            found = _of_upsert(target, upsert)
        case _ if statement.kind is Kind.INSERT:
            found = [Probe(statement.sql, is_insert=True)]
    return found


def _of_clause(merge: Merge, clause: Clause) -> list[str]:
    compared: Iterator[str] = iter(())
    match clause.action:
        case SetColumns(assignments=tuple(assignments)):
            compared = _compared(merge.alias, assignments)
        case InsertRow(columns=columns, values=tuple(values)) if columns:
            pairs = zip(columns, values, strict=False)
            compared = _compared(merge.alias, (Assignment(column, value) for column, value in pairs))
    return [clause.condition, *compared]


def _of_upsert(target: TableName, upsert: Upsert) -> list[Probe]:
    columns = f" ({', '.join(delimited(name) for name in upsert.columns)})" if upsert.columns else ""
    insert = Probe(f"INSERT INTO {_name(target)}{columns} {upsert.query}", is_insert=True)
    if not isinstance(upsert.assignments, tuple):
        return [insert]
    excluded = f'{_name(target)} AS "excluded"'
    conditions = [upsert.condition, *_compared(upsert.alias, upsert.assignments)]
    return [insert, _query(target, upsert.alias, excluded, conditions)]


def _compared(alias: str, assignments: Iterable[Assignment]) -> Iterator[str]:
    return (f"{delimited(alias)}.{delimited(one.column)} = ({one.expression})" for one in assignments)


def _query(target: TableName, alias: str, source: str, conditions: Iterable[str]) -> Probe:
    tables = f"{_name(target)} AS {delimited(alias)}" + (f", {source}" if source else "")
    condition = " AND ".join(f"({text})" for text in conditions if text)
    return Probe(f"SELECT 1 FROM {tables} WHERE {condition or 'true'}", is_insert=False)  # noqa: S608  # names are quoted, texts are the statement's own


def _name(target: TableName) -> str:
    return ".".join(delimited(part) for part in (target.schema, target.name) if part is not None)


def cast_types(sql: str) -> Mapping[str, str]:
    """Placeholder -> the SQL type that the statement casts it to, by `CAST($1 AS type)` or `$1::type`."""
    tokens = tokenize(sql)
    ends = {one.end: one.name for one in placeholders(tokens)}
    found: dict[str, str] = {}
    for place, token in enumerate(tokens):
        name = ends.get(token.end + 1)
        if name is None:
            continue
        following = tokens[place + 1 :]
        if following and word(following[0]) == "AS" and place > 3 and word(tokens[place - 3]) in {"CAST", "TRY_CAST"}:  # noqa: PLR2004  # CAST ( $ 1
            found.setdefault(name, _text(sql, following[1:], _until_closed(following[1:])))
        elif following and following[0].text == "::":
            found.setdefault(name, _text(sql, following[1:], _one_type(following[1:])))
    return {name: text for name, text in found.items() if text}


def _until_closed(tokens: list[Token]) -> int:
    """How many tokens stand before the bracket that closes what is open at the first one."""
    depth = 0
    for place, token in enumerate(tokens):
        depth += {"(": 1, ")": -1}.get(word(token), 0)
        if depth < 0:
            return place
    return 0


def _one_type(tokens: list[Token]) -> int:
    if len(tokens) > 1 and word(tokens[1]) == "(":
        return 3 + _until_closed(tokens[2:])
    return 1


def _text(sql: str, tokens: list[Token], count: int) -> str:
    return sql[tokens[0].start : tokens[count - 1].end + 1] if 0 < count <= len(tokens) else ""


def row_counts(sql: str) -> frozenset[str]:
    """Names of the placeholders that stand behind LIMIT or OFFSET."""
    tokens = tokenize(sql)
    starts = {one.start: one.name for one in placeholders(tokens)}
    return frozenset(
        starts[mark.start]
        for before, mark in pairwise(tokens)
        if word(before) in {"LIMIT", "OFFSET"} and mark.start in starts
    )
