"""`vector_search(...)` in a statement: finds the rows before the statement is planned over them.

Theory of operation: each call of a statement is a name (`language/searches.py`). Where a statement is only understood,
the name is an empty table with the right columns (`providers.py`). Where its rows are wanted, the searches are done
first, one after the other, on the thread that plans and within the statement's limits, and the name is a table of the
rows found, at most `MAX_K`, nearest first. Views are planned on other threads (`providers.py`), so their searches have
a guard of their own, which stops them with the statement.

A search reads candidates, then vectors, then rows: `filter` is a query over the dataset for row ids, so that the
nearest are sought among rows that satisfy it; `NearestRows` finds the ids of the nearest; and these rows are fetched by
their ids. All three read one version of the dataset.

Where policies apply (`protection.py`), the candidates are the rows of the query that stands in the dataset's place, so
that hidden rows are never found and `filter` is computed for none of them, and sees masks. The rows that are found go
through that query again, for their masks; or, where masks look at other rows, are taken from all that it answers.
`filter` itself is planned with the names and rights of the statement; of generated names it can reach the candidates
alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
from sqlglot.tokenizer_core import TokenType

from flightserver.catalog.quoting import delimited
from flightserver.errors import InvalidRequest
from flightserver.query.held import check_held
from flightserver.query.language.reader import Reader
from flightserver.query.language.searches import Bound, bound_name, check_k
from flightserver.query.language.tokens import LITERALS, check_complexity, placeholders, tokenize
from flightserver.query.namespace import CANDIDATES, TARGET, Found, Scope
from flightserver.query.protection import PROTECTED
from flightserver.query.search_targets import DISTANCE, SearchTarget, search_target
from flightserver.query.vector_values import vector_of, written_vector
from flightserver.tables.schema import ROW_ID, decode, visible
from flightserver.tables.types import is_vectors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from flightserver.catalog.entities import Dataset
    from flightserver.query.language.searches import Search
    from flightserver.query.parameters import Parameters
    from flightserver.query.watchdog import Watchdog
    from flightserver.tables.nearest import Nearest, NearestRows

_WORD = re.compile(r"\w+", re.ASCII)
"""Names that a plan shows as they are."""

_FILTER = "the argument filter of vector_search"
_QUERY = "the argument query of vector_search"


class Answering(Protocol):
    """What runs queries: `flightserver.query.engine.Engine`."""

    def answer(self, sql: str, scope: Scope, parameters: Parameters) -> list[pa.RecordBatch]:
        """All rows of a query."""

    def fetch(self, sql: str, scope: Scope) -> list[pa.RecordBatch]:
        """All rows of a query for rows by their ids."""

    def protected_rows(self, dataset: Dataset, sql: str, scope: Scope) -> list[pa.RecordBatch]:
        """All rows of the query that stands in the place of a dataset."""


@dataclass(frozen=True, slots=True)
class Searching:
    """Does the searches of statements.

    Attributes:
        engine: Computes vectors, candidates and rows.
        index: Finds the nearest.
        watchdog: Interrupts searches of views.
        max_bytes: Of the rows that all searches of a statement, or of a view, have found.
    """

    engine: Answering
    index: NearestRows
    watchdog: Watchdog
    max_bytes: int

    def found(self, scope: Scope, parameters: Parameters) -> Mapping[str, Found]:
        """The rows of each search of a scope, by the name of the search.

        Args:
            scope: What names mean to the statement.
            parameters: Values of its placeholders.

        Raises:
            InvalidRequest: There is no vector to search for, or an argument is not what it must be.
            DimensionMismatch: The vector is of another length than those of the index.
            NotFound: There is no such index.
            Forbidden: Policies forbid it.
            LimitExceeded: What is found, or read to find it, is larger than may be held.
        """
        return self.watchdog.guard(scope.notes).run(lambda: self._found(scope, parameters))

    def check(self, scope: Scope, parameters: Parameters) -> None:
        """Return unless an argument that is known already can't be searched for.

        Args:
            scope: As of `found`.
            parameters: Values of placeholders, as far as they are known.

        Raises:
            As `found`.
        """
        for search in scope.searches.values():
            target = search_target(scope, search.index)
            if not isinstance(search.k, Bound) or search.k.name in parameters:
                _k(search.k, parameters)
            if not isinstance(search.filter, Bound) or search.filter.name in parameters:
                _filter(search.filter, parameters)
            vector = _plain_vector(search.query, parameters)
            if vector is not None:
                self.index.check(target.index, vector)

    def _found(self, scope: Scope, parameters: Parameters) -> Mapping[str, Found]:
        found: dict[str, Found] = {}
        size = 0
        for search in scope.searches.values():
            inside = replace(scope, searches={}, found=dict(found))
            # What another search reads of it, the plan doesn't show.
            is_shown = all(search.name not in other.query for other in scope.searches.values())
            found[search.name] = self._search(search, inside, parameters, scope.notes.reads if is_shown else None)
            size += found[search.name].rows.nbytes
            check_held(size, self.max_bytes)
        return found

    def _search(self, search: Search, scope: Scope, parameters: Parameters, reads: str | None) -> Found:
        target = search_target(scope, search.index)
        k = _k(search.k, parameters)
        predicate = _filter(search.filter, parameters)
        vector = self._vector(search.query, scope, parameters)
        allowed = self._candidates(target, predicate, scope)
        nearest = self.index.nearest(target.index, target.dataset, vector, k, allowed)
        return Found(self._rows(target, nearest, scope, reads), is_protected=target.hidden is not None)

    def _vector(self, text: str, scope: Scope, parameters: Parameters) -> NDArray[np.float32]:
        """The vector that an expression means; the engine is asked for those that are no plain values."""
        plain = _plain_vector(text, parameters)
        if plain is not None:
            return plain
        try:
            batches = self.engine.answer(f'SELECT ({text}) AS "query"', scope, parameters)
        except InvalidRequest as error:
            problem = (
                " can't read columns of the statement, a subquery can" if "No field named" in error.message else ""
            )
            raise InvalidRequest(f"{_QUERY}{problem}: {error.message}") from error
        rows = sum(batch.num_rows for batch in batches)
        if rows != 1:
            raise InvalidRequest(f"{_QUERY} gives {rows:,} rows: it must give one vector")
        return vector_of(next(batch.column(0)[0] for batch in batches if batch.num_rows))

    def _candidates(self, target: SearchTarget, predicate: str, scope: Scope) -> NDArray[np.int64] | None:
        """Ids of the rows among which to search; None for all that are alive."""
        hides_rows = target.hidden is not None and target.hidden.hides_rows
        if not predicate and not hides_rows:
            return None
        condition = f" WHERE ({predicate}\n)" if predicate else ""
        sql = f'SELECT "{ROW_ID}" FROM "{CANDIDATES}" AS {delimited(target.dataset.name)}{condition}'  # noqa: S608  # one expression between brackets
        try:
            batches = self.engine.answer(sql, _among(target, scope), {})
        except InvalidRequest as error:
            # The engine would say where in a statement that nobody has written.
            is_unreadable = error.message.startswith("SQL error")
            problem = f"{predicate[:80]!r} can't be read as a predicate" if is_unreadable else error.message
            raise InvalidRequest(f"{_FILTER}: {problem}") from error
        return _joined([batch.column(0).to_numpy(zero_copy_only=False) for batch in batches])

    def _rows(self, target: SearchTarget, nearest: Nearest, scope: Scope, reads: str | None) -> pa.Table:
        """The rows that were found, nearest first, as who asks may see them.

        Args:
            target: What was searched.
            nearest: The rows.
            scope: What names mean.
            reads: What is read of them, as of `Notes`.
        """
        shown = target.columns
        if not len(nearest.row_ids):
            return target.schema.empty_table()
        unread = frozenset[str]() if target.hidden is not None else _unread(shown, reads)
        names = [name for name in (*shown.names, ROW_ID) if name not in unread]
        batches = self._read(target, nearest.row_ids, names, scope)
        read = pa.schema([field for field in shown if field.name not in unread])
        found = _in_order(batches, nearest, read)
        for place, field in enumerate(shown):
            if field.name in unread:
                found = found.add_column(place, field, _stand_in(field, found.num_rows))
        return found.cast(target.schema)

    def _read(
        self, target: SearchTarget, ids: NDArray[np.int64], names: list[str], scope: Scope
    ) -> list[pa.RecordBatch]:
        """Columns of rows by their ids, in any order, as who asks may see them."""
        dataset, hidden = target.dataset, target.hidden
        columns = ", ".join(map(delimited, names))
        wanted = f'"{ROW_ID}" IN ({", ".join(map(str, ids.tolist()))})'
        if hidden is not None and hidden.looks_around:
            sql = f'SELECT {columns} FROM "{CANDIDATES}" WHERE {wanted}'  # noqa: S608  # names are quoted, ids are numbers
            return self.engine.answer(sql, _among(target, scope), {})
        sql = f'SELECT {columns} FROM "{TARGET}" WHERE {wanted}'  # noqa: S608  # as above
        batches = self.engine.fetch(sql, Scope(scope.snapshot, target=dataset, depth=scope.depth))
        if hidden is None:
            return batches
        numbered = visible(decode(dataset.schema)).append(pa.field(ROW_ID, pa.int64(), nullable=False))
        batches = pa.Table.from_batches(batches).cast(numbered).to_batches()
        behind = replace(scope.behind(dataset), given={PROTECTED: (numbered, batches)})
        return self.engine.protected_rows(dataset, hidden.sql, behind)


def _among(target: SearchTarget, scope: Scope) -> Scope:
    """What names mean to a query for candidates."""
    return replace(scope, target=None, added=None, protected=None, named={}, found={}, candidates=target.dataset)


def _plain_vector(text: str, parameters: Parameters) -> NDArray[np.float32] | None:
    """The vector that an expression is: a literal, or a placeholder's value; None where it must be computed."""
    name = bound_name(text)
    if name is not None and name in parameters:
        return vector_of(parameters[name])
    return written_vector(text)


