"""Calls of Flight SQL that no driver makes yet: savepoints, ingestion within a transaction, GetTables as its bytes."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from flight.sql.commanding import prepare
from query.asking import rows, run

from flightserver.flight.sql.protocol import enum_values, message_class, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import RunningServer


def _message(name: str, /, **fields: Any) -> Any:
    return message_class(f"arrow.flight.protocol.sql.{name}")(**fields)


class Caller:
    """The actions of transactions, by the bytes of the protocol."""

    def __init__(self, client: fl.FlightClient) -> None:
        self.client = client

    def begin(self) -> bytes:
        return bytes(self._asked("BeginTransaction").transaction_id)

    def end(self, transaction: bytes, action: int) -> None:
        self._told("EndTransaction", transaction_id=transaction, action=action)

    def savepoint(self, transaction: bytes, name: str) -> bytes:
        return bytes(self._asked("BeginSavepoint", transaction_id=transaction, name=name).savepoint_id)

    def end_savepoint(self, savepoint: bytes, action: int) -> None:
        self._told("EndSavepoint", savepoint_id=savepoint, action=action)

    def ingest(self, values: list[int], **fields: Any) -> int:
        """Append to `items`; returns the count that the server answers."""
        append = {"table_definition_options": {"if_not_exist": 2, "if_exists": 2}}
        command = _message("CommandStatementIngest", table="items", **(append | fields))
        table = pa.table({"n": pa.array(values, pa.int64())})
        writer, reader = self.client.do_put(fl.FlightDescriptor.for_command(pack(command)), table.schema)
        with writer:
            writer.write_table(table)
            writer.done_writing()
            answer = message_class("arrow.flight.protocol.sql.DoPutUpdateResult").FromString(reader.read().to_pybytes())
            return int(answer.record_count)

    def query(self, sql: str, transaction: bytes) -> Any:
        return self.read("CommandStatementQuery", query=sql, transaction_id=transaction).to_pylist()

    def read(self, command: str, **fields: Any) -> pa.Table:
        packed = pack(_message(command, **fields))
        info = self.client.get_flight_info(fl.FlightDescriptor.for_command(packed))
        return self.client.do_get(info.endpoints[0].ticket).read_all()

    def _asked(self, type_: str, **fields: Any) -> Any:
        """The answer to an action."""
        [answer] = self._act(type_, fields)
        packed = unpack(answer.body.to_pybytes())
        assert packed is not None
        return message_class(f"arrow.flight.protocol.sql.Action{type_}Result").FromString(packed.value)

    def _told(self, type_: str, **fields: Any) -> None:
        """An action that answers nothing."""
        assert self._act(type_, fields) == []

    def _act(self, type_: str, fields: dict[str, Any]) -> list[fl.Result]:
        body = pack(_message(f"Action{type_}Request", **fields))
        return list(self.client.do_action(fl.Action(type_, body)))


COMMIT, ROLLBACK = 1, 2
RELEASE = 1
CREATE = {"if_not_exist": 1, "if_exists": 1}


@pytest.fixture
def caller(server: RunningServer, flight_client: fl.FlightClient) -> Caller:
    run(server.lakehouse, "CREATE TABLE items (n BIGINT)")
    return Caller(flight_client)


@pytest.fixture
def other(server: RunningServer, caller: Caller) -> Iterator[Caller]:  # noqa: ARG001  # the table is there first
    """Another connection."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with fl.connect(server.uri, generic_options=options) as client:
        yield Caller(client)


def items(server: RunningServer) -> list[Any]:
    return [n for (n,) in rows(server.lakehouse, "SELECT n FROM items ORDER BY n")]


def test_an_ingestion_within_a_transaction_is_seen_by_it_and_by_others_after_the_commit(
    server: RunningServer, caller: Caller
) -> None:
    transaction = caller.begin()
    assert caller.ingest([1, 2], transaction_id=transaction) == 2

    assert caller.query("SELECT sum(n) AS s FROM items", transaction) == [{"s": 3}]
    assert items(server) == []
    caller.end(transaction, COMMIT)
    assert items(server) == [1, 2]


def test_an_ingestion_within_a_transaction_is_rolled_back_with_it(server: RunningServer, caller: Caller) -> None:
    transaction = caller.begin()
    caller.ingest([1, 2], transaction_id=transaction)

    caller.end(transaction, ROLLBACK)

    assert items(server) == []
    with pytest.raises(KeyError, match=r"no open transaction.*FS-1004"):
        caller.ingest([3], transaction_id=transaction)
    assert not list(server.lakehouse.buckets.get("primary").objects.list("datasets/"))


def test_what_names_a_transaction_that_has_ended_is_not_part_of_the_next(server: RunningServer, caller: Caller) -> None:
    """A prepared statement is: drivers keep those over commits."""
    ended = caller.begin()
    asked = pack(_message("CommandStatementQuery", query="INSERT INTO items VALUES (1)", transaction_id=ended))
    ticket = caller.client.get_flight_info(fl.FlightDescriptor.for_command(asked)).endpoints[0].ticket
    prepared = prepare(caller.client, query="SELECT count(*) AS n FROM items", transaction_id=ended)
    caller.end(ended, COMMIT)
    begun = caller.begin()
    caller.ingest([7], transaction_id=begun)

    with pytest.raises(KeyError, match="there is no open transaction of this id"):
        caller.query("SELECT n FROM items", ended)
    with pytest.raises(KeyError, match="there is no open transaction of this id"):
        caller.client.do_get(ticket).read_all()
    followed = caller.read("CommandPreparedStatementQuery", prepared_statement_handle=prepared.handle).to_pylist()
    caller.end(begun, COMMIT)

    assert followed == [{"n": 1}]
    assert rows(server.lakehouse, "SELECT n FROM items") == [(7,)]


def test_savepoints_by_the_actions_of_the_protocol(server: RunningServer, caller: Caller) -> None:
    transaction = caller.begin()
    caller.ingest([1], transaction_id=transaction)
    first = caller.savepoint(transaction, "first")
    caller.ingest([2], transaction_id=transaction)
    second = caller.savepoint(transaction, "second")
    caller.ingest([3], transaction_id=transaction)

    caller.end_savepoint(second, ROLLBACK)
    assert caller.query("SELECT n FROM items ORDER BY n", transaction) == [{"n": 1}, {"n": 2}]
    caller.end_savepoint(first, RELEASE)
    for action in (RELEASE, ROLLBACK):
        with pytest.raises(KeyError, match=r"this savepoint has ended.*FS-1004"):
            caller.end_savepoint(second, action)
    caller.end(transaction, COMMIT)

    assert items(server) == [1, 2]
    with pytest.raises(KeyError, match="no open transaction"):
        caller.end_savepoint(first, ROLLBACK)


def test_savepoints_are_advertised(caller: Caller) -> None:
    ids = enum_values("SqlInfo")
    wanted = [ids["FLIGHT_SQL_SERVER_TRANSACTION"], ids["SQL_SAVEPOINTS_SUPPORTED"]]

    found = caller.read("CommandGetSqlInfo", info=wanted)

    savepoint = enum_values("SqlSupportedTransaction")["SQL_SUPPORTED_TRANSACTION_SAVEPOINT"]
    assert dict(zip(found["info_name"].to_pylist(), found["value"].to_pylist(), strict=True)) == dict(
        zip(wanted, [savepoint, True], strict=True)
    )


def test_a_savepoint_of_no_transaction_is_refused(caller: Caller) -> None:
    with pytest.raises(KeyError, match="no open transaction"):
        caller.savepoint(b"unknown", "s")
    with pytest.raises(KeyError, match="no id of a savepoint"):
        caller.end_savepoint(b"unknown", ROLLBACK)


