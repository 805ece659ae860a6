"""Opens a lakehouse in a fresh process and plans queries: `python -m bench.catalog_probe DATA DATASETS`.

Prints JSON: seconds of `Lakehouse.open`, microseconds of plans and of queries, and how many datasets there are.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import psutil

from flightserver.access.rights import UNRESTRICTED
from flightserver.lakehouse import Lakehouse
from flightserver.query.request import Request
from flightserver.settings import load_settings

QUERIES = 300
NAMES = 10


def main(data: Path, datasets: int) -> dict[str, object]:
    """Open, plan, query."""
    begin = time.perf_counter()
    lakehouse = Lakehouse.open(load_settings(None, {"server": {"data": data}}))
    opened = time.perf_counter() - begin
    with lakehouse:
        names = [f"d{place * datasets // NAMES:05}" for place in range(NAMES)]
        timed = [_timed(lakehouse, names[number % NAMES], number) for number in range(NAMES + QUERIES)]
        found = len(lakehouse.catalog.snapshot().datasets)
    return {
        "open": opened,
        "first_plans": [plan for plan, _ in timed[:NAMES]],
        "plans": [plan for plan, _ in timed[NAMES:]],
        "queries": [query for _, query in timed[NAMES:]],
        "datasets": found,
        "rss": psutil.Process().memory_info().rss,
    }


def _timed(lakehouse: Lakehouse, name: str, key: int) -> tuple[float, float]:
    """Microseconds to plan, and to plan and run, one query."""
    begin = time.perf_counter()
    planned = lakehouse.queries.plan(Request(rights=UNRESTRICTED, sql=f"SELECT name FROM {name} WHERE id = {key}"))
    middle = time.perf_counter()
    rows = sum(batch.num_rows for batch in lakehouse.queries.stream(planned))
    end = time.perf_counter()
    assert rows == 1
    return (middle - begin) * 1e6, (end - begin) * 1e6


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
