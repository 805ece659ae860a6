"""Servers as processes of their own, on free loopback ports, stopped by their own pid."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import sysconfig
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).parents[1]
LOOPBACK = "127.0.0.1"
_START_SECONDS = 120.0
_STOP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server that listens."""

    name: str
    uri: str
    pid: int


def script(name: str) -> str:
    """A command that pip installed beside this Python."""
    return str(Path(sysconfig.get_path("scripts")) / name)


def free_port() -> int:
    """A port that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@contextmanager
def lakehouse(work: Path, data: Path, roots: Sequence[Path] = (), *, cached: bool = False) -> Iterator[Server]:
    """Our server over the lakehouse in `data`, with its default settings but for the cache.

    Args:
        work: Where its log goes.
        data: Its data directory.
        roots: From where it may ingest.
        cached: Whether it may hold datasets in memory; without, every statement reads files.
    """
    port = free_port()
    command = [script("flightserver"), "serve", "--data", str(data), "--port", str(port)]
    command += ["--http-port", str(free_port())]
    environment = {"FLIGHTSERVER_INGEST_ROOTS": os.pathsep.join(map(str, roots))} if roots else {}
    if not cached:
        environment["FLIGHTSERVER_CACHE_MAX_BYTES"] = "0"
    with _running("flightserver", command, port, work, environment) as server:
        yield server


@contextmanager
def raw_flight(work: Path, parquet: Path) -> Iterator[Server]:
    """pyarrow.flight with the table of a Parquet file in memory: the least that a Flight server does."""
    port = free_port()
    command = [sys.executable, "-m", "bench.raw_flight", str(port), str(parquet)]
    with _running("pyarrow.flight", command, port, work) as server:
        yield server


@contextmanager
def roapi(work: Path, tables: Mapping[str, Path], *, memory: bool = False) -> Iterator[Server]:
    """ROAPI's Flight SQL server over Parquet files or directories of them.

    Args:
        work: Where its configuration and log go.
        tables: Name -> file or directory.
        memory: Whether tables are loaded into memory, which is its default, or read for every query.
    """
    port = free_port()
    lines = ["addr:", f"  http: {LOOPBACK}:{free_port()}", f"  postgres: {LOOPBACK}:{free_port()}"]
    lines += [f"  flight_sql: {LOOPBACK}:{port}", "tables:"]
    for name, path in tables.items():
        uri = f"{path}/" if path.is_dir() else str(path)
        lines += [f"  - name: {name}", f"    uri: {uri}"]
        lines += [f"    option: {{format: parquet, use_memory_table: {str(memory).lower()}}}"]
    config = work / f"roapi-{port}.yml"
    config.write_text("\n".join(lines), encoding="utf-8")
    # At its default level it logs several lines a statement.
    with _running("ROAPI", [script("roapi"), "-c", str(config)], port, work, {"RUST_LOG": "error"}) as server:
        yield server


@contextmanager
def _running(
    name: str, command: Sequence[str], port: int, work: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    log = work / f"{name}-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=output, env={**os.environ, **(environment or {})}
        )
    try:
        _wait(process, port, log)
        yield Server(name, f"grpc://{LOOPBACK}:{port}", process.pid)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Return when the port takes connections; every server here has loaded its data by then."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended at once: {log.read_text(encoding='utf-8', errors='replace')}")
        with socket.socket() as probe:
            if probe.connect_ex((LOOPBACK, port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"no server on port {port} after {_START_SECONDS} seconds; see {log}")
