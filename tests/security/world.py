"""A server with users of all kinds over a few tables, and what each of them sends.

`people` has a row filter, a masked column and a column tagged `pii` for the role `analyst`; `secret` is for nobody
but those who see everything. Users come by API tokens, which cost no hashing of passwords, except where a test is about
passwords: `root` has `PASSWORD`.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.flight as fl
from query.asking import run

from flightserver.access.committing import Author
from flightserver.access.granting import Place
from flightserver.catalog.entities import LOCAL, Bucket, DatasetKey
from flightserver.catalog.identities import ADMIN, READER, WRITER, Policy, Privilege
from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.flight.listening import Listener
from flightserver.flight.service import Service
from flightserver.flight.sql.protocol import SQL_PACKAGE, message_class, pack
from flightserver.lakehouse import Lakehouse
from flightserver.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PASSWORD = "correct horse battery"  # noqa: S105  # a test's
ANALYST = "analyst"
TESTER = "tester"
USERS = {"root": [ADMIN], "ada": [WRITER], "rita": [READER], "eve": [ANALYST], "tess": [TESTER], "nobody": []}

NORTH, SOUTH = "north", "south"
PEOPLE: Sequence[tuple[int, str, str, str, int, int, str]] = (
    (1, "ann", "ann@north.example", NORTH, 1117, 7, "11"),
    (2, "bob", "bob@south.example", SOUTH, 2222, 8, "HIDDEN-CODE"),
    (3, "cyd", "cyd@north.example", NORTH, 3342, 9, "33"),
    (4, "dan", "dan@south.example", SOUTH, 4444, 10, "OTHER-HIDDEN-CODE"),
)
COLUMNS = ("id", "name", "email", "region", "salary", "bonus", "code")
COLUMN_TYPES = "name VARCHAR, email VARCHAR, region VARCHAR, salary BIGINT, bonus BIGINT, code VARCHAR"
SEEN_BY_EVE = [(1, "ann", "***", NORTH, 11, 7, "11"), (3, "cyd", "***", NORTH, 33, 9, "33")]
"""By the policies: rows of the north, salaries by hundreds, and no addresses."""

HIDDEN_TEXTS = (
    "bob",
    "dan@",
    "south.example",
    "north.example",
    "HIDDEN-CODE",
    "2222",
    "4444",
    "1117",
    "3342",
    "424242",
)
"""What nobody may ever show to eve."""

SECRET = 424242


def literal(value: str | int) -> str:
    """A value in SQL."""
    return str(value) if isinstance(value, int) else f"'{value}'"


def values(rows: Sequence[tuple[Any, ...]]) -> str:
    """Rows in SQL."""
    return ", ".join("(" + ", ".join(literal(one) for one in row) + ")" for row in rows)


@dataclass
class User:
    """One user with a connection of its own."""

    name: str
    uri: str
    header: bytes | None
    client: fl.FlightClient
    extra: list[tuple[bytes, bytes]] = field(default_factory=list)

    @property
    def token(self) -> bytes:
        """Its API token."""
        return (self.header or b"").removeprefix(b"Bearer ")

    @property
    def options(self) -> fl.FlightCallOptions:
        known = [] if self.header is None else [(b"authorization", self.header)]
        return fl.FlightCallOptions(headers=[*known, *self.extra])

    def having(self, **headers: str) -> User:
        """The same user, who sends more headers; `_` stands for `-`."""
        extra = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        return User(self.name, self.uri, self.header, self.client, [*self.extra, *extra])

    def info(self, command: str | bytes) -> fl.FlightInfo:
        return self.client.get_flight_info(fl.FlightDescriptor.for_command(command), self.options)

    def table(self, ticket: fl.Ticket | bytes) -> pa.Table:
        ticket = fl.Ticket(ticket) if isinstance(ticket, bytes) else ticket
        return self.client.do_get(ticket, self.options).read_all()

    def ask(self, command: str | bytes) -> pa.Table:
        """The answer to SQL, JSON or a packed command."""
        info = self.info(command)
        return pa.concat_tables([self.table(endpoint.ticket) for endpoint in info.endpoints])

    def rows(self, command: str | bytes) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in self.ask(command).to_pylist()]

    def act(self, action: str, body: dict[str, Any] | bytes | None = None) -> list[bytes]:
        data = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        return [one.body.to_pybytes() for one in self.client.do_action(fl.Action(action, data), self.options)]

    def call(self, action: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The result of one of our actions."""
        result: dict[str, Any] = json.loads(self.act(action, body)[-1])["result"]
        return result

    def put(self, descriptor: fl.FlightDescriptor, table: pa.Table) -> bytes:
        writer, reader = self.client.do_put(descriptor, table.schema, self.options)
        with writer:
            writer.write_table(table)
            writer.done_writing()
            answer = reader.read()
            return b"" if answer is None else answer.to_pybytes()

    def exchange(self, sql: str, table: pa.Table) -> pa.Table:
        writer, reader = self.client.do_exchange(fl.FlightDescriptor.for_command(sql), self.options)
        with writer:
            writer.begin(table.schema)
            writer.write_table(table)
            writer.done_writing()
            return reader.read_all()


