"""`flightserver buckets`: list the buckets of a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from flightserver.cli.connecting import add_address, open_client
from flightserver.cli.rendering import output_console, rich_table

if TYPE_CHECKING:
    import argparse

_COLUMNS = ("name", "backend", "url", "datasets")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the flags."""
    parser.add_argument("verb", choices=["list"], help="what to do")
    add_address(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print one row a bucket."""
    with open_client(arguments) as client:
        buckets = client.call("bucket.list")["buckets"]
    output_console().print(rich_table(pa.table({name: [bucket[name] for bucket in buckets] for name in _COLUMNS})))
    return 0
