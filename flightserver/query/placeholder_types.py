"""Types of placeholders before a value is bound, for drivers that convert values before they send them.

JDBC and ODBC convert what a program binds to the type that the server names, so each placeholder whose type can be
known has one. Sources, the first that knows wins: a cast around the placeholder; the plan of the statement, or of its
probes (`language/probing.py`), where the engine has noted what the placeholder is compared or combined with; LIMIT and
OFFSET; arguments of searches.

The engine's binding shows plans in part: what stands in scalar subqueries and window functions is hidden, and the
types of placeholders there stay unknown. Subqueries of IN and EXISTS are joins in the optimized plan, which is
therefore looked at where the plan as written doesn't tell all. Nothing is run, and a statement that can't be planned is
no error here: whoever runs it is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
from datafusion.expr import (
    Aggregate,
    Filter,
    Join,
    Placeholder,
    Projection,
    Sort,
    Values,
)

from flightserver.errors import InvalidRequest, NotFound
from flightserver.query.language.probing import cast_types, probes, row_counts
from flightserver.query.language.searches import Bound, bound_name
from flightserver.query.nodes import variant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from datafusion import DataFrame
    from datafusion.plan import LogicalPlan

    from flightserver.query.engine import Engine
    from flightserver.query.language.statements import Statement
    from flightserver.query.request import Planned


def placeholder_types(engine: Engine, planned: Planned) -> dict[str, pa.DataType]:
    """Returns placeholder -> Arrow type, for those whose type is known."""
    statement = planned.statement
    if not statement.placeholders:
        return {}
    types = _searched(statement) | dict.fromkeys(row_counts(statement.sql), pa.int64())
    for frame in _frames(engine, planned):
        types.update(_noted(frame.logical_plan()))
        if not types.keys() >= set(statement.placeholders):
            types = {**_noted_when_optimized(frame), **types}
    for part in (statement.sql, *(f"SELECT {one.query}" for one in statement.searches)):
        for name, text in cast_types(part).items():
            try:
                types[name] = engine.column_schema(f"x {text}").field(0).type
            except InvalidRequest:
                continue  # the statement itself will be refused for it
    return types


def _searched(statement: Statement) -> dict[str, pa.DataType]:
    """Types of the placeholders that are arguments of searches."""
    types: dict[str, pa.DataType] = {}
    for search in statement.searches:
        query = bound_name(search.query)
        if query is not None:
            types[query] = pa.list_(pa.float32())
        if isinstance(search.k, Bound):
            types[search.k.name] = pa.int64()
        if isinstance(search.filter, Bound):
            types[search.filter.name] = pa.string()
    return types


def _frames(engine: Engine, planned: Planned) -> Iterator[DataFrame]:
    for search in planned.statement.searches:
        if search.query.startswith("("):
            try:
                yield engine.query(search.query, planned.scope, {})
            except (InvalidRequest, NotFound):
                continue  # the statement itself will be refused for it
    if planned.frame is not None:
        yield planned.frame
        return
    for probe in probes(planned.statement):
        plan = engine.insert if probe.is_insert else engine.query
        try:
            yield plan(probe.sql, planned.scope, {})
        except (InvalidRequest, NotFound):
            continue  # the statement itself will be refused for it


def _noted_when_optimized(frame: DataFrame) -> dict[str, pa.DataType]:
    try:
        plan = frame.optimized_logical_plan()
    except Exception:  # noqa: BLE001  # the binding raises bare Exception, where a rule needs values
        return {}
    return dict(_noted(plan))


def _noted(plan: LogicalPlan) -> Iterator[tuple[str, pa.DataType]]:
    """Name and type of each placeholder in a plan that the engine has noted a type for."""
    for expression in _expressions(plan):
        yield from _in_expression(expression)
    for below in plan.inputs():
        yield from _noted(below)


def _expressions(plan: LogicalPlan) -> Iterator[Any]:
    match variant(plan):
        case Filter() as node:
            yield node.predicate()
        case Projection() as node:
            yield from node.projections()
        case Join() as node:
            if node.filter() is not None:
                yield node.filter()
        case Aggregate() as node:
            yield from (*node.group_by_exprs(), *node.aggregate_exprs())
        case Sort() as node:
            yield from (one.expr() for one in node.sort_exprs())
        case Values() as node:
            for row in node.values():
                yield from row


def _in_expression(expression: Any) -> Iterator[tuple[str, pa.DataType]]:
    placeholder = variant(expression)
    if isinstance(placeholder, Placeholder):
        field = placeholder.field()
        if field is not None and not pa.types.is_null(field.type):
            yield placeholder.id().removeprefix("$"), field.type
        return
    for operand in _operands(expression):
        yield from _in_expression(operand)


def _operands(expression: Any) -> list[Any]:
    try:
        operands: list[Any] = expression.rex_call_operands()
    except Exception:  # noqa: BLE001  # the binding raises bare Exception, for what has none
        return []
    # What has no operands is its own.
    return [] if [str(one) for one in operands] == [str(expression)] else operands
