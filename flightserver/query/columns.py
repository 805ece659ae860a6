"""Which columns of a result come unchanged from a column of a table.

Theory of operation: the logical plan is read from its last step down. Each step says which of its columns are columns
of the step below, by qualified name as the engine resolves them; sorting, filtering, limits and joins change none. The
engine shows a table as an alias over the plan of its scan, whose own tables are called `?table?`, and a view as an
alias over an alias `__view` (`flightserver.query.namespace`), so that what a view reads stays its own business.

Where anything is not understood, or a name could mean two things, the column has no origin: a client that is told
nothing asks; one that is told something wrong writes to the wrong table.

Specification of the plan: datafusion 54, `LogicalPlan`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from datafusion.expr import Alias, Column

from flightserver.catalog.entities import Dataset
from flightserver.errors import RequestError
from flightserver.query.namespace import CATALOG, INFORMATION_SCHEMA, SYSTEM, VIEW, PastView
from flightserver.query.nodes import variant

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from datafusion import LogicalPlan

    from flightserver.query.namespace import Scope
    from flightserver.query.request import Planned

_SCAN = "TableScan: ?table?"
_UNCHANGED = frozenset({"Distinct", "Filter", "Limit", "Repartition", "Sort", "WindowExpr"})
"""Steps whose columns are those of the step below; a window adds some, which have no origin."""
_HALF_JOINS = ("LeftSemi", "LeftAnti", "LeftMark", "RightSemi", "RightAnti", "RightMark")
"""Joins that answer the columns of one side."""
_FIXED = frozenset({SYSTEM, INFORMATION_SCHEMA})


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a column comes from.

    Attributes:
        schema: The schema by which the statement named the table, or that of its bucket.
        table: The table or view.
        column: The column's name there.
        is_read_only: Whether no statement can change it.
    """

    schema: str
    table: str
    column: str
    is_read_only: bool


class _Table(NamedTuple):
    """A table's name; read-only where no statement can change it."""

    schema: str
    name: str
    is_read_only: bool

    def origin(self, column: str) -> Origin:
        return Origin(self.schema, self.name, column, self.is_read_only)


class _Column(NamedTuple):
    """A column of a step: how the step above names it, and where it comes from."""

    qualifier: str | None
    name: str
    origin: Origin | None

    def origins(self, qualifier: str | None, name: str) -> Iterable[Origin | None]:
        """The origin of the column, if it is the one that is meant."""
        return [self.origin] if self.name == name and qualifier in {None, self.qualifier} else []


class _Columns(NamedTuple):
    """All columns of a table, under an alias; no table where it is not known which."""

    alias: str
    table: _Table | None

    def origins(self, qualifier: str | None, name: str) -> Iterable[Origin | None]:
        """The origin of the column of that name, if the table is meant."""
        if qualifier != self.alias:
            return []
        return [None if self.table is None else self.table.origin(name)]


_Step = list[_Column | _Columns]


def origins(planned: Planned) -> tuple[Origin | None, ...]:
    """The origin of each column of a planned query; None where it is computed, or can't be told."""
    unknown = (None,) * len(planned.schema)
    if planned.frame is None:
        return unknown
    last = _step(planned.frame.logical_plan(), planned.scope)
    columns = [one.origin for one in last if isinstance(one, _Column)]
    return tuple(columns) if len(last) == len(columns) == len(unknown) else unknown


def _step(plan: LogicalPlan, scope: Scope) -> _Step:
    """The columns of a step, in order; none where they are not known."""
    node = variant(plan)
    kind = type(node).__name__
    inputs = plan.inputs()
    columns: _Step = []
    if kind == "SubqueryAlias":
        columns = _aliased(node.alias(), inputs[0], scope)
    elif kind == "Projection":
        below = _step(inputs[0], scope)
        columns = [_projected(expression, below) for expression in node.projections()]
    elif kind == "Aggregate":
        below = _step(inputs[0], scope)
        columns = [_projected(expression, below) for expression in node.group_by_exprs()]
    elif kind == "Join" and not plan.display().startswith(_HALF_JOINS):
        columns = list(chain.from_iterable(_step(one, scope) for one in inputs))
    elif kind == "Join":
        columns = _step(inputs[plan.display().startswith("Right")], scope)
    elif kind in _UNCHANGED and not plan.display().startswith("DistinctOn"):
        columns = _step(inputs[0], scope)
    return columns


def _projected(expression: Any, below: _Step) -> _Column:
    """A column of a projection."""
    text = str(expression)
    node = variant(expression)
    new_name = node.alias() if isinstance(node, Alias) else None
    if isinstance(node, Alias):
        node = variant(node.expr())
    if not isinstance(node, Column):
        return _Column(None, text if new_name is None else new_name, None)
    found = [origin for one in below for origin in one.origins(node.relation(), node.name())]
    origin = found[0] if len(found) == 1 else None
    if new_name is not None:
        return _Column(None, new_name, origin)
    return _Column(node.relation(), node.name(), origin)


def _aliased(alias: str, inner: LogicalPlan, scope: Scope) -> _Step:
    """The columns of an alias: of a relation of the catalog, or of a subquery under another name."""
    node = variant(inner)
    kind = type(node).__name__
    if (kind == "SubqueryAlias" and node.alias() == VIEW) or _is_scan(inner):
        return [_Columns(alias, _table(alias, scope))]
    below = _step(inner, scope)
    if len(below) == 1 and isinstance(below[0], _Columns):
        return [_Columns(alias, below[0].table)]
    return [_Column(alias, one.name, one.origin) for one in below if isinstance(one, _Column)]


def _is_scan(plan: LogicalPlan) -> bool:
    """Whether a plan is that of a table: its scans are reached before anything that a statement names."""
    nodes = [plan]
    while nodes:
        node = nodes.pop()
        text = node.display()
        if text.startswith(_SCAN):
            return True
        if not text.startswith("SubqueryAlias:"):
            nodes.extend(node.inputs())
    return False


def _table(alias: str, scope: Scope) -> _Table | None:
    """The relation that a name means. The engine writes it without quotes, so that a dot may be part of a name."""
    first, _, rest = alias.partition(".")
    second, _, last = rest.partition(".")
    found = [_relation(None, alias, scope)]
    if rest:
        found.append(_relation(first, rest, scope))
    if last and first == CATALOG:
        found.append(_relation(second, last, scope))
    known = [one for one in found if one is not None]
    return known[0] if len(known) == 1 else None


def _relation(schema: str | None, name: str, scope: Scope) -> _Table | None:
    if schema in _FIXED:
        return _Table(schema, name, is_read_only=True)
    is_past = schema is None and name in scope.named
    of_statement = name in scope.given or name in scope.searches
    if schema is None and not is_past and (of_statement or scope.schema in _FIXED):
        return None
    try:
        relation = scope.named[name] if is_past else scope.relation(name, schema)
    except RequestError:
        return None
    if isinstance(relation, PastView):
        relation = relation.view
    is_read_only = is_past or not isinstance(relation, Dataset)
    return _Table(schema or relation.bucket, relation.name, is_read_only)
