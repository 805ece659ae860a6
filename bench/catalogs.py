"""What a large catalog costs: opening it, and planning a query on one of its datasets."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from bench import plots
from bench.catalog_probe import QUERIES
from bench.measure import MB, Page, median, percentile, table
from bench.servers import ROOT
from flightserver.catalog.entities import PRIMARY
from flightserver.catalog.log import Operation
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.ulid import new_ulid
from flightserver.catalog.updates import CreateDataset
from flightserver.lakehouse import Lakehouse
from flightserver.settings import load_settings
from flightserver.tables.writes import Mode, WriteRequest

if TYPE_CHECKING:
    from pathlib import Path

    from bench.context import Context

PEER_DATASETS = 10
LIMIT_SECONDS = 3.0
ROWS = 1000
HEADERS = (
    "",
    "open ms",
    "first plan p50 ms",
    "plan p50 ms",
    "over the peer's",
    "plan p99 ms",
    "query p50 ms",
    "over the peer's",
    "RSS MB",
)
GROUP = 100
"""Datasets a commit: a catalog of 10,000 has then a hundred commits, one checkpoint and a tail to replay."""

INTRODUCTION = """Two lakehouses with {small:,} and {large:,} datasets, made by commits of {group} datasets each; the \
datasets differ in name and id and share the files of one, since planning asks for no others. Each round opens both in \
fresh processes (imports are not counted), plans and runs `SELECT name FROM d... WHERE id = ...` once on each of ten \
datasets ("first"), and then {queries} times on the same ten in turn. Medians of {repeats} rounds; the peer is the \
lakehouse of {small}."""


def measure(context: Context) -> Page:
    """Open and query both in turn."""
    sizes = (PEER_DATASETS, context.effort.datasets)
    lakes = {size: _catalog(context.work / f"catalog-{size}", size) for size in sizes}
    rounds: dict[int, list[dict[str, Any]]] = {size: [] for size in sizes}
    for _ in range(context.effort.repeats):
        for size, lake in lakes.items():
            rounds[size].append(_probe(lake, size))
    return _page(context, rounds)


def _catalog(data: Path, datasets: int) -> Path:
    """A lakehouse of that many datasets."""
    if data.exists():
        return data
    rows = pa.record_batch({"id": range(ROWS), "name": [f"name {number}" for number in range(ROWS)]})
    with Lakehouse.open(load_settings(None, {"server": {"data": data}})) as lakehouse:
        request = WriteRequest(
            name="d00000",
            bucket=PRIMARY,
            mode=Mode.CREATE,
            schema=rows.schema,
            operation=Operation(id=new_ulid(), kind="bench"),
            lineage_system="arrow",
            lineage_source="bench",
        )
        lakehouse.tables.write(request, [rows])
        first = lakehouse.catalog.snapshot().dataset("d00000")
        for begin in range(1, datasets, GROUP):
            updates = tuple(
                CreateDataset(msgspec.structs.replace(first, id=new_ulid(), name=f"d{number:05}"))
                for number in range(begin, min(begin + GROUP, datasets))
            )
            lakehouse.catalog.commit(Transaction(Operation(id=new_ulid(), kind="bench"), updates))
    return data


def _probe(lake: Path, datasets: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.catalog_probe", str(lake), str(datasets)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE).stdout)
    assert found["datasets"] == datasets
    return found


def _page(context: Context, rounds: dict[int, list[dict[str, Any]]]) -> Page:
    def milliseconds(size: int, what: str, percent: int = 50) -> float:
        return median([percentile(each[what], percent) for each in rounds[size]]) / 1000

    opening = {size: median([each["open"] for each in found]) for size, found in rounds.items()}
    cells = [
        (
            f"{size:,} datasets",
            f"{opening[size] * 1000:,.0f}",
            f"{milliseconds(size, 'first_plans'):.3f}",
            f"{milliseconds(size, 'plans'):.3f}",
            f"{milliseconds(size, 'plans') / milliseconds(PEER_DATASETS, 'plans'):.2f}",
            f"{milliseconds(size, 'plans', 99):.3f}",
            f"{milliseconds(size, 'queries'):.3f}",
            f"{milliseconds(size, 'queries') / milliseconds(PEER_DATASETS, 'queries'):.2f}",
            f"{median([each['rss'] for each in found]) / MB:,.0f}",
        )
        for size, found in rounds.items()
    ]
    large = context.effort.datasets
    verdict = "holds" if opening[large] < LIMIT_SECONDS else "DOES NOT HOLD"
    page = Page("catalog", "A large catalog")
    page.add(
        INTRODUCTION.format(
            small=PEER_DATASETS, large=large, group=GROUP, queries=QUERIES, repeats=context.effort.repeats
        ),
        table(HEADERS, cells),
        f"Opening {large:,} datasets takes less than {LIMIT_SECONDS:g} s: {verdict}.",
        plots.bars(
            context.results / "catalog.png",
            "Planning a query",
            "ms (median)",
            {f"{size:,} datasets": milliseconds(size, "plans") for size in rounds},
        ),
    )
    return page
