"""Random policies and random queries: the answer is that of another engine over the rows and values that are left.

Each hidden row has a text that can't be cast to a number, and casts are in many of the queries: a row that is looked at
where it must not be fails the statement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as trying
from hypothesis import strategies as st
from query.asking import rows, run

from flightserver.access.principal import Principal
from flightserver.access.rights import Rights
from flightserver.catalog.identities import AccessState, Grant, Policy, Privilege, Role
from flightserver.settings import Settings, load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from flightserver.lakehouse import Lakehouse

HIDDEN = "HIDDEN"
ROWS = [
    (number, number % 3, None if number % 5 == 0 else number % 7 - 3, HIDDEN if number % 4 == 0 else str(number % 6))
    for number in range(40)
]
TABLES = ("one_file", "merged", "many_files")
NUMBERS = ("id", "a", "b")

_constants = st.integers(-3, 12).map(str)
_numbers = st.recursive(
    st.sampled_from([*NUMBERS, "CAST(c AS BIGINT)"]) | _constants,
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*"]), inner)
        | st.builds("CASE WHEN {} > {} THEN {} ELSE {} END".format, inner, inner, inner, inner)
        | st.builds("coalesce({}, {})".format, inner, inner)
    ),
    max_leaves=5,
)
_plain_numbers = st.sampled_from(["a", "a", "a", "b", "id"]) | _constants
"""Without casts: what a filter reads before it has hidden anything."""


def _predicates(numbers: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    compared = st.builds("{} {} {}".format, numbers, st.sampled_from(["=", "<>", "<", ">="]), numbers)
    null = st.builds("{} IS {}NULL".format, numbers, st.sampled_from(["", "NOT "]))
    text = st.builds("c {} '{}'".format, st.sampled_from(["=", "<>", "<"]), st.integers(0, 6))
    return st.recursive(
        compared | null | text,
        lambda inner: (
            st.builds("({} {} {})".format, inner, st.sampled_from(["AND", "OR"]), inner)
            | st.builds("NOT ({})".format, inner)
        ),
        max_leaves=4,
    )


_masks = {
    "a": st.sampled_from(["0", "a + 1", "b", "CASE WHEN b > 0 THEN a END"]),
    "b": st.sampled_from(["NULL", "b * 0", "a", "id"]),
    "c": st.sampled_from(["'7'", "c", "CASE WHEN a = 0 THEN '5' ELSE c END"]),
}


@st.composite
def queries(draw: st.DrawFn) -> str:  # noqa: PLR0911  # one for each shape
    """A query over `t`, whose answer has no order."""
    where = f" WHERE {draw(_predicates(_numbers))}" if draw(st.booleans()) else ""
    shape = draw(st.sampled_from(["plain", "narrow", "grouped", "joined", "subquery", "set", "window"]))
    first, second = draw(_numbers), draw(_numbers)
    match shape:
        case "plain":
            return f"SELECT {first} AS x, {second} AS y FROM t{where}"
        case "narrow":  # the columns of many filters as they are, and fewer in all than the computed one reads
            return f"SELECT a, c, id * b + CAST(c AS BIGINT) * ({first}) AS x FROM t{where}"
        case "grouped":
            return f"SELECT a, c, count(*), sum({first}), min({second}) FROM t{where} GROUP BY a, c"
        case "joined":
            return f"SELECT t.id, o.x FROM t JOIN (SELECT id AS i, {first} AS x FROM t{where}) AS o ON t.a = o.x"
        case "subquery":
            return f"SELECT id, c FROM t WHERE {first} IN (SELECT {second} FROM t{where})"
        case "set":
            return f"SELECT {first} AS x FROM t{where} EXCEPT SELECT {second} FROM t"
        case _:
            return f"SELECT id, count(*) OVER (PARTITION BY {first}) AS n FROM t{where}"


@dataclass(frozen=True)
class Policies:
    """A filter, and masks of some columns."""

    filter: str
    masks: dict[str, str]

    def rights(self) -> Rights:
        """Of somebody to whom they apply."""
        policies = {name: Policy(name, "primary", name, self.filter, self.masks) for name in TABLES}
        role = Role("analyst", (Grant((Privilege.SELECT,)),))
        state = AccessState(1, roles={"analyst": role}, policies=policies)
        return Rights(Principal("eve", frozenset({"analyst"}), "password"), state)

    def expected(self, query: str) -> list[tuple[Any, ...]]:
        """The answer over what they leave."""
        shown = ", ".join(f"{self.masks.get(name, name)} AS {name}" for name in ("id", "a", "b", "c"))
        with duckdb.connect() as model:
            model.register("raw_arrow", SENT)
            model.execute("CREATE TABLE raw AS SELECT * FROM raw_arrow")
            model.execute(f"CREATE TABLE t AS SELECT {shown} FROM raw WHERE {self.filter}")  # the test's own text
            return in_order(model.execute(query).fetchall())


SENT = pa.table(
    {
        "id": pa.array([row[0] for row in ROWS], pa.int64()),
        "a": pa.array([row[1] for row in ROWS], pa.int64()),
        "b": pa.array([row[2] for row in ROWS], pa.int64()),
        "c": pa.array([row[3] for row in ROWS], pa.string()),
    }
)
_policies = st.builds(
    Policies,
    filter=_predicates(_plain_numbers).map(lambda text: f"({text}) AND c <> '{HIDDEN}'"),
    masks=st.just({}) | st.fixed_dictionaries({}, optional=_masks),
)


def in_order(found: Any) -> list[tuple[Any, ...]]:
    return sorted((tuple(None if one is None else str(one) for one in row) for row in found), key=repr)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Without a cache, so that files are read each time."""
    return load_settings(None, {"server": {"data": tmp_path / "data"}, "cache": {"max_bytes": 0}})


@pytest.fixture
def tables(lakehouse: Lakehouse) -> Lakehouse:
    """The same rows in one file, in files and deltas, and in many small files."""
    kept = {"sent": (SENT.schema, SENT.combine_chunks().to_batches())}
    for name in TABLES:
        run(lakehouse, f"CREATE TABLE {name} (id BIGINT, a BIGINT, b BIGINT, c VARCHAR)")
    run(lakehouse, "INSERT INTO one_file SELECT * FROM sent", given=kept)
    run(lakehouse, "INSERT INTO merged SELECT * FROM sent", given=kept)
    run(lakehouse, f"INSERT INTO merged VALUES (99, 0, 0, '{HIDDEN}'), (98, 1, 1, '1')")
    run(lakehouse, "DELETE FROM merged WHERE id > 90")
    run(lakehouse, "UPDATE merged SET a = a WHERE id % 2 = 0")
    for part in range(4):
        run(lakehouse, f"INSERT INTO many_files SELECT * FROM sent WHERE id % 4 = {part}", given=kept)  # as above
    return lakehouse


@trying(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(policies=_policies, query=queries(), table=st.sampled_from(TABLES))
def test_a_query_answers_what_it_answers_over_what_policies_leave(
    tables: Lakehouse, policies: Policies, query: str, table: str
) -> None:
    asked = query.replace("FROM t", f"FROM {table} AS t").replace("JOIN t", f"JOIN {table} AS t")

    assert in_order(rows(tables, asked, rights=policies.rights())) == policies.expected(query)
