"""A client that asks small questions: `python -m bench.asking URI SECONDS THREADS KEYS SQL [bound]`.

Each thread has a connection of its own and asks one question after the other by ADBC. In SQL, `{key}` is replaced by
the key of another order each time, one of the first KEYS; with `bound`, the key is bound to the statement's only
placeholder in place of that. The program connects, asks each connection's first questions unmeasured and says `ready`.
For every line that it is sent it asks for SECONDS and prints all latencies, in microseconds, as a JSON list.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, Self

import adbc_driver_flightsql.dbapi as flightsql

from bench.data import order_key
from bench.servers import ROOT

_UNMEASURED = 20
_STRIDE = 7919
"""A prime: stepping by it visits all keys, far from each other, the same in every run."""

_MAX_PROCESSES = 4
"""Client processes; more threads share them, so that the clients' own interpreter lock isn't what is measured."""


@dataclass(frozen=True, slots=True)
class Question:
    """A statement; `keys` is how many orders there are to look up, `bound` whether the key is a parameter."""

    sql: str
    keys: int
    bound: bool = False

    def arguments(self) -> list[str]:
        """Of the client program."""
        return [str(self.keys), self.sql, *(["bound"] if self.bound else [])]


class Clients:
    """Client processes that stay connected to one server and ask one question, a round at a time."""

    def __init__(self, uri: str, question: Question, connections: int, seconds: float) -> None:
        count = min(connections, _MAX_PROCESSES)
        program = [sys.executable, "-m", "bench.asking", uri, str(seconds), str(connections // count)]
        self._processes = [
            subprocess.Popen(
                [*program, *question.arguments()], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            for _ in range(count)
        ]
        for process in self._processes:
            assert _line(process) == "ready\n"

    def round(self) -> list[int]:
        """Latencies in microseconds of one round of all connections at once."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return [latency for process in self._processes for latency in json.loads(_line(process))]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.communicate()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


class _Asker:
    """One connection; keys begin at another place for each."""

    def __init__(self, uri: str, question: Question, place: int) -> None:
        self._connection: Any = flightsql.connect(uri, autocommit=True)
        self._question = question
        self._number = place * 104_729 + 1
        self._latencies: list[int] = []

    def once(self) -> int:
        """Ask; nanoseconds from the question to the last row."""
        self._number = (self._number + _STRIDE) % self._question.keys
        key = order_key(self._number + 1)
        begin = time.perf_counter_ns()
        with self._connection.cursor() as cursor:
            if self._question.bound:
                cursor.execute(self._question.sql, (key,))
            else:
                cursor.execute(self._question.sql.replace("{key}", str(key)))
            rows = cursor.fetch_arrow_table().num_rows
        taken = time.perf_counter_ns() - begin
        assert rows == 1
        return taken

    def ask_until(self, deadline: float) -> None:
        """Ask again and again."""
        while time.monotonic() < deadline:
            self._latencies.append(self.once() // 1000)

    def taken(self) -> list[int]:
        """Latencies since the last call, in microseconds."""
        taken, self._latencies = self._latencies, []
        return taken

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def _main(uri: str, seconds: float, threads: int, question: Question) -> None:
    askers = [_Asker(uri, question, place) for place in range(threads)]
    for asker in askers:
        for _ in range(_UNMEASURED):
            asker.once()
    print("ready", flush=True)
    for _ in sys.stdin:
        deadline = time.monotonic() + seconds
        running = [threading.Thread(target=asker.ask_until, args=(deadline,)) for asker in askers]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        print(json.dumps([latency for asker in askers for latency in asker.taken()]), flush=True)
    for asker in askers:
        asker.close()


if __name__ == "__main__":
    _, where, how_long, how_many, how_far, text, *how = sys.argv
    _main(where, float(how_long), int(how_many), Question(text, int(how_far), how == ["bound"]))
