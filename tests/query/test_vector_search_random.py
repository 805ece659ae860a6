"""Searches of random tables find what comparing all of their rows finds."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis.strategies as st
from hypothesis import given, settings
from query.asking import bound, rows, run
from query.vectors import assert_nearest, distances, make_index, refresh

from flightserver.catalog.indexes import METRICS
from flightserver.lakehouse import Lakehouse
from flightserver.settings import load_settings

if TYPE_CHECKING:
    from query.vectors import Row

VECTOR = st.lists(st.integers(-3, 3).filter(bool), min_size=2, max_size=2)
ROWS = st.lists(st.none() | VECTOR, min_size=1, max_size=8)
STEP = st.one_of(
    st.tuples(st.just("insert"), ROWS),
    st.tuples(st.sampled_from(["delete", "update"]), st.integers(1, 4)),
    st.tuples(st.just("refresh"), st.none()),
)
FILTERS = ("", "id % 2 = 0", "id > 5 OR e[1] > 0", "id IN (SELECT max(id) FROM t)", "false")


def literal(vector: list[int] | None) -> str:
    return "NULL" if vector is None else f"[{vector[0]}, {vector[1]}]"


@settings(max_examples=25)
@given(
    first=ROWS,
    steps=st.lists(STEP, max_size=5),
    query=VECTOR,
    k=st.integers(1, 12),
    condition=st.sampled_from(FILTERS),
    metric=st.sampled_from(METRICS),
)
def test_a_search_finds_the_nearest_of_the_rows_that_satisfy_its_filter(
    first: list[list[int] | None],
    steps: list[tuple[str, object]],
    query: list[int],
    k: int,
    condition: str,
    metric: str,
) -> None:
    with (
        tempfile.TemporaryDirectory() as data,
        Lakehouse.open(load_settings(None, {"server": {"data": Path(data)}})) as lakehouse,
    ):
        run(lakehouse, "CREATE TABLE t (id BIGINT, e FLOAT[])")
        add(lakehouse, 0, first)
        make_index(lakehouse, "near", "t", metric=metric, dimension=2)
        for number, (step, what) in enumerate(steps, start=1):
            if isinstance(what, list):
                add(lakehouse, 10 * number, what)
            elif step == "delete":
                run(lakehouse, f"DELETE FROM t WHERE id % 5 = {what}")
            elif step == "update":
                run(lakehouse, f"UPDATE t SET e = {literal(query)} WHERE id % 5 = {what}")
            else:
                refresh(lakehouse, "near")

        search = f"SELECT id, _distance FROM vector_search('near', ?, {k}, ?)"
        found = rows(lakehouse, search, parameters=bound([float(one) for one in query], condition or None))
        there: list[Row] = rows(lakehouse, f"SELECT id, e FROM t WHERE {condition or 'true'}")
        assert_nearest(found, distances(metric, there, query), k)


def add(lakehouse: Lakehouse, base: int, vectors: list[list[int] | None]) -> None:
    values = ", ".join(f"({base + place}, {literal(vector)})" for place, vector in enumerate(vectors))
    run(lakehouse, f"INSERT INTO t VALUES {values}")
