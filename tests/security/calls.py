"""Every call that a client can send, made from the dispatch tables, with who may send it.

A command or action that has no sample here fails `samples_of`, and with it the tests that walk them: whoever adds one
says by its sample who may.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.flight as fl
from query.substrait_plans import plan
from security.world import command, people

from flightserver.flight.permissions import COMMANDS
from flightserver.flight.sql.decoding import ACTION_DESCRIPTIONS
from flightserver.flight.sql.messages import TicketStatementQuery
from flightserver.flight.sql.protocol import FLIGHT_PACKAGE, SQL_PACKAGE, message_class, pack, parse, unpack

if TYPE_CHECKING:
    from collections.abc import Callable

    from security.world import User, World

READERS = frozenset({"root", "ada", "rita", "eve"})
"""Who sees something of `people`."""
WHOLE = frozenset({"root", "ada", "rita"})
"""Who sees all of it."""
WRITERS = frozenset({"root", "ada"})
ADMINS = frozenset({"root"})
EVERYBODY = frozenset({"root", "ada", "rita", "eve", "tess", "nobody"})

SQL = "SELECT * FROM people"
INSERT = "INSERT INTO people (id) VALUES (99)"
ROWS = people([(50, "eli", "eli@north.example", "north", 1, 1, "1")])
PLAN = plan("SELECT id FROM people", {"people": ROWS.schema})


@dataclass(frozen=True)
class Handles:
    """What belongs to root."""

    ticket: bytes
    page: bytes
    query_id: str
    prepared: bytes
    transaction: bytes
    savepoint: bytes
    cookie: str
    info: bytes
    page_info: bytes
    upload: str


@dataclass(frozen=True)
class Call:
    """One call.

    Attributes:
        name: Of the RPC and what is asked of it.
        send: Sends it as a user, and reads the whole answer.
        allowed: Users for whom it succeeds.
    """

    name: str
    send: Callable[[User, Handles], object]
    allowed: frozenset[str]


def sql_action(name: str, /, **fields: Any) -> bytes:
    """The body of an action of Flight SQL."""
    return pack(message_class(f"{SQL_PACKAGE}.Action{name}Request")(**fields))


def answered(body: bytes) -> Any:
    """The message that an action of Flight SQL answered."""
    found = unpack(body)
    assert found is not None
    return parse(found.name, found.value)


def own(user: User) -> Handles:
    """Handles of a user who may do everything."""
    prepared = answered(user.act("CreatePreparedStatement", sql_action("CreatePreparedStatement", query=SQL))[0])
    transaction = answered(user.act("BeginTransaction", sql_action("BeginTransaction"))[0]).transaction_id
    savepoint = sql_action("BeginSavepoint", transaction_id=transaction, name="here")
    info = user.info(SQL)
    paged = user.info(json.dumps({"sql": SQL, "page_rows": 1}))
    return Handles(
        ticket=info.endpoints[0].ticket.ticket,
        page=paged.endpoints[0].ticket.ticket,
        query_id=json.loads(paged.app_metadata)["query_id"],
        prepared=prepared.prepared_statement_handle,
        transaction=transaction,
        savepoint=answered(user.act("BeginSavepoint", savepoint)[0]).savepoint_id,
        cookie=begun_session(user),
        info=info.serialize(),
        page_info=paged.serialize(),
        upload=uploaded(user) if may_upload(user) else "",
    )


def may_upload(user: User) -> bool:
    """Whether a user puts rows somewhere."""
    return bool({"admin", "writer"} & set(user.call("user.whoami")["roles"]))


def uploaded(user: User) -> str:
    """The id of a finished upload."""
    table = pa.table({"data": [b"id\n77\n"]})
    writer, reader = user.client.do_put(
        fl.FlightDescriptor.for_command('{"upload": "rows.csv"}'), table.schema, user.options
    )
    with writer:
        writer.write_table(table)
        writer.done_writing()
        answers = []
        while (answer := reader.read()) is not None:
            answers.append(json.loads(answer.to_pybytes()))
    return str(answers[-1]["upload"])


class _Cookies(fl.ClientMiddlewareFactory):  # type: ignore[misc]  # pyarrow has no types
    """Notes the cookie that a server sets."""

    def __init__(self) -> None:
        self.cookie = ""

    def start_call(self, info: Any) -> fl.ClientMiddleware:  # noqa: ARG002  # the signature is pyarrow's
        return _Cookie(self)


class _Cookie(fl.ClientMiddleware):  # type: ignore[misc]  # pyarrow has no types
    def __init__(self, cookies: _Cookies) -> None:
        self._cookies = cookies

    def received_headers(self, headers: dict[str, list[str]]) -> None:
        for value in headers.get("set-cookie", []):
            self._cookies.cookie = value.partition(";")[0]


def begun_session(user: User, **options: str) -> str:
    """The cookie of a new session with options; with one that changes little if none are given."""
    cookies = _Cookies()
    with fl.connect(user.uri, middleware=[cookies]) as client:
        body = session_options(options or {"query_timeout": "60"})
        list(client.do_action(fl.Action("SetSessionOptions", body), user.options))
    assert cookies.cookie
    return cookies.cookie


def session_options(options: dict[str, str]) -> bytes:
    """The body of SetSessionOptions."""
    message = message_class(f"{FLIGHT_PACKAGE}.SetSessionOptionsRequest")()
    for name, value in options.items():
        message.session_options[name].string_value = value
    return bytes(message.SerializeToString())


def flight_body(name: str, /, **fields: bytes) -> bytes:
    """The body of an action of Flight whose fields are messages, serialized."""
    message = message_class(f"{FLIGHT_PACKAGE}.{name}Request")()
    for field, data in fields.items():
        getattr(message, field).MergeFromString(data)
    return bytes(message.SerializeToString())


def _page_endpoint(handles: Handles) -> bytes:
    message = message_class(f"{FLIGHT_PACKAGE}.FlightEndpoint")()
    message.ticket.ticket = handles.page
    return bytes(message.SerializeToString())


def _cancel_query(handles: Handles) -> bytes:
    return sql_action("CancelQuery", info=handles.info)


_APPEND = {"if_not_exist": 2, "if_exists": 2}
_PLAN = {"plan": PLAN, "version": "0.54.0"}
_TABLE = {"table": "people"}

COMMAND_SAMPLES: dict[str, tuple[Callable[[Handles], dict[str, Any]], frozenset[str]]] = {
    "GetCatalogs": (lambda _: {}, EVERYBODY),
    "GetCrossReference": (lambda _: {"pk_table": "people", "fk_table": "people"}, EVERYBODY),
    "GetDbSchemas": (lambda _: {}, EVERYBODY),
    "GetExportedKeys": (lambda _: _TABLE, EVERYBODY),
    "GetImportedKeys": (lambda _: _TABLE, EVERYBODY),
    "GetPrimaryKeys": (lambda _: _TABLE, EVERYBODY),
    "GetSqlInfo": (lambda _: {}, EVERYBODY),
    "GetTableTypes": (lambda _: {}, EVERYBODY),
    "GetTables": (lambda _: {"include_schema": True}, EVERYBODY),
    "GetXdbcTypeInfo": (lambda _: {}, EVERYBODY),
    "PreparedStatementQuery": (lambda one: {"prepared_statement_handle": one.prepared}, ADMINS),
    "PreparedStatementUpdate": (lambda one: {"prepared_statement_handle": one.prepared}, ADMINS),
    "StatementIngest": (lambda _: {**_TABLE, "table_definition_options": _APPEND}, WRITERS),
    "StatementQuery": (lambda _: {"query": SQL}, READERS),
    "StatementSubstraitPlan": (lambda _: {"plan": _PLAN}, READERS),
    "StatementUpdate": (lambda _: {"query": INSERT}, WRITERS),
}
"""Command -> its fields, and who may send it. Tickets are sent by DoGet."""

_PUT = frozenset({"PreparedStatementUpdate", "StatementIngest", "StatementUpdate"})
"""Commands that are sent by DoPut."""

PROTOCOL_SAMPLES: dict[str, tuple[Callable[[Handles], bytes], frozenset[str]]] = {
    "BeginSavepoint": (
        lambda one: sql_action("BeginSavepoint", transaction_id=one.transaction, name="there"),
        ADMINS,
    ),
    "BeginTransaction": (lambda _: sql_action("BeginTransaction"), EVERYBODY),
    "CancelFlightInfo": (lambda one: flight_body("CancelFlightInfo", info=one.page_info), ADMINS),
    "CancelQuery": (_cancel_query, ADMINS),
    # What is not one's own isn't there to be closed, and nothing happens.
    "ClosePreparedStatement": (
        lambda one: sql_action("ClosePreparedStatement", prepared_statement_handle=one.prepared),
        EVERYBODY,
    ),
    "CloseSession": (lambda _: b"", ADMINS),
    "CreatePreparedStatement": (lambda _: sql_action("CreatePreparedStatement", query=SQL), READERS),
    "CreatePreparedSubstraitPlan": (lambda _: sql_action("CreatePreparedSubstraitPlan", plan=_PLAN), READERS),
    "EndSavepoint": (lambda one: sql_action("EndSavepoint", savepoint_id=one.savepoint, action=1), ADMINS),
    "EndTransaction": (lambda one: sql_action("EndTransaction", transaction_id=one.transaction, action=1), ADMINS),
    "GetSessionOptions": (lambda _: b"", ADMINS),
    "RenewFlightEndpoint": (lambda one: flight_body("RenewFlightEndpoint", endpoint=_page_endpoint(one)), ADMINS),
    # With the cookie of another user it begins a session of one's own.
    "SetSessionOptions": (lambda _: session_options({"schema": "public"}), EVERYBODY),
}
"""Action of the protocol -> its body, and who may send it; each is sent with the cookie of root's session."""

