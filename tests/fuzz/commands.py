"""Every message that the server knows, and mutations of them.

The corpus is made from the protocol's own descriptors and from what `ListActions` says of the server's actions, so that
a message which is added later is mutated too. Handles, tickets and transactions in it are alive, or most mutations
would end at the first look-up.
"""

from __future__ import annotations

import json
import string
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.flight as fl
from datafusion import SessionContext, substrait
from fuzz.mutating import fields, json_mutated, message_mutated, mutated, words_mutated
from fuzz.streams import flight_messages
from fuzz.target import descriptor, field, path

from flightserver.flight.sql import decoding
from flightserver.flight.sql.protocol import SQL_PACKAGE, message_class, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fuzz.target import Target

STATEMENTS = [
    "SELECT a, b FROM t WHERE a > 1 ORDER BY b",
    "SELECT count(*), max(b) FROM primary.t AS x JOIN t AS y USING (a) GROUP BY x.a HAVING count(*) > 1",
    "WITH c AS (SELECT a FROM t UNION ALL SELECT 1) SELECT * FROM c LIMIT 3",
    "SELECT a, row_number() OVER (PARTITION BY b ORDER BY a DESC) FROM t",
    "SELECT CAST('2026-01-31' AS DATE) + INTERVAL '1 day', [1, 2], {'k': 1}, E'a\\n', $$x$$, 1e300, 0.1, NULL",
    "SELECT * FROM t FOR VERSION AS OF 2",
    "EXPLAIN SELECT a FROM t",
    "SHOW TABLES",
    "SELECT ?::BIGINT, $1",
    "INSERT INTO t VALUES (7, 'seven')",
    "INSERT INTO k VALUES (1, 'one') ON CONFLICT (a) DO UPDATE SET b = excluded.b",
    "UPDATE t SET b = 'x' WHERE a = 2",
    "DELETE FROM t WHERE a = 99",
    "MERGE INTO k USING t AS s ON k.a = s.a WHEN MATCHED THEN UPDATE SET b = s.b WHEN NOT MATCHED THEN INSERT *",
    "CREATE TABLE IF NOT EXISTS n (a INT NOT NULL, b DECIMAL(10, 2), PRIMARY KEY (a))",
    "CREATE OR REPLACE VIEW v AS SELECT a FROM t",
    "ALTER TABLE t ADD COLUMN z INT",
    "DROP TABLE IF EXISTS n",
]
_SETUP = [
    "CREATE OR REPLACE TABLE t (a BIGINT, b TEXT)",
    "INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, NULL)",
    "CREATE OR REPLACE TABLE k (a BIGINT NOT NULL, b TEXT, PRIMARY KEY (a))",
]

_TEXTS = {
    "query": STATEMENTS[0],
    "catalog": "lakehouse",
    "pk_catalog": "lakehouse",
    "fk_catalog": "lakehouse",
    "db_schema": "public",
    "schema": "public",
    "bucket": "primary",
    "db_schema_filter_pattern": "pub%",
    "table_name_filter_pattern": "_",
    "uri": "grpc://127.0.0.1:1",
    "source": "rows.csv",
    "backend": "local",
    "to": "t2",
    "method": "GET",
    "mode": "create_append",
    "sql": STATEMENTS[0],
    "endpoint": "http://127.0.0.1:9",
    "format": "csv",
}
_WORDS = """
    NULL DISTINCT LATERAL UNNEST generate_series(1,10) system.queries information_schema.tables $1 ? 1e999 ''
    CAST(1 AS BLOB) ARRAY[1] now() random() INTERVAL EXISTS CASE END :: || -> @> ~ OVER() LIMIT OFFSET -1 99999999999
"""
_VOCABULARY = [*_WORDS.split(), *sorted({word for sql in STATEMENTS for word in sql.split(" ")})]
_PRINTABLE = [character for character in string.printable if " " <= character <= "~"]


