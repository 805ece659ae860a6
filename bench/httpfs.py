"""DuckDB with its own reader of S3, the extension httpfs, in a process of its own.

PyPI has the extension for DuckDB 1.5.5 and not for the one that is measured elsewhere, so `uv` runs that version beside
it. The process answers one question a line, as Arrow, and keeps the answer; only what is compared is handed over.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
from uv import find_uv_bin

if TYPE_CHECKING:
    from types import TracebackType

VERSION = "1.5.5"


class HttpfsDuck:
    """DuckDB with httpfs over one Parquet file, as the view `orders`.

    Args:
        work: Where answers are handed over.
        threads: Of DuckDB.
        endpoint: Host and port of the S3 server, without TLS.
        keys: Access key and secret.
        url: `s3://...` of the file.
    """

    def __init__(self, work: Path, threads: int, endpoint: str, keys: tuple[str, str], url: str) -> None:
        self._answer = work / "httpfs.arrow"
        packages = (f"duckdb=={VERSION}", f"duckdb-extension-httpfs=={VERSION}", f"pyarrow=={pa.__version__}")
        wanted = [word for package in packages for word in ("--with", package)]
        python = ["--python", sys.executable, "python", str(Path(__file__).with_name("httpfs_child.py"))]
        self._process = subprocess.Popen(
            [find_uv_bin(), "run", "--quiet", "--isolated", "--no-project", *wanted, *python],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._ask(threads=threads, endpoint=endpoint, key=keys[0], secret=keys[1], url=url)

    def run(self, sql: str) -> int:
        """Answer a question about `orders`; returns how many rows there were."""
        return int(self._ask(sql=sql)["rows"])

    def rows(self, sql: str) -> pa.Table:
        """Answer a question and hand the answer over."""
        self._ask(sql=sql, to=str(self._answer))
        with pa.memory_map(str(self._answer)) as file:
            return pa.ipc.open_file(file).read_all()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, **question: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer
