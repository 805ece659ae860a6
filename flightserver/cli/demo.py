"""`flightserver demo`: load real data, serve it, and show queries through real clients.

Everything goes the way that a user's data and queries go: files are uploaded over the wire, and the snippets connect to
the server by its address. The command succeeds only if every figure is what other tools computed from the same files.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

import flightclient
from flightserver.cli.demo_steps import Step, steps
from flightserver.cli.demo_tables import FIGURES, FIGURES_SQL, OPTIONS, TABLES, DemoTable, data_directory
from flightserver.cli.process import Server, StopSignals, end_process
from flightserver.cli.progress import file_bar
from flightserver.cli.rendering import rich_table
from flightserver.cli.version import VERSION
from flightserver.settings import ServerSettings, load_settings
from flightserver.telemetry import configure_logging

if TYPE_CHECKING:
    import argparse

_DATA = Path("lakehouse-demo")
_HOST = "127.0.0.1"
_WIDTH = 120
"""Of output that goes to no terminal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the flags."""
    parser.add_argument("--once", action="store_true", help="end after the queries instead of serving until Ctrl-C")
    parser.add_argument("--data", type=Path, default=_DATA, metavar="DIR", help="the lakehouse (default: ./%(default)s)")
    parser.add_argument("--port", type=int, metavar="P", help="Flight port (default: 31337, or a free one)")
    parser.add_argument("--http-port", type=int, metavar="W", help="status page (default: 31338, or a free one)")


def run(arguments: argparse.Namespace) -> int:
    """Show everything; exit status 1 if a figure is wrong.

    Raises:
        NotFound: The demo's extra is not installed.
        InvalidRequest: A port is taken.
        BackendUnavailable: The data directory can't be used.
    """
    files = data_directory()
    configure_logging(json_lines=False, level="WARNING")
    usual = ServerSettings()
    port = _free_port(usual.port) if arguments.port is None else arguments.port
    http_port = _free_port(usual.http_port) if arguments.http_port is None else arguments.http_port
    flags = {"data": arguments.data, "host": _HOST, "port": port, "http_port": http_port}
    console = _console()
    with Server.start(load_settings(None, {"server": flags})) as server:
        console.print(f"[bold]flightserver {VERSION}[/] serves {arguments.data} on {server.uri}")
        with flightclient.connect(server.uri) as client:
            wrong = load(console, client, files, server.uri)
        for number, step in enumerate(steps(server.uri, str(files / TABLES[-1].file)), start=1):
            wrong += show(console, number, step)
        conclude(console, wrong, server)
        if not arguments.once:
            StopSignals().wait()
    ...
    return 1 if wrong else 0
