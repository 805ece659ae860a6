"""A process that changes rows and compacts: `python -m bench.rewriters CONTESTANT DIRECTORY`.

CONTESTANT is one of `CONTESTANTS`, DIRECTORY a copy of what `bench.compaction` prepared. The program opens it, says
`ready`, and for each line that it is sent, `change` or `compact`, does that and prints the seconds that it took.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
from deltalake import DeltaTable, WriterProperties

from bench.inprocess import duck, opened, run
from flightserver.catalog.entities import DatasetKey
from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid

if TYPE_CHECKING:
    from collections.abc import Callable

    from flightserver.lakehouse import Lakehouse

OURS, DUCK, DELTA = "flightserver", "DuckDB", "delta-rs"
CONTESTANTS = (OURS, DUCK, DELTA)

ROW_GROUP_ROWS = 131_072
"""As flightserver has it, as is zstd at level 3; for all contestants."""
PROPERTIES = WriterProperties(compression="ZSTD", compression_level=3, max_row_group_size=ROW_GROUP_ROWS)

OUTPUT = "compacted.parquet"
"""What DuckDB writes."""


def merge_statement(columns: list[str]) -> str:
    """The upsert as SQL."""
    pairs = ", ".join(f"{name} = c.{name}" for name in columns)
    given = ", ".join(f"c.{name}" for name in columns)
    return (
        f"MERGE INTO orders AS o USING changed AS c ON o.order_id = c.order_id "
        f"WHEN MATCHED THEN UPDATE SET {pairs} "
        f"WHEN NOT MATCHED THEN INSERT ({', '.join(columns)}) VALUES ({given})"
    )


def _ours(directory: Path) -> dict[str, Callable[[], object]]:
    lakehouse = opened(directory / "lake")
    columns = pq.read_schema(directory / "changed.parquet").names
    return {"change": lambda: run(lakehouse, merge_statement(columns)), "compact": lambda: _compact(lakehouse)}


def _compact(lakehouse: Lakehouse) -> None:
    compactor = lakehouse.compactor
    key = DatasetKey("primary", "orders")
    for _ in compactor.compact(key, Operation(id=new_ulid(), kind="compact"), compactor.wanted()):
        pass


def _duck(directory: Path) -> dict[str, Callable[[], object]]:
    """Only rewrites: the dead row ids and the new rows are given."""
    connection = duck({})
    names = pq.read_schema(directory / "changed.parquet").names
    columns = ", ".join(names)
    sql = f"""COPY (
        SELECT {columns} FROM '{directory}/base.parquet' ANTI JOIN '{directory}/dead.parquet' USING (_rid)
        UNION ALL SELECT {columns} FROM '{directory}/new.parquet'
    ) TO '{directory}/{OUTPUT}'
    (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 3, ROW_GROUP_SIZE {ROW_GROUP_ROWS})"""
    return {"compact": lambda: connection.execute(sql)}


def _delta(directory: Path) -> dict[str, Callable[[], object]]:
    target = DeltaTable(directory / "delta")
    changed = pq.read_table(directory / "changed.parquet")

    def change() -> object:
        merging = target.merge(
            changed, "t.order_id = s.order_id", source_alias="s", target_alias="t", writer_properties=PROPERTIES
        )
        return merging.when_matched_update_all().when_not_matched_insert_all().execute()

    return {"change": change, "compact": lambda: target.optimize.compact(writer_properties=PROPERTIES)}


_OPENERS = {OURS: _ours, DUCK: _duck, DELTA: _delta}


def _main(contestant: str, directory: Path) -> None:
    steps = _OPENERS[contestant](directory)
    print("ready", flush=True)
    for line in sys.stdin:
        begin = time.perf_counter()
        steps[line.strip()]()
        print(time.perf_counter() - begin, flush=True)


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]))
