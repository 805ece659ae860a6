"""`flightserver action`: call an action; each answer is one line of JSON, as the server sends it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from flightserver.cli.connecting import add_address, open_client
from flightserver.cli.values import json_object

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the flags."""
    parser.add_argument("type", metavar="TYPE", help="such as dataset.describe")
    parser.add_argument("body", metavar="JSON", nargs="?", type=json_object, default={}, help="a JSON object")
    add_address(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print every answer when it comes: `{"progress": {...}}`, and last `{"result": {...}}`."""
    with open_client(arguments) as client:
        for answer in client.action(arguments.type, arguments.body):
            print(json.dumps(answer, ensure_ascii=False), flush=True)  # noqa: T201  # what the command prints
    return 0