class Case(NamedTuple):
    """One valid message: the call, what is mutated of it, and the action's type."""

    rpc: str
    payload: bytes
    action: str = ""


@dataclass(frozen=True)
class Alive:
    """Handles that the server knows right now."""

    prepared: bytes
    transaction: bytes
    ticket: bytes
    page: bytes
    query_id: str
    info: bytes


def prepare(target: Target) -> Alive:
    """Tables to ask for, and handles that work."""
    with fl.connect(f"grpc://{target.address}") as client:
        for sql in _SETUP:
            _fetch(client, sql)
        request = message_class(f"{SQL_PACKAGE}.ActionCreatePreparedStatementRequest")(query="SELECT $1, a FROM t")
        [prepared] = list(client.do_action(("CreatePreparedStatement", pack(request))))
        [begun] = list(client.do_action(("BeginTransaction", b"")))
        info = client.get_flight_info(fl.FlightDescriptor.for_command(STATEMENTS[0]))
        paged = client.get_flight_info(
            fl.FlightDescriptor.for_command(json.dumps({"sql": "SELECT a FROM t", "page_rows": 1}))
        )
    return Alive(
        prepared=_unpacked(prepared, "ActionCreatePreparedStatementResult").prepared_statement_handle,
        transaction=_unpacked(begun, "ActionBeginTransactionResult").transaction_id,
        ticket=info.endpoints[0].ticket.ticket,
        page=paged.endpoints[0].ticket.ticket,
        query_id=json.loads(paged.app_metadata)["query_id"],
        info=info.serialize(),
    )


def _fetch(client: fl.FlightClient, sql: str) -> None:
    info = client.get_flight_info(fl.FlightDescriptor.for_command(sql))
    for endpoint in info.endpoints:
        client.do_get(endpoint.ticket).read_all()


def _unpacked(result: Any, name: str) -> Any:
    packed = unpack(result.body.to_pybytes())
    assert packed is not None
    return message_class(f"{SQL_PACKAGE}.{name}").FromString(packed.value)


def corpus(target: Target, alive: Alive) -> list[Case]:
    """Every valid message."""
    commands = [pack(_filled(f"{SQL_PACKAGE}.{name}", alive)) for name in decoding._COMMANDS]
    for name in ("CommandStatementQuery", "CommandStatementUpdate"):
        commands += [pack(message_class(f"{SQL_PACKAGE}.{name}")(query=sql)) for sql in STATEMENTS]
    commands += [text.encode() for text in (*STATEMENTS, *_plain(alive))]
    cases = [Case(rpc, command) for command in commands for rpc in ("GetFlightInfo", "GetSchema", "DoPut")]
    tickets = [alive.ticket, alive.page, json.dumps({"query_id": alive.query_id, "page": 0, "page_rows": 2}).encode()]
    wrapped = message_class(f"{SQL_PACKAGE}.TicketStatementQuery")(statement_handle=alive.ticket)
    cases += [Case("DoGet", ticket) for ticket in [*tickets, pack(wrapped)] for _ in range(5)]
    cases += [Case("DoExchange", text.encode()) for text in ("SELECT * FROM input", '{"sql": "SELECT a FROM input"}')]
    return [*cases, *_protocol_actions(alive), *_own_actions(target)]


def _plain(alive: Alive) -> list[str]:
    objects: list[dict[str, Any]] = [
        {"sql": "SELECT $1 + a FROM t", "page_rows": 2, "parameters": [1]},
        {"sql": "SELECT $x", "parameters": {"x": [1, {"y": None}]}, "as_of": 3},
        {"sql": "SELECT 1", "as_of": "2026-01-01T00:00:00Z"},
        {"diff": "t", "from": 2, "to": 3, "bucket": "primary"},
        {"ingest": "p", "mode": "create_append", "bucket": "primary", "evolve": True, "primary_key": ["a"]},
        {"delete": "k", "bucket": "primary"},
        {"upload": "rows.csv", "bytes": 3},
        {"query_id": alive.query_id, "page": 0},
    ]
    return [json.dumps(one) for one in objects]


