"""`flightserver ingest`: upload a file into a dataset."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from flightserver.cli.connecting import add_address, open_client
from flightserver.cli.progress import file_bar
from flightserver.cli.values import bucket_name, json_value

_MODES = ("create", "append", "replace", "create_append", "upsert")
_LISTS = ("null_values", "column_names")
"""Options that have several values: each `--option` of that name adds one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the flags."""
    parser.add_argument("file", metavar="FILE", type=Path, help="CSV, JSON, Parquet or Arrow; compressed or not")
    parser.add_argument("--dataset", required=True, metavar="D", help="where its rows go")
    parser.add_argument("--bucket", metavar="B", type=bucket_name, help="bucket of the dataset (default: primary)")
    parser.add_argument("--mode", choices=_MODES, default="create", help="(default: create)")
    parser.add_argument("--format", metavar="F", help="of the file (default: found out)")
    parser.add_argument(
        "--option",
        action="append",
        type=_option,
        default=[],
        metavar="K=V",
        help="what is known of the file, such as delimiter=';' or null_values=NA; may be repeated; V may be JSON",
    )
    parser.add_argument("--evolve", action="store_true", help="an append may add columns and widen types")
    add_address(parser)


def run(arguments: argparse.Namespace) -> int:
    """Upload and ingest, and say what was written."""
    with open_client(arguments, arguments.bucket) as client, file_bar(arguments.file.name) as progress:
        result = client.ingest_file(
            arguments.file,
            arguments.dataset,
            arguments.mode,
            _options(arguments.option),
            file_format=arguments.format,
            evolve=arguments.evolve,
            progress=progress,
        )
    place = f"{result.dataset} in bucket {result.bucket}, version {result.version}"
    written = f"{result.rows:,} rows, {result.bytes:,} bytes in {result.files} file{'' if result.files == 1 else 's'}"
    told = "these bytes were there already, nothing to do" if result.unchanged else written
    print(f"{place}: {told}")  # noqa: T201  # what the command prints
    return 0


def _option(text: str) -> tuple[str, Any]:
    name, given, value = text.partition("=")
    if not given or not name:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, found {text!r}")
    if value in {"true", "false"} or value[:1] in {"[", "{"}:
        return name, json_value(value)
    return name, value.replace("\\t", "\t")


def _options(given: list[tuple[str, Any]]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in given:
        if name in _LISTS and isinstance(value, str):
            options.setdefault(name, []).append(value)
        else:
            options[name] = value
    return options
