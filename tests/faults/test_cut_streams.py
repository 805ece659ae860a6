"""A client that dies while it sends: nothing of half a stream is kept, whatever the stream is for.

gRPC shows the handler an end of the stream, as if all had been sent.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.flight as fl
import pytest

if TYPE_CHECKING:
    from conftest import RunningServer

DEATHS = 200 if os.environ.get("FLIGHTSERVER_TEST_THOROUGH") == "1" else 12
"""Of each kind of stream."""

PROGRAM = """
import sys
import time

import pyarrow as pa
import pyarrow.flight as fl

uri, command, is_path, sent = sys.argv[1:]
column = pa.array([b"x" * 1000] * 100) if "upload" in command else pa.array(range(1000))
batch = pa.record_batch({"a": column})
descriptor = fl.FlightDescriptor.for_path(command) if is_path == "1" else fl.FlightDescriptor.for_command(command)
writer, _ = fl.connect(uri).do_put(descriptor, batch.schema)
for _ in range(int(sent)):
    writer.write_batch(batch)
print("sent", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("command", "is_path"),
    [
        ("rows", True),
        ('{"ingest": "rows", "mode": "create"}', False),
        ('{"ingest": "rows", "mode": "upsert", "primary_key": ["a"]}', False),
        ('{"upload": "rows.bin"}', False),
    ],
    ids=["path", "create", "upsert", "upload"],
)
def test_nothing_of_half_a_stream_is_kept(server: RunningServer, tmp_path: Path, command: str, is_path: bool) -> None:  # noqa: FBT001  # a parameter of the test
    program = tmp_path / "sender.py"
    program.write_text(PROGRAM, encoding="utf-8")
    version = server.lakehouse.catalog.snapshot().version
    for number in range(DEATHS):
        arguments = [server.uri, command, "1" if is_path else "0", str(1 + number % 20)]
        sender = subprocess.Popen([sys.executable, str(program), *arguments], stdout=subprocess.PIPE)
        assert sender.stdout is not None
        assert sender.stdout.readline() == b"sent\n"
        sender.kill()
        sender.communicate()

    deadline = time.monotonic() + 60
    while len(outcomes(server)) < DEATHS and time.monotonic() < deadline:
        time.sleep(0.05)
    # pyarrow itself refuses a stream that ends before its first message, without our code.
    assert len(outcomes(server)) == DEATHS
    assert set(outcomes(server)) <= {"FS-4002", "other"}
    assert server.lakehouse.catalog.snapshot().version == version
    assert not [path for path in files(server) if path.suffix in {".parquet", ".bin"}]
    with fl.connect(server.uri) as client:
        assert list(client.list_flights()) == []


def outcomes(server: RunningServer) -> list[str]:
    """What came of the streams that have ended."""
    return [entry.outcome for entry in server.lakehouse.audit.entries() if entry.rpc == "DO_PUT"]


def files(server: RunningServer) -> list[Path]:
    """All files of the lakehouse."""
    data = Path(server.lakehouse.settings.server.data)
    return [path for path in data.rglob("*") if path.is_file()]
