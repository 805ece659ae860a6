"""A server in a process of its own, which can be stopped and killed at any moment."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

_READY = re.compile(r"flightserver ready: (grpc(?:\+tls)?://\S+) (https?://\S+)\n")


class ServerProcess:
    """`flightserver serve` over a data directory, on free ports; ready when made, killed when a test forgets it.

    Attributes:
        data: What it serves.
        uri: Where it listens.
        web: Where its pages are.
        process: What runs it.
        pid: Its process.
    """

    def __init__(self, data: Path, *options: str, environment: Mapping[str, str] | None = None) -> None:
        self.data = data
        # A file: a pipe that nobody reads would stop the server when the log has filled it.
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  # closed with this object
        command = [sys.executable, "-m", "flightserver.cli.main", "serve", "--data", str(data)]
        self.process = subprocess.Popen(  # our own command
            [*command, "--port", "0", "--http-port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        ready = _READY.fullmatch(line)
        if not ready:
            message = f"the server did not start: {line}{self.stop()[1]}"
            raise AssertionError(message)
        self.uri, self.web = ready.groups()
        self.pid = self.process.pid

    def kill(self) -> None:
        """SIGKILL: no handler, no flush, no goodbye."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Ask it to stop; returns its exit status and what it wrote to stderr."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.finish()

    def finish(self) -> tuple[int, str]:
        """Wait for its end; returns its exit status and what it wrote to stderr."""
        self.process.communicate(timeout=30)
        self._log.seek(0)
        return self.process.returncode, self._log.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.kill()
        self._log.close()
