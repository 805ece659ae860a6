"""SQLAlchemy through flightsql-dbapi, in the environment that `sqlalchemy_environment.py` makes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import RunningServer

pytestmark = pytest.mark.client("SQLAlchemy")

PROGRAM = Path(__file__).parent / "sqlalchemy_program.py"

PEOPLE = [[1, "Ada"], [2, "Grace O'Hara"], [3, None]]


@pytest.fixture
def answers(sqlalchemy_python: Path, server: RunningServer, connection: Any) -> dict[str, Any]:
    """What the program says of a table `people`."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE people (id BIGINT PRIMARY KEY, name VARCHAR, score DOUBLE)").fetchall()
        cursor.execute("INSERT INTO people VALUES (1, 'Ada', 9.5), (2, 'Grace O''Hara', 1), (3, NULL, NULL)").fetchall()
    port = server.uri.rpartition(":")[2]
    command = [str(sqlalchemy_python), "-W", "ignore", str(PROGRAM), port]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.feature("queries", "parameters", "prepared statements", "tables and columns", "primary keys")
def test_sqlalchemy_reflects_and_queries(answers: dict[str, Any]) -> None:
    told = {
        "schemas": ["information_schema", "primary", "public", "system"],
        "tables": ["people"],
        "columns": [["id", "BIGINT", False], ["name", "TEXT", True], ["score", "FLOAT", True]],
        "text": PEOPLE,
        "where": [[2]],
        "count": 3,
        "made": [],
    }

    # Without the feature the dialect doesn't ask for keys, and writes values into the statement.
    assert answers["literal"] == {**told, "key": []}
    assert answers["prepared"] == {**told, "key": ["id"]}


def test_pandas_reads_by_its_connection(answers: dict[str, Any]) -> None:
    assert answers["pandas"] == {"id": [1, 2, 3], "name": ["Ada", "Grace O'Hara", None]}
