"""A process that commits: `python committer.py ROOT NAME COUNT`, where a count of 0 is for ever.

It says `ready`, waits for a line, and then appends one row per commit to dataset `people`, telling
each commit that was acknowledged.
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

from flightserver.catalog.catalog import Catalog
from flightserver.catalog.entities import PRIMARY, Segment
from flightserver.catalog.log import Operation
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.updates import AppendSegments
from flightserver.storage.local import LocalObjects


def main(root: str, name: str, commits: int) -> None:
    """Commit and tell."""
    catalog = Catalog.open(LocalObjects(Path(root)), checkpoint_every=16, server=name)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    for number in count(1):
        operation = f"{name}-{number}"
        segment = Segment(operation, PRIMARY, f"datasets/people/{operation}", 1, number, 1, "f1")
        update = AppendSegments(PRIMARY, "people", (segment,))
        outcome = catalog.commit(Transaction(Operation(operation, "append", rows=number), (update,)))
        sys.stdout.write(f"{operation} {outcome.version}\n")
        sys.stdout.flush()
        if number == commits:
            break
    catalog.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
