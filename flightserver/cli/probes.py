"""What `flightserver doctor` looks at.

Each probe says what it found and, if that is not well, the command that mends it. A probe changes nothing that stays:
the one of the disk writes a file and removes it, and those of buckets do so with an object.
"""

from __future__ import annotations

import errno
import importlib
import os
import platform
import re
import shutil
import socket
import tempfile
import time
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING

import psutil

from flightserver.cli.probe import Probe, State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flightserver.settings import ServerSettings, Settings

_GIB = 1 << 30
_MIN_PYTHON = (3, 11)
_LITTLE_DISK = 5 * _GIB
_LITTLE_MEMORY = 1 * _GIB
_SLOW_FSYNC_SECONDS = 0.1
"""A disk with a write cache takes below 20 ms; a commit makes a handful of them."""

_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?:\[.*?\])?\s*(?P<bounds>[^;]*)(?:;.*extra == ['\"](?P<extra>\w+)['\"])?")
_BOUND = re.compile(r"(?P<operator>>=|<)\s*(?P<version>[\d.]+)")


def probe_all(settings: Settings) -> Iterator[Probe]:
    """Run every probe, one after the other."""
    yield _python()
    yield from _dependencies()
    yield from _disk(settings.server.data)
    yield _memory()
    yield from _buckets(settings)
    yield from _ports(settings.server)


def _python() -> Probe:
    found = platform.python_version()
    if tuple(map(int, found.split(".")[:2])) >= _MIN_PYTHON:
        return Probe("python", State.OK, found)
    wanted = ".".join(map(str, _MIN_PYTHON))
    return Probe("python", State.FAILED, f"{found}; {wanted} or newer is needed", f"uv python install {wanted}")


def _dependencies() -> Iterator[Probe]:
    """Everything that the package requires, and that its extras do: those are worth a warning only."""
    seen = set()
    for text in requires("flightserver") or []:
        match = _REQUIREMENT.match(text)
        if match is not None and match["name"] not in seen:
            seen.add(match["name"])
            yield _dependency(match["name"], match["bounds"].strip(" ()"), match["extra"])


def _dependency(name: str, bounds: str, extra: str | None) -> Probe:
    state = State.FAILED if extra is None else State.WARNING
    mend = f"pip install '{name}{bounds}'" if extra is None else f"pip install 'flightserver[{extra}]'"
    purpose = "" if extra is None else f", only for the extra {extra!r}"
    try:
        found = version(name)
    except PackageNotFoundError:
        return Probe(name, state, f"not installed{purpose}", mend)
    if _within(found, bounds):
        return Probe(name, State.OK, found)
    return Probe(name, state, f"{found}; {bounds} is needed{purpose}", mend)


def _within(found: str, bounds: str) -> bool:
    """Whether a version is within bounds such as `>=54.1,<55`; compares the numbers before any suffix."""
    numbers = _numbers(found)
    for bound in _BOUND.finditer(bounds):
        limit = _numbers(bound["version"])
        if (numbers >= limit) is not (bound["operator"] == ">="):
            return False
    return True


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[^\d.]", text, maxsplit=1)[0]))


def _disk(data: Path) -> Iterator[Probe]:
    place = next(path for path in (data, *data.resolve().parents) if path.is_dir())
    free = shutil.disk_usage(place).free
    mend = "free some space, or: flightserver serve --data DIR on another disk"
    little = State.WARNING if free < _LITTLE_DISK else State.OK
    yield Probe("disk space", little, f"{free / _GIB:,.1f} GiB free", mend if little is State.WARNING else "")
    yield _fsync(place)


def _fsync(place: Path) -> Probe:
    """Durability needs fsync of a file and of its directory, which some network and overlay file systems lack."""
    began = time.monotonic()
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".flightserver-doctor-") as file:
            file.write(b"probe")
            file.flush()
            os.fsync(file.fileno())
            directory = os.open(place, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
    except OSError as error:
        mend = "flightserver serve --data DIR in a writable directory of a local file system"
        return Probe("durable writes", State.FAILED, f"{place.name}: {error.strerror}", mend)
    seconds = time.monotonic() - began
    slow = seconds > _SLOW_FSYNC_SECONDS
    mend = "flightserver serve --data DIR on a faster disk" if slow else ""
    return Probe("durable writes", State.WARNING if slow else State.OK, f"fsync took {seconds * 1000:,.1f} ms", mend)


def _memory() -> Probe:
    available = psutil.virtual_memory().available
    found = f"{available / _GIB:,.1f} GiB available"
    if available >= _LITTLE_MEMORY:
        return Probe("memory", State.OK, found)
    return Probe("memory", State.WARNING, found, "end other programs, or set FLIGHTSERVER_QUERY_MEMORY_BYTES")


def _buckets(settings: Settings) -> Iterator[Probe]:
    """What lies in buckets. What that takes is imported only now: when it is missing, a probe has said so already."""
    try:
        bucket_probes = importlib.import_module("flightserver.cli.bucket_probes")
    except ImportError:
        return
    yield from bucket_probes.probe_buckets(settings)


def _ports(server: ServerSettings) -> Iterator[Probe]:
    for name, port, flag in (("port", server.port, "--port"), ("http port", server.http_port, "--http-port")):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError as error:
            taken = "in use, perhaps by a flightserver that runs" if error.errno == errno.EADDRINUSE else error.strerror
            yield Probe(name, State.WARNING, f"{port}: {taken}", f"flightserver serve {flag} 0")
        else:
            yield Probe(name, State.OK, f"{port} is free")
