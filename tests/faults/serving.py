"""A server in a process of its own, which can be killed at any moment."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_READY = re.compile(r"flightserver ready: (grpc://\S+) (http://\S+)")


class ServerProcess:
    """`flightserver serve` over a data directory, on free ports; ready when made.

    Attributes:
        data: What it serves.
        uri: Where it listens.
        pid: Its process.
    """

    def __init__(self, data: Path, *options: str) -> None:
        self.data = data
        # A file: a pipe that nobody reads would stop the server when the log has filled it.
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  # closed with this object
        command = [sys.executable, "-m", "flightserver.cli.main", "serve", "--data", str(data)]
        self._process = subprocess.Popen(  # our own command
            [*command, "--port", "0", "--http-port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found = _READY.search(line)
            if found:
                self.uri, self.web = found[1], found[2]
                break
        else:
            message = f"the server did not start: {self.stop()[1]}"
            raise AssertionError(message)
        self.pid = self._process.pid

    def kill(self) -> None:
        """SIGKILL: no handler, no flush, no goodbye."""
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Ask it to stop; returns its exit status and what it wrote to stderr."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        self._process.communicate(timeout=30)
        self._log.seek(0)
        return self._process.returncode, self._log.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.kill()
        self._log.close()