def _unread(columns: pa.Schema, plan: str | None) -> frozenset[str]:
    """Columns of vectors that a plan nowhere names: they are what rows are large by, and seldom wanted.

    Args:
        columns: Of the dataset.
        plan: As the engine shows it; None where it isn't known.
    """
    if plan is None:
        return frozenset()
    return frozenset(
        field.name
        for field in columns
        if is_vectors(field.type) and _WORD.fullmatch(field.name) and not re.search(rf"\b{field.name}\b", plan)
    )


def _stand_in(field: pa.Field, rows: int) -> pa.Array:
    """What stands in the place of a column of vectors that nobody reads."""
    if field.nullable:
        return pa.nulls(rows, field.type)
    if not pa.types.is_fixed_size_list(field.type):
        return pa.array([[]] * rows, field.type)
    size = field.type.list_size
    return pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(rows * size), field.type.value_type), type=field.type)


def _in_order(batches: list[pa.RecordBatch], nearest: Nearest, columns: pa.Schema) -> pa.Table:
    """Rows in the order of their distances, which become their last column."""
    if not batches:
        return columns.append(pa.field(DISTANCE, pa.float64(), nullable=False)).empty_table()
    table = pa.Table.from_batches(batches).combine_chunks()
    ids = table.column(ROW_ID).to_numpy()
    order = np.argsort(nearest.row_ids)
    places = order[np.searchsorted(nearest.row_ids, ids, sorter=order)]
    rows = np.argsort(places)
    shown = table.select(columns.names).take(pa.array(rows))
    return shown.append_column(DISTANCE, pa.array(nearest.distances[places[rows]]))