def test_a_temporary_table_is_listed_for_its_owner_without_a_schema(caller: Caller, other: Caller) -> None:
    command = _message(
        "CommandStatementIngest", table="fresh", table_definition_options=CREATE, temporary=True, schema=""
    )
    table = pa.table({"n": [1, 2]})
    writer, _ = caller.client.do_put(fl.FlightDescriptor.for_command(pack(command)), table.schema)
    with writer:
        writer.write_table(table)

    expected = {
        "catalog_name": "lakehouse",
        "db_schema_name": "",
        "table_name": "fresh",
        "table_type": "LOCAL TEMPORARY",
    }
    for wanted in ({"table_types": ["LOCAL TEMPORARY"]}, {"table_name_filter_pattern": "fr%"}):
        assert caller.read("CommandGetTables", **wanted).to_pylist() == [expected]
        assert other.read("CommandGetTables", **wanted).to_pylist() == []
    [listed] = caller.read("CommandGetTables", include_schema=True, table_name_filter_pattern="fresh").to_pylist()
    assert pa.ipc.read_schema(pa.py_buffer(listed["table_schema"])).names == ["n"]
    everything = caller.read("CommandGetTables", include_schema=True)
    assert everything["table_name"].to_pylist().count("items") == 2
    assert "fresh" in everything["table_name"].to_pylist()
    none = caller.read("CommandGetTables", db_schema_filter_pattern="public", table_name_filter_pattern="fresh")
    assert none.to_pylist() == []


def test_a_ticket_of_a_temporary_table_is_read_again_by_its_owner_alone(caller: Caller, other: Caller) -> None:
    caller.ingest([1], temporary=True, table_definition_options=CREATE)
    packed = pack(_message("CommandStatementQuery", query="SELECT n FROM items"))
    [endpoint] = caller.client.get_flight_info(fl.FlightDescriptor.for_command(packed)).endpoints

    for _ in range(2):
        assert caller.client.do_get(endpoint.ticket).read_all().to_pylist() == [{"n": 1}]
    assert other.client.do_get(endpoint.ticket).read_all().to_pylist() == []


def test_a_ticket_that_nobody_fetches_holds_no_rows_of_a_dropped_table(caller: Caller) -> None:
    table = pa.table({"n": pa.nulls(1_000_000, pa.int64()).fill_null(7)})
    command = _message("CommandStatementIngest", table="fresh", table_definition_options=CREATE, temporary=True)
    before = pa.total_allocated_bytes()
    writer, reader = caller.client.do_put(fl.FlightDescriptor.for_command(pack(command)), table.schema)
    with writer:
        # Several batches are copied into one, in memory that Arrow counts.
        writer.write_table(table, max_chunksize=250_000)
        writer.done_writing()
        reader.read()
    held = pa.total_allocated_bytes() - before

    packed = pack(_message("CommandStatementQuery", query="SELECT n FROM fresh"))
    caller.client.get_flight_info(fl.FlightDescriptor.for_command(packed))
    caller.read("CommandStatementQuery", query="DROP TABLE fresh")
    gc.collect()

    assert held >= 8_000_000
    assert pa.total_allocated_bytes() - before < 1_000_000


def test_the_ticket_of_a_drop_drops_once(server: RunningServer, caller: Caller) -> None:
    caller.ingest([1], temporary=True, table_definition_options=CREATE)
    packed = pack(_message("CommandStatementQuery", query="DROP TABLE items"))
    [endpoint] = caller.client.get_flight_info(fl.FlightDescriptor.for_command(packed)).endpoints

    for _ in range(2):
        assert caller.client.do_get(endpoint.ticket).read_all().to_pylist() == [{"count": 0}]

    assert server.lakehouse.temporary.bytes == 0
    assert items(server) == []


def test_the_ticket_of_a_drop_never_drops_the_table_that_was_hidden(
    server: RunningServer, caller: Caller, other: Caller
) -> None:
    caller.ingest([1], temporary=True, table_definition_options=CREATE)

    def ticket(sql: str) -> fl.Ticket:
        packed = pack(_message("CommandStatementQuery", query=sql))
        return caller.client.get_flight_info(fl.FlightDescriptor.for_command(packed)).endpoints[0].ticket

    drop, if_exists = ticket("DROP TABLE items"), ticket("DROP TABLE IF EXISTS items")

    with pytest.raises(KeyError, match="temporary table 'items' doesn't exist"):
        other.client.do_get(drop).read_all()
    assert other.client.do_get(if_exists).read_all().to_pylist() == [{"count": 0}]
    assert items(server) == []
