"""`flightserver doctor`: probe what the server depends on, and say what mends it."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from flightserver.cli.probe import Probe, State
from flightserver.cli.probes import probe_all
from flightserver.cli.rendering import output_console
from flightserver.settings import load_settings

if TYPE_CHECKING:
    import argparse

_STYLES = {State.OK: "green", State.WARNING: "yellow", State.FAILED: "bold red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the flags: those that say which lakehouse are those of `serve`."""
    parser.add_argument("--data", type=Path, metavar="DIR", help="the lakehouse (default: ./lakehouse)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings (default: ./flightserver.toml if there)")
    parser.add_argument("--json", action="store_true", help="one JSON object, for scripts")


def run(arguments: argparse.Namespace) -> int:
    """Print every probe; exit status 1 if the server can't work, or not with all of its buckets.

    Raises:
        InvalidRequest: The settings are not valid.
    """
    # What the log says of a failed request, its probe says.
    logging.getLogger("flightserver").addHandler(logging.NullHandler())
    server = {} if arguments.data is None else {"data": arguments.data}
    probes = list(probe_all(load_settings(arguments.config, {"server": server})))
    works = all(probe.state is not State.FAILED for probe in probes)
    if arguments.json:
        report = {"ok": works, "probes": [asdict(probe) for probe in probes]}
        print(json.dumps(report, indent=1))  # noqa: T201  # what the command prints
    else:
        _print(probes)
    return 0 if works else 1


def _print(probes: list[Probe]) -> None:
    console = output_console()
    table = Table(box=None, show_header=False, pad_edge=False)
    for probe in probes:
        table.add_row(Text(probe.state, style=_STYLES[probe.state]), Text(probe.name), Text(probe.detail))
    console.print(table)
    mends: dict[str, list[str]] = {}
    for probe in probes:
        if probe.mend:
            mends.setdefault(probe.mend, []).append(probe.name)
    for mend, names in mends.items():
        console.print(f"\n{', '.join(names)}:\n    {mend}", markup=False)
