"""flightsql-dbapi in an environment of its own, because it needs SQLAlchemy 1.4, which nothing else here does."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import venv
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SESSION = Path(__file__).parent / "sqlalchemy_session.py"
VERSION = "0.2.2"
REQUIREMENTS = (f"flightsql-dbapi=={VERSION}", "sqlalchemy==1.4.54", "pyarrow>=26", "protobuf>=6.31", "pandas>=2.3")


class SqlalchemyError(Exception):
    """What the driver raised."""


@dataclass(frozen=True)
class Url:
    """What a URL of SQLAlchemy is made of.

    Attributes:
        uri: The server's, `grpc://HOST:PORT` or `grpc+tls://HOST:PORT`.
        user: Name of a user.
        password: The user's.
        token: A bearer token, in place of both.
        more: Headers, and features of the driver.
    """

    uri: str
    user: str = ""
    password: str = ""
    token: str = ""
    more: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        scheme, _, address = self.uri.partition("://")
        login = f"{quote(self.user)}:{quote(self.password)}@" if self.user else ""
        options = {**self.more, **({} if "tls" in scheme else {"insecure": "1"})}
        if self.token:
            options["token"] = self.token
        return f"datafusion+flightsql://{login}{urlsplit('//' + address).netloc}?{urlencode(options)}"


@pytest.fixture(scope="session")
def sqlalchemy_python() -> Path:
    """A Python that has the driver; made once, in the user's cache."""
    version = hashlib.sha256(repr((REQUIREMENTS, sys.version)).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "flightserver-tests"
    ready = cache / f"sqlalchemy-{version}"
    if not ready.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        # Environments can't be moved: each attempt has its own, and the file names the one that was finished.
        made = Path(tempfile.mkdtemp(prefix="sqlalchemy-", dir=cache))
        venv.create(made, with_pip=True)
        install = [str(made / "bin" / "python"), "-m", "pip", "install", "-q", *REQUIREMENTS]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            message = f"no flightsql-dbapi: pip install {' '.join(REQUIREMENTS)}\n{done.stderr[-2000:]}"
            (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
        written = made / "path"
        written.write_text(str(made))
        written.replace(ready)
    return Path(ready.read_text()) / "bin" / "python"


@contextmanager
def sqlalchemy_session(python: Path, url: Url, roots: Path | None) -> Iterator[Callable[[str], list[tuple[Any, ...]]]]:
    """Connects by SQLAlchemy; gives a function that answers the rows of a statement.

    Args:
        python: The interpreter that has the driver.
        url: Where to connect, and as whom.
        roots: File of the authorities that may sign the server's certificate. The driver has no option for it: gRPC
            reads its place from the environment.
    """
    environment = {**os.environ, **({} if roots is None else {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(roots)})}
    command = [str(python), "-W", "ignore", str(SESSION), str(url)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def query(sql: str) -> list[tuple[Any, ...]]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(sql) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            if "error" in answer:
                raise SqlalchemyError(answer["error"])
            return [tuple(row) for row in answer["rows"]]

        try:
            yield query
        finally:
            process.stdin.close()
