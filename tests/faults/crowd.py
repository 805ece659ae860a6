"""Many clients of one server in a process of their own: `python crowd.py MODE URI COUNT FIRST`.

Each client is a thread with a connection of its own. All connect, then the process prints `ready`, and when it is told
so by a line on standard input, all do their work at once. MODE `ask` prints what became of each client as JSON. MODE
`hold` begins a stream per client, reads its first batch, prints `ready` and waits to be killed.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.flight as fl

SHORT = "SELECT count(*) AS n FROM numbers"
LARGE = "SELECT a.n, repeat('x', 90) AS text FROM numbers a"
ROWS = 100_000
"""Of `numbers`: a large answer has some 10 MB."""

LARGE_EVERY = 10

_CODE = re.compile(r"\[(FS-\d{4})\]")
_OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]
"""Channels of a process that lead to the same address would share a connection."""


def outcome(client: Any, number: int) -> str:
    """`ok` when the answer is right, a stable code, or what else happened."""
    large = number % LARGE_EVERY == 0
    try:
        info = client.get_flight_info(fl.FlightDescriptor.for_command(json.dumps({"sql": LARGE if large else SHORT})))
        table = client.do_get(info.endpoints[0].ticket).read_all()
    except pa.ArrowException as error:
        code = _CODE.search(str(error))
        return code[1] if code else f"{type(error).__name__}: {error}"
    return "ok" if (table.num_rows == ROWS if large else table.column("n").to_pylist() == [ROWS]) else "wrong answer"


def ask(uri: str, count: int, first: int) -> None:
    """All clients ask at once, when told so."""
    clients = [fl.connect(uri, generic_options=_OWN_CONNECTION) for _ in range(count)]
    outcomes: list[str] = []
    begin = threading.Event()

    def work(number: int) -> None:
        begin.wait()
        outcomes.append(outcome(clients[number], first + number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    _ready()
    begin.set()
    for thread in threads:
        thread.join()
    print(json.dumps(Counter(outcomes)), flush=True)  # noqa: T201  # for the test


def hold(uri: str, count: int) -> None:
    """All clients are in the middle of a stream, for ever."""
    held = []
    for _ in range(count):
        client = fl.connect(uri, generic_options=_OWN_CONNECTION)
        info = client.get_flight_info(fl.FlightDescriptor.for_command(json.dumps({"sql": LARGE})))
        reader = client.do_get(info.endpoints[0].ticket)
        reader.read_chunk()
        held.append((client, reader))
    _ready()


def _ready() -> None:
    print("ready", flush=True)  # noqa: T201  # for the test
    sys.stdin.readline()


if __name__ == "__main__":
    mode, uri, count, first = sys.argv[1:]
    if mode == "ask":
        ask(uri, int(count), int(first))
    else:
        hold(uri, int(count))
