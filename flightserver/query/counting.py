"""`SELECT count(*) FROM t`, answered from the catalog.

The engine answers it from the statistics of files, but a merge of deltas has none, and would be read row by row: some
ten times as long, for a number that the catalog has. A merge can't tell the engine, so the statement is
recognised by its text; whatever looks otherwise in the least is left to the engine.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from flightserver.catalog.entities import Dataset
from flightserver.catalog.quoting import delimited
from flightserver.errors import RequestError
from flightserver.query.namespace import INFORMATION_SCHEMA, SYSTEM

if TYPE_CHECKING:
    from flightserver.query.namespace import Scope

_NAME = r'(?:"(?:[^"]|"")+"|[A-Za-z_]\w*)'
_COUNT = re.compile(
    rf"\s*SELECT\s+COUNT\s*\(\s*\*\s*\)(?:\s+AS\s+(?P<alias>{_NAME}))?"
    rf"\s+FROM\s+(?:(?P<schema>{_NAME})\s*\.\s*)?(?P<table>{_NAME})\s*;?\s*",
    re.IGNORECASE | re.ASCII,
)


def _folded(name: str) -> str:
    """A name as the engine reads it: unquoted ones in lower case."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()


def counted(sql: str, scope: Scope) -> str | None:
    """A statement with the answer in it, or None where the engine is to find it."""
    found = _COUNT.fullmatch(sql)
    if found is None or scope.schema in {SYSTEM, INFORMATION_SCHEMA}:
        return None
    table = _folded(found["table"])
    schema = None if found["schema"] is None else _folded(found["schema"])
    if schema in {SYSTEM, INFORMATION_SCHEMA} or table in scope.given or table in scope.named:
        return None
    try:
        dataset = scope.relation(table, schema)
    except RequestError:
        return None  # the engine says it better
    if not isinstance(dataset, Dataset) or dataset.external is not None or not dataset.deltas:
        return None
    if scope.is_protected(dataset):
        return None
    name = "count(*)" if found["alias"] is None else _folded(found["alias"])
    return f"SELECT CAST({dataset.rows} AS BIGINT) AS {delimited(name)}"  # a number and a quoted name
