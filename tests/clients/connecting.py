"""One way in for every client: the same query through each of them, so that a test can be asked of all.

A client is a context manager that connects to a `Door` and gives a function from SQL to rows. pandas, polars and DuckDB
connect by ADBC's driver, as their users do.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import adbc_driver_flightsql.dbapi as flightsql
import duckdb
import flightclient
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.flight as fl
from adbc_driver_flightsql import DatabaseOptions
from clients.jdbc_program import JdbcError
from clients.sqlalchemy_environment import SqlalchemyError, Url, sqlalchemy_session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    import pytest

Rows = list[tuple[Any, ...]]
Query = Callable[[str], Rows]


@dataclass(frozen=True)
class Door:
    """Where a server is, and what to show there.

    Attributes:
        uri: The server's, `grpc://HOST:PORT` or `grpc+tls://HOST:PORT`.
        user: Name of a user, with the password.
        password: The user's.
        token: A bearer token, in place of both.
        roots: File of the authorities that may sign the server's certificate.
        certificate: File of the client's own certificate.
        key: File of its private key.
        headers: Sent with each call.
    """

    uri: str
    user: str = ""
    password: str = ""
    token: str = ""
    roots: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def table_rows(table: pa.Table) -> Rows:
    """Rows of an Arrow table."""
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def adbc(door: Door) -> Any:
    """A connection of ADBC's driver."""
    given = {
        "username": door.user,
        "password": door.password,
        DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {door.token}" if door.token else "",
        DatabaseOptions.TLS_ROOT_CERTS.value: _text(door.roots),
        DatabaseOptions.MTLS_CERT_CHAIN.value: _text(door.certificate),
        DatabaseOptions.MTLS_PRIVATE_KEY.value: _text(door.key),
        **{DatabaseOptions.RPC_CALL_HEADER_PREFIX.value + name: value for name, value in door.headers.items()},
    }
    options = {name: value for name, value in given.items() if value}
    return flightsql.connect(door.uri, options, autocommit=True)


def _text(file: Path | None) -> str:
    return "" if file is None else file.read_text()


@contextmanager
def by_adbc(door: Door, _: pytest.FixtureRequest) -> Iterator[Query]:
    """ADBC's cursor."""
    with adbc(door) as connection, connection.cursor() as cursor:
        yield lambda sql: cursor.execute(sql).fetchall()


@contextmanager
def by_pandas(door: Door, _: pytest.FixtureRequest) -> Iterator[Query]:
    """`pandas.read_sql`."""
    with adbc(door) as connection, ExitStack() as cursors:
        # pandas 3 doesn't close the cursor of a statement that failed.
        opened = connection.cursor
        connection.cursor = lambda: cursors.enter_context(opened())
        yield lambda sql: list(pd.read_sql(sql, connection).itertuples(index=False, name=None))


@contextmanager
def by_polars(door: Door, _: pytest.FixtureRequest) -> Iterator[Query]:
    """`polars.read_database`."""
    with adbc(door) as connection:
        yield lambda sql: pl.read_database(sql, connection).rows()


@contextmanager
def by_duckdb(door: Door, _: pytest.FixtureRequest) -> Iterator[Query]:
    """DuckDB, which reads what ADBC's cursor streams."""
    with adbc(door) as connection, connection.cursor() as cursor, duckdb.connect() as duck:
        yield lambda sql: duck.from_arrow(cursor.execute(sql).fetch_record_batch()).fetchall()


@contextmanager
def by_flightclient(door: Door, _: pytest.FixtureRequest) -> Iterator[Query]:
    """flightclient, whose only header is the bucket."""
    with flightclient.connect(
        door.uri,
        door.token or None,
        door.headers.get("x-lakehouse-bucket"),
        user=door.user or None,
        password=door.password or None,
        tls_roots=door.roots,
        tls_certificate=door.certificate,
        tls_key=door.key,
    ) as client:
        yield lambda sql: table_rows(client.query(sql))


@contextmanager
def by_flight(door: Door, _: pytest.FixtureRequest) -> Iterator[Query]:
    """pyarrow.flight alone."""
    options = {
        "tls_root_certs": None if door.roots is None else door.roots.read_bytes(),
        "cert_chain": None if door.certificate is None else door.certificate.read_bytes(),
        "private_key": None if door.key is None else door.key.read_bytes(),
    }
    with fl.connect(door.uri, **options) as client:
        headers = [(name.encode(), value.encode()) for name, value in door.headers.items()]
        if door.token:
            headers.append((b"authorization", f"Bearer {door.token}".encode()))
        if door.user:
            headers.append(client.authenticate_basic_token(door.user, door.password))
        sent = fl.FlightCallOptions(headers=headers)

        def query(sql: str) -> Rows:
            info = client.get_flight_info(fl.FlightDescriptor.for_command(sql.encode()), sent)
            return [row for end in info.endpoints for row in table_rows(client.do_get(end.ticket, sent).read_all())]

        yield query


@contextmanager
def by_jdbc(door: Door, request: pytest.FixtureRequest) -> Iterator[Query]:
    """JDBC's driver."""
    given = {
        "user": door.user,
        "password": door.password,
        "token": door.token,
        "tlsRootCerts": str(door.roots or ""),
        "clientCertificate": str(door.certificate or ""),
        "clientKey": str(door.key or ""),
        **door.headers,
    }
    properties = {name: value for name, value in given.items() if value}
    with request.getfixturevalue("jdbc").connect(door.uri, **properties) as connection:
        yield lambda sql: [tuple(row) for row in connection.ask("execute", sql=sql).get("rows", ())]


@contextmanager
def by_sqlalchemy(door: Door, request: pytest.FixtureRequest) -> Iterator[Query]:
    """SQLAlchemy with flightsql-dbapi, whose URL has no place for certificates but those of gRPC's environment."""
    url = Url(door.uri, door.user, door.password, door.token, door.headers)
    with sqlalchemy_session(request.getfixturevalue("sqlalchemy_python"), url, door.roots) as query:
        yield query


@dataclass(frozen=True)
class Client:
    """A client, as the compatibility page calls it.

    Attributes:
        name: Its name there.
        errors: What it raises when the server refuses something.
        connect: Connects.
    """

    name: str
    errors: tuple[type[Exception], ...]
    connect: Callable[[Door, pytest.FixtureRequest], AbstractContextManager[Query]]


CLIENTS = {
    client.name: client
    for client in (
        Client("ADBC", (flightsql.Error,), by_adbc),
        Client("JDBC", (JdbcError,), by_jdbc),
        Client("SQLAlchemy", (SqlalchemyError,), by_sqlalchemy),
        Client("pandas", (flightsql.Error, pd.errors.DatabaseError), by_pandas),
        Client("polars", (flightsql.Error,), by_polars),
        Client("DuckDB", (flightsql.Error,), by_duckdb),
        Client("flightclient", (flightclient.FlightclientError,), by_flightclient),
        Client("pyarrow.flight", (pa.ArrowException,), by_flight),
    )
}
