"""A real JDBC client: Arrow's driver in a Java program (`clients/jdbc/`) that tests steer line by line.

The program is built by Maven once per version of its sources, into the user's cache, and run once per test process;
each test opens connections of its own. Values come back as `Values.java` writes them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self
from urllib.parse import urlencode

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from conftest import RunningServer

SOURCES = Path(__file__).parents[2] / "clients" / "jdbc"
_MAIN = "flightserver.jdbc.Client"

Bound = tuple[str, Any]
"""The X of `setX`, and the value as JSON."""


class JdbcError(Exception):
    """An exception of the driver.

    Attributes:
        kind: Its Java class.
        is_sql: Whether it is a java.sql.SQLException.
        causes: Messages of the exceptions that caused it.
        trace: Its stack trace.
    """

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(" <- ".join([error["message"], *error["causes"]]))
        self.kind: str = error["class"]
        self.is_sql: bool = error["isSqlException"]
        self.causes: list[str] = error["causes"]
        self.trace: str = error["trace"]


def _missing(message: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def _command(program: str) -> str:
    """Path of `java` or `mvn`; the test is skipped where there is none."""
    java_home = os.environ.get("JAVA_HOME")
    inside = Path(java_home or "/nonexistent") / "bin" / program
    found = str(inside) if inside.is_file() else shutil.which(program)
    if found is None:
        _missing(f"no {program}: apt-get install default-jdk-headless maven")
    return found


def _built() -> Path:
    """The directory of the built program; builds it where this version of the sources wasn't yet."""
    files = [SOURCES / "pom.xml", *sorted(SOURCES.glob("src/**/*.java"))]
    version = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "flightserver-tests"
    built = cache / f"jdbc-{version}"
    if not built.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            target = Path(scratch) / "target"
            _package(target)
            # Another test process may have been faster, which is fine.
            if not built.is_dir():
                target.rename(built)
    return built


def _package(target: Path) -> None:
    command = [_command("mvn"), "-q", "-B", "-ntp", "-f", str(SOURCES / "pom.xml"), f"-Dbuild.to={target}", "package"]
    offline = subprocess.run([*command, "-o"], capture_output=True, text=True, check=False)
    if offline.returncode == 0:
        return
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        _missing(f"Maven can't build clients/jdbc:\n{done.stdout[-3000:]}")


class Jdbc:
    """The Java program, running.

    Args:
        log: The file that takes what the program prints beside answers.
    """

    def __init__(self, log: Path) -> None:
        built = _built()
        command = [
            _command("java"),
            "--add-opens=java.base/java.nio=ALL-UNNAMED",
            "-Duser.timezone=UTC",
            "-Dfile.encoding=UTF-8",
            "-cp",
            f"{built}/*{os.pathsep}{built}/lib/*",
            _MAIN,
        ]
        with log.open("wb") as printed:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=printed, encoding="utf-8"
            )

    def ask(self, what: str, **request: Any) -> dict[str, Any]:
        """Have something done.

        Raises:
            JdbcError: The driver raised it.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": what, **request}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise JdbcError(answer["error"])
        return answer

    def connect(self, uri: str, **properties: str) -> Connection:
        """A connection.

        Args:
            uri: The server's, `grpc://HOST:PORT` or `grpc+tls://HOST:PORT`.
            properties: Of the driver, which go into the URL; `user`, `password` and `token` are handed over beside it,
                because they belong in no URL.
        """
        scheme, _, address = uri.partition("://")
        in_url = {"useEncryption": str("tls" in scheme).lower(), **properties}
        beside = {name: in_url.pop(name) for name in ("user", "password", "token") if name in in_url}
        url = f"jdbc:arrow-flight-sql://{address}/?{urlencode(in_url)}"
        return Connection(self, self.ask("connect", url=url, properties=beside)["connection"])

    def close(self) -> None:
        """End the program."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Connection:
    """A java.sql.Connection."""

    def __init__(self, program: Jdbc, number: int) -> None:
        self._program = program
        self._number = number

    def ask(self, what: str, **request: Any) -> dict[str, Any]:
        """Have something done with the connection.

        Raises:
            JdbcError: The driver raised it.
        """
        return self._program.ask(what, connection=self._number, **request)

    def query(self, sql: str, *rows: Sequence[Bound], **options: Any) -> list[list[Any]]:
        """Rows of a query, with `getObject`; as a prepared statement where rows of values are given."""
        answer: list[list[Any]] = self.ask("execute", sql=sql, **_parameters(rows), **options)["rows"]
        return answer

    def update(self, sql: str, *rows: Sequence[Bound]) -> list[int]:
        """Update counts of a statement, run once or for each row of values."""
        counts: list[int] = self.ask("execute", sql=sql, update=True, **_parameters(rows))["counts"]
        return counts

    def metadata(self, method: str, *arguments: Any) -> Any:
        """What a method of DatabaseMetaData answers: a value, or rows as dictionaries.

        Raises:
            JdbcError: The driver raised it.
        """
        [answer] = self.ask("metadata", calls=[[method, *arguments]])["answers"]
        if "error" in answer:
            raise JdbcError(answer["error"])
        if "value" in answer:
            return answer["value"]
        names = [column["label"] for column in answer["columns"]]
        return [dict(zip(names, row, strict=True)) for row in answer["rows"]]

    def close(self) -> None:
        """Close it."""
        self.ask("close")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _parameters(rows: Sequence[Sequence[Bound]]) -> dict[str, Any]:
    return {"parameters": rows} if rows else {}


def encoded(data: bytes) -> str:
    """Bytes as the program reads and writes them."""
    return base64.b64encode(data).decode()


@pytest.fixture(scope="session")
def jdbc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jdbc]:
    """The Java program."""
    program = Jdbc(tmp_path_factory.mktemp("jdbc") / "java.log")
    try:
        yield program
    finally:
        program.close()


@pytest.fixture
def jdbc_connection(jdbc: Jdbc, server: RunningServer) -> Iterator[Connection]:
    """A connection to an empty lakehouse."""
    with jdbc.connect(server.uri) as opened:
        yield opened
