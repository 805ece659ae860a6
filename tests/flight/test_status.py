"""What a client sees of each domain error, over a real socket, at every place where a handler can fail."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.flight as fl
import pytest

from flightserver import errors
from flightserver.flight.sql.protocol import message_class
from flightserver.flight.status import to_flight_error, translated, translated_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MESSAGE = "Nothing is called 'Grünkohl'"
LIKE_A_CODE = "Nothing is called '[FS-2002]'"
SCHEMA = pa.schema([("a", pa.int64())])
BATCH = pa.record_batch({"a": [1]}, schema=SCHEMA)

INVALID, NOT_FOUND, UNAVAILABLE = pa.ArrowInvalid, pa.lib.ArrowKeyError, fl.FlightUnavailableError

EXPECTED: dict[str, tuple[BaseException, Any, int | None, str]] = {
    "InvalidRequest": (errors.InvalidRequest(MESSAGE), INVALID, None, "FS-1001"),
    "SchemaMismatch": (errors.SchemaMismatch(MESSAGE), INVALID, None, "FS-1002"),
    "DimensionMismatch": (errors.DimensionMismatch(MESSAGE), INVALID, None, "FS-1003"),
    "NotFound": (errors.NotFound(MESSAGE), NOT_FOUND, None, "FS-1004"),
    "AlreadyExists": (errors.AlreadyExists(MESSAGE), INVALID, None, "FS-1005"),
    "SchemaDrift": (errors.SchemaDrift(MESSAGE), INVALID, None, "FS-1006"),
    "Unauthenticated": (errors.Unauthenticated(MESSAGE), fl.FlightUnauthenticatedError, 16, "FS-2001"),
    "Forbidden": (errors.Forbidden(MESSAGE), fl.FlightUnauthorizedError, 7, "FS-2002"),
    "CommitConflict": (errors.CommitConflict(MESSAGE, details={"dataset": "people"}), UNAVAILABLE, 14, "FS-3001"),
    "Overloaded": (errors.Overloaded(MESSAGE), UNAVAILABLE, 14, "FS-3002"),
    "LimitExceeded": (errors.LimitExceeded(MESSAGE), UNAVAILABLE, 14, "FS-3003"),
    "BackendUnavailable": (errors.BackendUnavailable(MESSAGE), UNAVAILABLE, 14, "FS-3004"),
    "QueryTimeout": (errors.QueryTimeout(MESSAGE), fl.FlightTimedOutError, 4, "FS-4001"),
    "Cancelled": (errors.Cancelled(MESSAGE), fl.FlightCancelledError, 1, "FS-4002"),
    "InternalError": (errors.InternalError("secret"), fl.FlightInternalError, 13, "FS-5001"),
    "a defect": (ZeroDivisionError("secret"), fl.FlightInternalError, 13, "FS-5001"),
    "a foreign error": (pa.ArrowInvalid("secret"), fl.FlightInternalError, 13, "FS-5001"),
    "SystemExit": (SystemExit("secret"), fl.FlightInternalError, 13, "FS-5001"),
    "MemoryError": (MemoryError("secret"), UNAVAILABLE, 14, "FS-3003"),
}


class FailingServer(fl.FlightServerBase):
    """Fails everywhere with the error that the client names."""

    def _fail(self, name: bytes) -> Any:
        raise EXPECTED[name.decode()][0]

    def _fail_late(self, name: bytes, item: Any) -> Iterator[Any]:
        yield item
        self._fail(name)

    @translated("DoGet")
    def do_get(self, _context: Any, ticket: Any) -> Any:
        name = ticket.ticket.removeprefix(b"late:")
        if name == ticket.ticket:
            self._fail(name)
        return fl.GeneratorStream(SCHEMA, translated_batches(self._fail_late(name, BATCH), "DoGet"))

    @translated("GetFlightInfo")
    def get_flight_info(self, _context: Any, descriptor: Any) -> Any:
        return self._fail(descriptor.command)

    @translated("GetSchema")
    def get_schema(self, _context: Any, descriptor: Any) -> Any:
        return self._fail(descriptor.command)

    @translated("DoPut")
    def do_put(self, _context: Any, descriptor: Any, _reader: Any, _writer: Any) -> None:
        self._fail(descriptor.command)

    @translated("DoExchange")
    def do_exchange(self, _context: Any, descriptor: Any, _reader: Any, _writer: Any) -> None:
        self._fail(descriptor.command)

    @translated("DoAction")
    def do_action(self, _context: Any, action: Any) -> Any:
        if action.type == "fail":
            self._fail(action.body.to_pybytes())
        return translated_batches(self._fail_late(action.body.to_pybytes(), fl.Result(b"first")), "DoAction")

    @translated("ListFlights")
    def list_flights(self, _context: Any, criteria: Any) -> Any:
        return self._fail(criteria)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with FailingServer("grpc://127.0.0.1:0") as server, fl.connect(f"grpc://127.0.0.1:{server.port}") as client:
        yield client


def _command(name: str) -> Any:
    return fl.FlightDescriptor.for_command(name)


def _put(client: Any, name: str) -> None:
    writer, reader = client.do_put(_command(name), SCHEMA)
    writer.done_writing()
    reader.read()
    writer.close()


def _exchange(client: Any, name: str) -> None:
    writer, reader = client.do_exchange(_command(name))
    writer.done_writing()
    reader.read_all()


CALLS: dict[str, Callable[[Any, str], object]] = {
    "DoGet before the first batch": lambda client, name: client.do_get(fl.Ticket(name)).read_all(),
    "DoGet in mid-stream": lambda client, name: client.do_get(fl.Ticket(f"late:{name}")).read_all(),
    "GetFlightInfo": lambda client, name: client.get_flight_info(_command(name)),
    "GetSchema": lambda client, name: client.get_schema(_command(name)),
    "DoPut": _put,
    "DoExchange": _exchange,
    "DoAction before the first result": lambda client, name: list(client.do_action(fl.Action("fail", name.encode()))),
    "DoAction after a result": lambda client, name: list(client.do_action(fl.Action("late", name.encode()))),
    "ListFlights": lambda client, name: list(client.list_flights(name.encode())),
}


def test_the_code_is_the_only_one_in_brackets_whatever_things_are_called() -> None:
    assert str(to_flight_error(errors.NotFound(LIKE_A_CODE), "DoGet")) == "Nothing is called '(FS-2002)' [FS-1004]"


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", EXPECTED)
def test_every_error_arrives_with_its_status_and_code_and_without_a_traceback(
    client: Any, call: str, name: str
) -> None:
    error, expected, number, code = EXPECTED[name]
    in_get_schema = call == "GetSchema" and number is not None

    # pyarrow's client turns CANCELLED into KeyboardInterrupt in some of its calls, without a message
    with pytest.raises((pa.ArrowException, KeyboardInterrupt)) as caught:
        CALLS[call](client, name)

    if isinstance(caught.value, KeyboardInterrupt):
        assert name == "Cancelled"
        return
    text = str(caught.value)
    assert type(caught.value) is (pa.ArrowException if in_get_schema else expected)
    assert f"[{code}]" in text
    assert "Traceback" not in text
    assert "File " not in text
    assert ".py" not in text
    assert "secret" not in text
    if isinstance(error, errors.FlightserverError) and code != "FS-5001":
        assert MESSAGE in text


@pytest.mark.parametrize("name", [name for name, expected in EXPECTED.items() if expected[2] is not None])
def test_extra_info_is_a_google_rpc_status_with_the_same_code(client: Any, name: str) -> None:
    error, _, number, code = EXPECTED[name]

    with pytest.raises(fl.FlightError) as caught:
        client.get_flight_info(_command(name))

    status = message_class("google.rpc.Status").FromString(caught.value.extra_info)
    info = message_class("google.rpc.ErrorInfo").FromString(status.details[0].value)
    assert (status.code, info.reason, info.domain) == (number, code, "flightserver")
    assert status.details[0].type_url == "type.googleapis.com/google.rpc.ErrorInfo"
    if isinstance(error, errors.FlightserverError) and error.details:
        assert dict(info.metadata) == error.details


@pytest.mark.parametrize("character", ["x", "ü", "漢", "\n"])
@pytest.mark.parametrize("kind", [errors.InvalidRequest, errors.NotFound, errors.Overloaded, errors.Forbidden])
def test_a_long_message_is_clipped_instead_of_breaking_the_call(
    client: Any, monkeypatch: pytest.MonkeyPatch, character: str, kind: type[errors.FlightserverError]
) -> None:
    error = kind("Begin" + character * 20_000, details={"path": "ü" * 290})
    monkeypatch.setitem(EXPECTED, "long", (error, None, None, kind.code))

    for call in ("GetFlightInfo", "DoGet in mid-stream", "DoPut"):
        with pytest.raises(pa.ArrowException) as caught:
            CALLS[call](client, "long")
        assert "Begin" in str(caught.value)
        assert f"... [{kind.code}]" in str(caught.value)


def test_the_traceback_of_a_defect_goes_to_the_log_under_the_incident_that_the_client_reads(
    client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(fl.FlightInternalError) as caught:
        client.get_flight_info(_command("a defect"))

    (record,) = [record for record in caplog.records if record.name == "flightserver.flight.status"]
    assert record.incident in str(caught.value)  # type: ignore[attr-defined]  # set by `extra`
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_expected_errors_are_not_logged(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(pa.ArrowInvalid):
        client.get_flight_info(_command("InvalidRequest"))

    assert caplog.records == []


@pytest.mark.parametrize("name", EXPECTED)
def test_formatting_the_traceback_of_a_sent_error_fails_on_every_python(name: str) -> None:
    # traceback.py of 3.12 and later guards the notes by `except Exception`, so what they raise must not be one.
    sent = to_flight_error(EXPECTED[name][0], "DoGet")

    with pytest.raises(BaseException) as caught:  # noqa: PT011  # its class is private
        traceback.format_exception(sent)

    assert not isinstance(caught.value, Exception)


def test_every_class_of_the_error_tree_has_a_status() -> None:
    kinds = [errors.FlightserverError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())

    assert all(isinstance(to_flight_error(kind("text"), "DoGet"), pa.ArrowException) for kind in kinds)


def test_a_translated_error_is_not_translated_again() -> None:
    sent = to_flight_error(errors.NotFound("no such table"), "DoGet")

    assert to_flight_error(sent, "DoGet") is sent


def test_closing_a_translated_stream_closes_its_source_and_raises_nothing() -> None:
    closed = []

    def source() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    stream = translated_batches(source(), "DoGet")
    next(stream)
    stream.close()

    assert closed == [True]


def test_hints_are_for_who_sees_and_for_nobody_when_that_cannot_be_found_out(caplog: pytest.LogCaptureFixture) -> None:
    error = errors.NotFound("there is no dataset 'a'", lambda sees: "; similar: b" if sees("primary", "b") else "")

    def broken() -> errors.Sees:
        raise ZeroDivisionError

    told = [to_flight_error(error, "DoGet", sight) for sight in (lambda: errors.sees_all, broken)]

    assert [str(one).partition(" [")[0] for one in told] == [
        "there is no dataset 'a'; similar: b",
        "there is no dataset 'a'",
    ]
    assert "nobody knows what a caller may see" in caplog.text