def _joined(ids: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate(ids) if ids else np.empty(0, dtype=np.int64)


def _k(k: int | Bound, parameters: Parameters) -> int:
    if isinstance(k, int):
        return k
    value = _value("k", k, parameters)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequest(f"the argument k of vector_search must be a whole number; found {_shown(value)}")
    check_k(value)
    return value


def _filter(given: str | Bound | None, parameters: Parameters) -> str:
    """The predicate, found to be one expression; empty where there is none."""
    text = _value("filter", given, parameters) if isinstance(given, Bound) else given
    if text is None:
        return ""
    if not isinstance(text, str):
        raise InvalidRequest(f"{_FILTER} must be a text; found {_shown(text)}")
    try:
        return _one_predicate(text)
    except InvalidRequest as error:
        raise InvalidRequest(f"{_FILTER}: {error.message}") from None


def _one_predicate(text: str) -> str:
    tokens = tokenize(text)
    check_complexity(tokens)
    if placeholders(tokens) or any(token.token_type is TokenType.PLACEHOLDER for token in tokens):
        raise InvalidRequest("it can't have placeholders: bind its whole text")
    if any(token.text.lower() == ROW_ID and token.token_type not in LITERALS for token in tokens):
        raise InvalidRequest(f"no column is called {ROW_ID!r}")
    reader = Reader(text, tokens)
    predicate = reader.upto(",", ";", what="a predicate")
    reader.end("the end of one predicate")
    return predicate


def _shown(value: object) -> str:
    """A bound value as SQL would write it, or at least so that a text isn't taken for a number."""
    return "NULL" if value is None else (repr if isinstance(value, str) else str)(value)[:40]


def _value(argument: str, bound: Bound, parameters: Parameters) -> object:
    value = parameters.get(bound.name)
    if value is None:
        raise InvalidRequest(f"the argument {argument} of vector_search has no value: bind ${bound.name}")
    return value.as_py()
