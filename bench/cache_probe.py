"""Holds datasets in the cache of a fresh process: `python -m bench.cache_probe DATA NAME...`.

Prints JSON: bytes and seconds to load of each, and by how many bytes the process has grown.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import psutil
import pyarrow as pa

from bench.inprocess import opened, rows


def main(data: Path, names: list[str]) -> dict[str, object]:
    """Open, warm up, pin."""
    with opened(data, cached=True) as lakehouse:
        for name in names:
            rows(lakehouse, f"SELECT * FROM {name} LIMIT 1")
        before = _resident()
        seconds = {}
        for name in names:
            begin = time.perf_counter()
            lakehouse.cache.pin(lakehouse.catalog.snapshot().dataset(name))
            seconds[name] = time.perf_counter() - begin
        growth = _resident() - before
        held = {entry.key.name: entry.bytes for entry in lakehouse.cache.entries()}
    return {"bytes": held, "seconds": seconds, "growth": growth}


def _resident() -> int:
    """Resident bytes, without what Arrow's allocator merely hasn't given back yet."""
    pa.default_memory_pool().release_unused()
    return int(psutil.Process().memory_info().rss)


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2:])))