_POLICY = {"name": "another", "dataset": "people", "filter": "id > 1"}
_GRANT = {"role": "analyst", "privileges": ["select"], "dataset": "people"}
_PEOPLE = {"dataset": "people"}
_INDEX = {"index": "points_at"}

ACTION_SAMPLES: dict[str, tuple[Callable[[Handles], dict[str, Any]], frozenset[str]]] = {
    "bucket.check": (lambda _: {"name": "testing"}, ADMINS),
    "bucket.collect": (lambda _: {"dry_run": True}, ADMINS),
    "bucket.create": (lambda _: {"name": "another", "backend": "local"}, ADMINS),
    "bucket.drop": (lambda _: {"name": "testing", "contents": "delete"}, ADMINS),
    "bucket.get_lifecycle": (lambda _: {}, ADMINS),
    "bucket.list": (lambda _: {}, EVERYBODY),
    "bucket.mirror": (lambda _: {"bucket": "primary", "continuous": False}, ADMINS),
    "bucket.presign": (lambda _: {"method": "GET", "key": "datasets/people/x"}, ADMINS),
    "bucket.rename": (lambda _: {"name": "testing", "to": "renamed"}, ADMINS),
    "bucket.set_lifecycle": (lambda _: {"name": "testing", "rules": []}, ADMINS),
    "bucket.set_limits": (lambda _: {"name": "testing", "put_bytes": 2**28}, ADMINS),
    "bucket.usage": (lambda _: {}, ADMINS),
    "cache.evict": (lambda _: {}, ADMINS),
    "cache.pin": (lambda _: _PEOPLE, ADMINS),
    "cache.stats": (lambda _: {}, ADMINS),
    "catalog.migrate_buckets": (lambda _: {}, ADMINS),
    "dataset.alter": (lambda _: {**_PEOPLE, "comment": "changed"}, WRITERS),
    "dataset.attach": (lambda _: {"dataset": "attached", "location": "there.parquet"}, WRITERS),
    "dataset.compact": (lambda _: _PEOPLE, WRITERS),
    "dataset.delete": (lambda _: {**_PEOPLE, "keys": [{"id": 1}]}, WRITERS),
    "dataset.describe": (lambda _: _PEOPLE, READERS),
    "dataset.diff": (lambda _: {**_PEOPLE, "from": "first"}, WHOLE),
    "dataset.drop": (lambda _: _PEOPLE, WRITERS),
    "dataset.export": (lambda _: {**_PEOPLE, "destination": "copy"}, WRITERS),
    "dataset.history": (lambda _: _PEOPLE, WHOLE),
    "dataset.move": (lambda _: {**_PEOPLE, "to": "testing"}, WRITERS),
    "dataset.restore": (lambda _: {**_PEOPLE, "version": "first"}, WRITERS),
    "dataset.tag": (lambda _: {**_PEOPLE, "tag": "here"}, WRITERS),
    "dataset.tag_columns": (lambda _: {**_PEOPLE, "columns": {"email": []}}, ADMINS),
    "dataset.truncate": (lambda _: _PEOPLE, WRITERS),
    "dataset.upsert": (lambda one: {**_PEOPLE, "source": one.upload}, WRITERS),
    "index.create": (lambda _: {"index": "another", "dataset": "points", "column": "at"}, WRITERS),
    "index.drop": (lambda _: _INDEX, WRITERS),
    "index.move": (lambda _: {**_INDEX, "to": "testing"}, WRITERS),
    "index.refresh": (lambda _: _INDEX, WRITERS),
    "ingest.file": (lambda one: {**_PEOPLE, "mode": "append", "source": one.upload}, WRITERS),
    "policy.create": (lambda _: _POLICY, ADMINS),
    "policy.drop": (lambda _: {"name": "north"}, ADMINS),
    "policy.list": (lambda _: {}, ADMINS),
    "result.close": (lambda one: {"query_id": one.query_id}, ADMINS),
    "result.create": (lambda _: {"sql": SQL, "page_rows": 1}, READERS),
    "role.create": (lambda _: {"name": "another"}, ADMINS),
    "role.drop": (lambda _: {"name": "tester"}, ADMINS),
    "role.grant": (lambda _: _GRANT, ADMINS),
    "role.list": (lambda _: {}, ADMINS),
    "role.revoke": (lambda _: _GRANT, ADMINS),
    "user.create": (lambda _: {"name": "another", "roles": ["reader"]}, ADMINS),
    "user.create_token": (lambda _: {"name": "root"}, ADMINS),
    "user.disable": (lambda _: {"name": "rita"}, ADMINS),
    "user.drop": (lambda _: {"name": "rita"}, ADMINS),
    "user.drop_token": (lambda _: {"name": "root", "id": "0123456789ab"}, ADMINS),
    "user.enable": (lambda _: {"name": "rita"}, ADMINS),
    "user.end_sessions": (lambda _: {"name": "rita"}, ADMINS),
    "user.list": (lambda _: {}, ADMINS),
    "user.list_tokens": (lambda _: {"name": "root"}, ADMINS),
    "user.set_certificates": (lambda _: {"name": "rita", "certificates": ["CN=rita"]}, ADMINS),
    "user.set_password": (lambda _: {"name": "rita", "password": "a new password"}, ADMINS),
    "user.set_roles": (lambda _: {"name": "eve", "roles": ["admin"]}, ADMINS),
    "user.whoami": (lambda _: {}, EVERYBODY),
}
"""Our own actions: action -> its body, and who may send it."""


