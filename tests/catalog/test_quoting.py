"""Names as people type them in SQL: what `identifier` writes means the name again, wherever a table is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from query.asking import rows, run

from flightserver.catalog.entities import DatasetKey
from flightserver.catalog.quoting import delimited, identifier

if TYPE_CHECKING:
    from flightserver.lakehouse import Lakehouse

QUOTED = {
    "Amb B": '"Amb B"',
    'say "hi"': '"say ""hi"""',
    "2013_flights": '"2013_flights"',
    "größe": '"größe"',
    "a-b": '"a-b"',
    "a.b": '"a.b"',
    "lateral": '"lateral"',
    "local": '"local"',
    "only": '"only"',
    "table": '"table"',
    "unnest": '"unnest"',
}
PLAIN = ["people", "_x1", "select", "order", "primary", "user", "values", "current_date", "left", "date"]


@pytest.mark.parametrize("name", [*QUOTED, *PLAIN])
def test_a_name_means_itself_where_a_table_is_named(name: str, lakehouse: Lakehouse) -> None:
    written, key = identifier(name), DatasetKey("primary", name)
    assert written == QUOTED.get(name, name)
    run(lakehouse, f"CREATE TABLE {delimited(name)} AS SELECT 1 AS id")

    for text in (written, str(key)):
        run(lakehouse, f"INSERT INTO {text} VALUES (2)")
        assert rows(lakehouse, f"SELECT max(id) FROM {text}") == [(2,)]
        run(lakehouse, f"UPDATE {text} SET id = 3 WHERE id = 2")
        run(lakehouse, f"DELETE FROM {text} WHERE id = 3")
        run(lakehouse, f"ALTER TABLE {text} ADD COLUMN more INTEGER")
        run(lakehouse, f"ALTER TABLE {text} DROP COLUMN more")
    run(lakehouse, f"DROP TABLE {written}")
    assert list(lakehouse.catalog.snapshot().datasets) == []