def _protocol_actions(alive: Alive) -> Iterator[Case]:
    for name, action in decoding._ACTIONS.items():
        message = _filled(action.message, alive)
        yield Case("DoAction", pack(message) if action.packed else message.SerializeToString(), name)
        if "query" in message.DESCRIPTOR.fields_by_name:
            for sql in STATEMENTS:
                message.query = sql
                yield Case("DoAction", pack(message), name)


def _filled(name: str, alive: Alive) -> Any:
    message = message_class(name)()
    _fill(message, alive)
    return message


def _fill(message: Any, alive: Alive) -> None:
    for one in message.DESCRIPTOR.fields:
        options = one.message_type.GetOptions() if one.message_type is not None else None
        if options is not None and options.map_entry:
            values = getattr(message, one.name)
            if one.message_type.fields_by_name["value"].message_type is None:
                values["key"] = "value"
            else:
                values["page_rows"].int64_value = 100
                values["bucket"].string_value = "primary"
                values["as_of"].string_list_value.values.append("x")
        elif one.message_type is not None:
            _fill(getattr(message, one.name).add() if one.is_repeated else getattr(message, one.name), alive)
        elif one.containing_oneof is None or len(one.containing_oneof.fields) == 1:
            value = _value(one, alive)
            setattr(message, one.name, value) if not one.is_repeated else getattr(message, one.name).append(value)


def _value(one: Any, alive: Alive) -> Any:
    """A value of a field that goes as far into the server as one can."""
    if one.enum_type is not None:
        return 1
    if one.type == one.TYPE_BOOL:
        return False
    if one.type == one.TYPE_STRING:
        return _TEXTS.get(one.name, "t")
    if one.type == one.TYPE_BYTES:
        known = {
            "prepared_statement_handle": alive.prepared,
            "transaction_id": alive.transaction,
            "savepoint_id": alive.transaction,
            "statement_handle": alive.ticket,
            "ticket": alive.page,
            "info": alive.info,
            "plan": _substrait_plan(),
        }
        return known.get(one.name, b"")
    return 4


def _substrait_plan() -> bytes:
    context = SessionContext()
    context.from_pydict({"a": [1], "b": ["x"]}, name="t")
    plan: bytes = substrait.Serde.serialize_bytes("SELECT a + 1, b FROM t WHERE a > 0 ORDER BY a", context)
    return plan


def _own_actions(target: Target) -> Iterator[Case]:
    with fl.connect(f"grpc://{target.address}") as client:
        described = {action.type: action.description for action in client.list_actions()}
    for name, description in described.items():
        start = description.find('{"request"')
        if name not in decoding._ACTIONS and start >= 0:
            schema = json.loads(description[start:])["request"]
            for whole in (False, True):
                yield Case("DoAction", json.dumps(_example(schema, schema, "", whole=whole)).encode(), name)