def _command(name: str) -> list[Call]:
    fields, allowed = COMMAND_SAMPLES[name]

    def packed(handles: Handles) -> fl.FlightDescriptor:
        return fl.FlightDescriptor.for_command(command(name, **fields(handles)))

    # Of a statement that changes a table which one doesn't see, it tells as little as of one that isn't there.
    described = allowed | {"tess", "nobody"} if name == "StatementUpdate" else allowed
    calls = []
    if name in _PUT:
        calls.append(Call(f"DoPut {name}", lambda user, one: user.put(packed(one), ROWS), allowed))
    if name != "StatementIngest":
        calls += [
            Call(f"GetFlightInfo {name}", lambda user, one: read(user, packed(one)), allowed),
            Call(f"GetSchema {name}", lambda user, one: user.client.get_schema(packed(one), user.options), described),
        ]
    return calls


def read(user: User, descriptor: fl.FlightDescriptor) -> list[pa.Table]:
    """All that a descriptor answers."""
    info = user.client.get_flight_info(descriptor, user.options)
    return [user.table(endpoint.ticket) for endpoint in info.endpoints]


def _path() -> fl.FlightDescriptor:
    return fl.FlightDescriptor.for_path("people")


def _json(**fields: Any) -> fl.FlightDescriptor:
    return fl.FlightDescriptor.for_command(json.dumps(fields))