@dataclass
class World:
    """The server and its users."""

    lakehouse: Lakehouse
    service: Service
    uri: str
    users: dict[str, User]

    def __getitem__(self, name: str) -> User:
        return self.users[name]

    @property
    def version(self) -> int:
        """Of the catalog: a number that any change would change."""
        return self.lakehouse.catalog.snapshot().version

    def sql(self, *statements: str) -> None:
        """Run statements as the server itself."""
        for one in statements:
            run(self.lakehouse, one)

    def token(self, name: str) -> bytes:
        """A header of another API token of a user."""
        secret, _ = self.lakehouse.administration.create_token(by(), name)
        return b"Bearer " + secret.encode()

    def connect(self, name: str, header: bytes | None = None) -> User:
        """Another connection of a user."""
        client = fl.connect(self.uri)
        made = User(name, self.uri, self.token(name) if header is None else header, client)
        self.users[f"{name} {len(self.users)}"] = made
        return made


def by(user: str = "test") -> Author:
    """Who changes something, for the commit log."""
    return Author(user, new_ulid())


def command(name: str, /, **fields: Any) -> bytes:
    """A command of Flight SQL, such as `StatementQuery`, as a descriptor has it."""
    return pack(message_class(f"{SQL_PACKAGE}.Command{name}")(**fields))


def people(rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    """Rows of `people`."""
    columns: list[tuple[Any, ...]] = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    schema = pa.schema([(name, pa.int64() if name in {"id", "salary", "bonus"} else pa.string()) for name in COLUMNS])
    return pa.table([pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)], schema=schema)


def add_index(lakehouse: Lakehouse, dataset: str, column: str) -> None:
    """Make a vector index that is called by both."""
    found = lakehouse.catalog.snapshot().dataset(dataset, "primary")
    key = DatasetKey("primary", f"{dataset}_{column}")
    operation = Operation(f"index-{key.name}", "create index")
    assert list(lakehouse.indexes.create(key, found, column, operation))


def fill(lakehouse: Lakehouse) -> None:
    """Make the tables, roles, users and policies."""
    for one in (
        f"CREATE TABLE people (id BIGINT PRIMARY KEY, {COLUMN_TYPES})",
        f"INSERT INTO people VALUES {values(PEOPLE)}",  # a test's own rows
        "CREATE TABLE points (id BIGINT, at FLOAT[])",
        "INSERT INTO points VALUES (1, [1.0, 0.0]), (2, [0.0, 1.0])",
        "CREATE TABLE secret (x BIGINT)",
        f"INSERT INTO secret VALUES ({SECRET})",  # as above
        "CREATE VIEW of_secret AS SELECT x FROM secret",
        "CREATE VIEW of_people AS SELECT * FROM people",
    ):
        run(lakehouse, one)
    lakehouse.bucket_service.create(Bucket("testing", LOCAL), Operation("make-testing", "create bucket"))
    run(lakehouse, "CREATE TABLE testing.notes (id BIGINT PRIMARY KEY, text VARCHAR)")
    run(lakehouse, "INSERT INTO testing.notes VALUES (1, 'one'), (2, 'two')")
    people = lakehouse.catalog.snapshot().dataset("people", "primary")
    add_index(lakehouse, "points", "at")
    lakehouse.versions.tag(people.key, "first", None, Operation("tag-first", "tag"))
    run(lakehouse, "UPDATE people SET name = name WHERE id = 1")
    administration = lakehouse.administration
    for role in (ANALYST, TESTER):
        administration.create_role(by(), role)
    administration.grant(by(), ANALYST, [Privilege.SELECT], Place("primary", "people"))
    administration.grant(by(), ANALYST, [Privilege.SELECT], Place("primary", "of_people"))
    administration.grant(by(), ANALYST, [Privilege.SELECT], Place("primary", "of_secret"))
    administration.grant(by(), TESTER, None, Place("testing"))
    administration.tag_columns(by(), "primary", "people", {"email": ["pii"]})
    administration.create_policy(
        by(),
        Policy(
            "north", "primary", "people", filter="region = 'north'", masks={"salary": "salary / 100"}, roles=(ANALYST,)
        ),
    )
    administration.create_policy(by(), Policy("pii", tags={"pii": "'***'"}, roles=(ANALYST,)))
    for name, roles in USERS.items():
        administration.create_user(by(), name, password=PASSWORD if name == "root" else None, roles=roles)


@contextmanager
def open_world(directory: Path, settings: dict[str, dict[str, Any]] | None = None) -> Iterator[World]:
    """The world, in a new directory."""
    chosen: dict[str, dict[str, Any]] = {"server": {"data": directory / "data"}}
    for section, options in (settings or {}).items():
        chosen[section] = {**chosen.get(section, {}), **options}
    with Lakehouse.open(load_settings(None, chosen)) as lakehouse:
        fill(lakehouse)
        service = Service(lakehouse)
        flight = Listener(service, "127.0.0.1", 0)
        world = World(lakehouse, service, flight.uri, {})
        try:
            for name in USERS:
                world.users[name] = User(name, flight.uri, world.token(name), fl.connect(flight.uri))
            yield world
        finally:
            for user in world.users.values():
                user.client.close()
            flight.stop(grace_seconds=10)
