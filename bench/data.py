"""TPC-H data, and a lakehouse that has ingested them."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pyarrow.flight as fl

from bench import servers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.context import Context
    from bench.servers import Server

TABLES = ("lineitem", "orders")


def parquet(context: Context, table: str) -> Path:
    """The file of one table, by the generator with its own settings."""
    directory = context.work / "tpch"
    path = directory / f"{table}.parquet"
    if not path.exists():
        command = [servers.script("tpchgen-cli"), "parquet", "--quiet", "--scale-factor", str(context.effort.scale)]
        subprocess.run([*command, "--tables", table, "--output-dir", str(directory)], check=True)
    return path


def lakehouse(context: Context, name: str = "lakehouse", tables: Sequence[str] = TABLES) -> Path:
    """Data directory of a lakehouse with the tables, each one segment, loaded by `ingest.file`."""
    data = context.work / name
    if data.exists():
        return data
    files = {table: parquet(context, table) for table in tables}
    roots = {path.parent for path in files.values()}
    with servers.lakehouse(context.work, data, tuple(roots)) as server:
        for table, path in files.items():
            act(server, "ingest.file", source=str(path), dataset=table)
    return data


def segment(data: Path, table: str) -> Path:
    """The directory of a table's only segment: our Parquet files."""
    [directory] = [path for path in (data / "primary" / "datasets" / table).iterdir() if path.is_dir()]
    return directory


def act(server: Server, action: str, **body: object) -> dict[str, object]:
    """Run an action and return its last result."""
    with fl.connect(server.uri) as client:
        results = list(client.do_action(fl.Action(action, json.dumps(body).encode())))
    last: dict[str, object] = json.loads(results[-1].body.to_pybytes())["result"]
    return last


def order_key(number: int) -> int:
    """The key of the order with that number, from 1: TPC-H uses 8 of every 32 keys (clause 4.2.3)."""
    return (number >> 3) << 5 | (number & 7)


def orders(context: Context) -> int:
    """How many orders there are at this scale."""
    return int(1_500_000 * context.effort.scale)
