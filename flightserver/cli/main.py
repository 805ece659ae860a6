"""The command `flightserver`: finds the module of the command that was given, and makes errors readable.

Each command is a module of this package with `add_arguments(parser)` and `run(arguments) -> exit status`. Only the
modules of commands that were named are imported, because the server takes most of a second to import and the demo needs
an extra that may not be installed.

Exit statuses: 0 when the command did what was asked, 1 when it could not, with one line `error: ...` on standard error,
2 when it was not understood, and 130, as shells have it, after Ctrl-C.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import TYPE_CHECKING

from flightclient.errors import FlightclientError

from flightserver.cli.version import VERSION
from flightserver.errors import FlightserverError

if TYPE_CHECKING:
    from collections.abc import Sequence

_PACKAGE = "flightserver.cli"
_FAILED = 1
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    Args:
        argv: Arguments after the command's own name; those of this process if None.
    """
    given = sys.argv[1:] if argv is None else list(argv)
    arguments = _parser(given).parse_args(given)
    try:
        status: int = importlib.import_module(arguments.module).run(arguments)
        sys.stdout.flush()
    except FlightserverError as error:
        return _fail(f"{error.message} [{error.code}]")
    except FlightclientError as error:
        return _fail(str(error))
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter would fail once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED
    return status


def _fail(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201  # what a command prints
    return _FAILED


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="flightserver", description="A lakehouse that speaks Arrow Flight SQL.")
    parser.add_argument("--version", action="version", version=f"flightserver {VERSION}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    summaries = {
        commands.add_parser("serve", help="run the server in the foreground"): "serve",
        commands.add_parser("demo", help="load real data, serve it, and show queries through real clients"): "demo",
        commands.add_parser("doctor", help="probe what the server depends on, and say what mends it"): "doctor",
        commands.add_parser("query", help="run one statement and print its rows"): "query",
        commands.add_parser("ingest", help="upload a file into a dataset"): "ingest",
        commands.add_parser("action", help="call an action; each answer is one line of JSON"): "action",
        commands.add_parser("buckets", help="list, create, check, change and drop buckets"): "buckets",
        commands.add_parser("indexes", help="list, create, refresh, move and drop vector indexes"): "indexes",
        commands.add_parser("users", help="make, change and forget users and their tokens"): "users",
        commands.add_parser("roles", help="make roles, and grant them privileges"): "roles",
        commands.add_parser("policies", help="hide rows and values from some roles"): "policies",
    }
    for command, name in summaries.items():
        command.set_defaults(module=f"{_PACKAGE}.{name}")
        if name in given:
            module = importlib.import_module(f"{_PACKAGE}.{name}")
            command.description = _description(module.__doc__ or "")
            module.add_arguments(command)
    return parser


def _description(docstring: str) -> str:
    """What stands behind the command's name in the first sentence of its module."""
    first = docstring.split("\n", 1)[0].partition(": ")[2]
    return first[:1].upper() + first[1:]


if __name__ == "__main__":
    sys.exit(main())