def _wrapped(ticket: bytes) -> bytes:
    return pack(message_class(f"{SQL_PACKAGE}.TicketStatementQuery")(statement_handle=ticket))


def _by_hand(query_id: str) -> bytes:
    return json.dumps({"query_id": query_id, "page": 0, "page_rows": 4}).encode()


PLAIN = [
    Call("Handshake", lambda user, _: user.client.authenticate(Silent(), user.options), EVERYBODY),
    Call("ListFlights", lambda user, _: list(user.client.list_flights(options=user.options)), EVERYBODY),
    Call("ListActions", lambda user, _: list(user.client.list_actions(user.options)), EVERYBODY),
    Call("GetFlightInfo path", lambda user, _: read(user, _path()), READERS),
    Call("GetSchema path", lambda user, _: user.client.get_schema(_path(), user.options), READERS),
    Call("GetFlightInfo SQL", lambda user, _: read(user, fl.FlightDescriptor.for_command(SQL)), READERS),
    Call("GetFlightInfo JSON", lambda user, _: read(user, _json(sql=SQL, page_rows=1)), READERS),
    Call("GetFlightInfo diff", lambda user, _: read(user, _json(**{"diff": "people", "from": "first"})), WHOLE),
    Call("GetFlightInfo INSERT", lambda user, _: read(user, fl.FlightDescriptor.for_command(INSERT)), WRITERS),
    Call("DoGet statement", lambda user, one: user.table(one.ticket), ADMINS),
    Call("DoGet TicketStatementQuery", lambda user, one: user.table(_wrapped(one.ticket)), ADMINS),
    Call("DoGet page", lambda user, one: user.table(one.page), ADMINS),
    Call("DoGet page by hand", lambda user, one: user.table(_by_hand(one.query_id)), ADMINS),
    Call("DoPut path", lambda user, _: user.put(_path(), ROWS), WRITERS),
    Call("DoPut ingest", lambda user, _: user.put(_json(ingest="people", mode="upsert"), ROWS), WRITERS),
    Call("DoPut delete", lambda user, _: user.put(_json(delete="people"), ROWS.select(["id"])), WRITERS),
    Call(
        "DoPut upload",
        lambda user, _: user.put(_json(upload="x.csv"), pa.table({"data": [b"id\n1\n"]})),
        frozenset({"root", "ada", "tess"}),
    ),
    Call("DoExchange", lambda user, _: user.exchange("SELECT count(*) FROM people, input", ROWS), READERS),
]