def _example(schema: dict[str, Any], root: dict[str, Any], name: str, *, whole: bool) -> Any:
    """A value that a JSON schema allows: with all properties, or with those that must be there."""
    schema = schema["anyOf"][0] if "anyOf" in schema else schema
    schema = root["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    schema = schema["anyOf"][0] if "anyOf" in schema else schema
    match schema.get("type"):
        case "object":
            known = schema.get("properties", {})
            wanted = known if whole else schema.get("required", [])
            return {each: _example(known[each], root, each, whole=whole) for each in wanted}
        case "array":
            return [_example(schema.get("items") or {}, root, name, whole=whole)]
        case "integer" | "number":
            return 2
        case "boolean":
            return False
    return schema["enum"][0] if "enum" in schema else _TEXTS.get(name, "t")


@dataclass(frozen=True)
class Mutation:
    """A message as it is sent, and the headers with it."""

    rpc: str
    sent: tuple[bytes, ...]
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def given(self) -> Any:
        """What `Target.call` takes."""
        return iter(self.sent) if self.rpc in {"DoPut", "DoExchange"} else self.sent[0]


def mutation(number: int, cases: list[Case]) -> Mutation:
    """The mutation of that number.

    Args:
        number: Decides everything, together with the corpus.
        cases: The corpus.
    """
    random = Random(f"command {number}")  # noqa: S311  # repeatable on purpose
    case = random.choice(cases)
    others = [each.payload for each in random.choices(cases, k=3)]
    payload = _payload(random, case, others)
    action = mutated(random, case.action.encode()) if random.random() < 0.02 else case.action.encode()
    match case.rpc:
        case "DoGet":
            sent: tuple[bytes, ...] = (field(1, payload),)
        case "DoAction":
            sent = (field(1, action.decode("ascii", "ignore").encode()) + field(2, payload),)
        case "DoPut" | "DoExchange":
            sent = tuple(flight_messages(pa.table({"a": [1, 2], "b": ["x", "y"]}), descriptor(payload)))
        case _:
            sent = (descriptor(payload),)
    plain = Mutation(case.rpc, sent)
    if random.random() < 0.02 and case.rpc in {"GetFlightInfo", "GetSchema"}:
        parts = [mutated(random, part).decode("utf-8", "ignore") for part in (b"primary", b"t")]
        plain = replace(plain, sent=(path(*random.choice([parts, parts[:1], parts * 2, []])),))
    return replace(plain, headers=_headers(random)) if random.random() < 0.2 else plain


def _payload(random: Random, case: Case, others: list[bytes]) -> bytes:
    packed = unpack(case.payload)
    depth = random.random()
    if packed is not None and depth < 0.7:
        return _packed(packed.name, _message(random, packed.value, others, depth))
    if packed is None and depth < 0.7 and case.payload.startswith(b"{"):
        return json_mutated(random, case.payload)
    if packed is None and depth < 0.5 and case.payload.decode("utf-8", "replace") in STATEMENTS:
        return words_mutated(random, case.payload.decode(), _VOCABULARY).encode()
    bare = case.action in {"CancelFlightInfo", "RenewFlightEndpoint", "SetSessionOptions"}
    return message_mutated(random, case.payload, others) if bare else mutated(random, case.payload, others)


def _message(random: Random, value: bytes, others: list[bytes], depth: float) -> bytes:
    """A message of a command: with another statement, with a field changed, or with any of its bytes changed."""
    known = fields(value)
    if known and known[0].data.decode("utf-8", "replace") in STATEMENTS and depth < 0.4:
        text = words_mutated(random, known[0].data.decode(), _VOCABULARY)
        return b"".join(each.encoded() for each in [known[0]._replace(data=text.encode()), *known[1:]])
    return message_mutated(random, value, others) if depth < 0.55 else mutated(random, value, others)


def _packed(name: str, value: bytes) -> bytes:
    data: bytes = message_class("google.protobuf.Any")(
        type_url=f"type.googleapis.com/{name}", value=value
    ).SerializeToString()
    return data


def _headers(random: Random) -> tuple[tuple[str, str], ...]:
    known = {
        "cookie": "arrow_flight_session_id=abcdefghijklmnop; other=1",
        "x-lakehouse-bucket": "primary",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "authorization": random.choice(["Basic YTpi", "Bearer abc.def.ghi", "Bearer anonymous"]),
    }
    chosen = random.sample(sorted(known), random.randint(1, 4))
    return tuple((name, _text(random, known[name])) for name in chosen for _ in range(random.choice([1, 1, 1, 2])))


def _text(random: Random, text: str) -> str:
    """A header after a mutation; only what a client's library would send."""
    changed = mutated(random, text.encode()).decode("latin-1")
    kept = "".join(each if " " <= each <= "~" else random.choice(_PRINTABLE) for each in changed)
    return (kept * random.choice([1, 1, 1, 20]))[:1000]
