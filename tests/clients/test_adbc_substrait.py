"""Substrait plans through ADBC, whose statements take them as bytes."""

from __future__ import annotations

from typing import Any

import adbc_driver_manager
import pyarrow as pa
import pytest
from query.substrait_plans import plan

pytestmark = pytest.mark.client("ADBC")


@pytest.fixture
def statement(cursor: Any) -> adbc_driver_manager.AdbcStatement:
    """A statement of the driver, and a table."""
    cursor.execute("CREATE TABLE people (id BIGINT NOT NULL, name VARCHAR)")
    cursor.execute("INSERT INTO people VALUES (1, 'Ada'), (2, 'Grace'), (3, 'Edsger')")
    statement: adbc_driver_manager.AdbcStatement = cursor.adbc_statement
    return statement


def answer(statement: adbc_driver_manager.AdbcStatement) -> pa.Table:
    stream, _ = statement.execute_query()
    return pa.RecordBatchReader._import_from_c(stream.address).read_all()  # how the driver's streams are read


@pytest.mark.feature("Substrait")
def test_a_plan_is_executed(statement: adbc_driver_manager.AdbcStatement) -> None:
    statement.set_substrait_plan(plan("SELECT id, name FROM people WHERE name LIKE '%a%' ORDER BY id DESC"))

    assert answer(statement).to_pylist() == [{"id": 2, "name": "Grace"}, {"id": 1, "name": "Ada"}]


@pytest.mark.feature("Substrait")
def test_a_prepared_plan_takes_values(statement: adbc_driver_manager.AdbcStatement) -> None:
    statement.set_substrait_plan(plan("SELECT name FROM people WHERE id = $1"))
    statement.prepare()
    statement.bind(pa.RecordBatch.from_pydict({"1": [3]}))

    assert answer(statement).to_pylist() == [{"name": "Edsger"}]


def test_a_plan_that_does_not_decode_is_a_programming_error(statement: adbc_driver_manager.AdbcStatement) -> None:
    statement.set_substrait_plan(b"no plan")

    with pytest.raises(adbc_driver_manager.ProgrammingError, match="doesn't decode"):
        statement.execute_query()