class Silent(fl.ClientAuthHandler):  # type: ignore[misc]  # pyarrow has no types
    """A Handshake that says nothing; the header does."""

    def authenticate(self, outgoing: Any, incoming: Any) -> None:
        """Sends nothing."""

    def get_token(self) -> bytes:
        return b""


def samples_of(world: World) -> list[Call]:
    """Every call: one sample at least of each thing that the dispatch tables have."""
    commands = {kind.__name__ for kind in COMMANDS if kind is not TicketStatementQuery}
    assert commands == set(COMMAND_SAMPLES), "each command of Flight SQL needs a sample of who may send it"
    assert set(ACTION_DESCRIPTIONS) == set(PROTOCOL_SAMPLES), "each action of the protocol needs a sample"
    ours = {action.name for action in world.service.registry}
    assert ours == set(ACTION_SAMPLES), "each action needs a sample of who may send it"
    calls = [*PLAIN, *(call for name in sorted(commands) for call in _command(name))]
    for name, (body, allowed) in sorted(PROTOCOL_SAMPLES.items()):
        calls.append(Call(f"DoAction {name}", _protocol(name, body), allowed))
    for name, (fields, allowed) in sorted(ACTION_SAMPLES.items()):
        calls.append(Call(f"DoAction {name}", _ours(name, fields), allowed))
    return calls


def _protocol(name: str, body: Callable[[Handles], bytes]) -> Callable[[User, Handles], object]:
    return lambda user, handles: user.having(cookie=handles.cookie).act(name, body(handles))


def _ours(name: str, fields: Callable[[Handles], dict[str, Any]]) -> Callable[[User, Handles], object]:
    return lambda user, handles: user.act(name, fields(handles))
