"""`python -m bench`: run measurements and write their pages."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import nullcontext
from pathlib import Path

from bench import caching, catalogs, compaction, federation, latency, memory, merging, pages, throughput, tpch, vectors
from bench.context import FULL, QUICK, Context
from bench.measure import machine

MEASUREMENTS = {
    "throughput": throughput.measure,
    "latency": latency.measure,
    "memory": memory.measure,
    "catalog": catalogs.measure,
    "pages": pages.measure,
    "merging": merging.measure,
    "caching": caching.measure,
    "compaction": compaction.measure,
    "federation": federation.measure,
    "tpch": tpch.measure,
    "vectors": vectors.measure,
}


def main() -> None:
    """Read the arguments, run what they name."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which of {', '.join(MEASUREMENTS)}; all when left out")
    parser.add_argument("--quick", action="store_true", help="a tenth of the data, fewer repeats")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results", help="where pages go")
    parser.add_argument("--work", type=Path, help="keep data here, and use what is there; otherwise temporary")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(MEASUREMENTS)
    if unknown:
        parser.error(f"no measurement {', '.join(sorted(unknown))}: there are {', '.join(MEASUREMENTS)}")
    arguments.results.mkdir(parents=True, exist_ok=True)
    effort = QUICK if arguments.quick else FULL
    with nullcontext(arguments.work) if arguments.work else tempfile.TemporaryDirectory(prefix="bench-") as work:
        context = Context(Path(work) / effort.name, arguments.results, effort)
        context.work.mkdir(parents=True, exist_ok=True)
        print(machine())
        for name in arguments.names or MEASUREMENTS:
            page = MEASUREMENTS[name](context)
            page.write(arguments.results, effort.name)
            print(page.text())


if __name__ == "__main__":
    main()
