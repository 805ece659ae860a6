"""Whatever pyarrow raises leaves the client as an error of ours, without its noise."""

from __future__ import annotations

import inspect
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import flightclient
import pyarrow as pa
import pyarrow.flight as fl
import pytest
from flightclient import errors
from flightclient.translation import translate, translated

import flightserver.errors

if TYPE_CHECKING:
    from conftest import RunningServer
    from flightclient import Client

SERVER_ERRORS = [
    kind
    for _, kind in inspect.getmembers(flightserver.errors, inspect.isclass)
    if issubclass(kind, flightserver.errors.FlightserverError) and "code" in vars(kind) and kind.code != "FS-0000"
]


@pytest.mark.parametrize("kind", SERVER_ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_of_the_server_has_its_class_here_with_the_same_place_in_the_tree(
    kind: type[flightserver.errors.FlightserverError],
) -> None:
    found = translate(pa.ArrowInvalid(f"what was asked [{kind.code}]. Detail: Python exception: X"))

    assert (type(found).__name__, found.code, found.message) == (kind.__name__, kind.code, "what was asked")
    if kind is not flightserver.errors.InternalError:
        assert type(found).__mro__[1].__name__ == kind.__mro__[1].__name__


def test_a_code_that_is_not_known_yet_is_of_the_group_of_its_first_digit() -> None:
    found = translate(pa.ArrowInvalid("something new [FS-3999]"))

    assert (type(found), found.code) == (errors.RetryableError, "FS-3999")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (fl.FlightUnavailableError("x"), errors.ConnectionFailed),
        (fl.FlightTimedOutError("x"), errors.QueryTimeout),
        (fl.FlightCancelledError("x"), errors.Cancelled),
        (fl.FlightUnauthenticatedError("x"), errors.Unauthenticated),
        (fl.FlightUnauthorizedError("x"), errors.Forbidden),
        (fl.FlightServerError("x"), errors.ProtocolError),
        (fl.FlightInternalError("x"), errors.ProtocolError),
        (pa.ArrowInvalid("x"), errors.ProtocolError),
        (OSError("x"), errors.ProtocolError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else type(value).__name__,
)
def test_an_error_without_a_code_is_told_by_its_class(
    theirs: BaseException, ours: type[errors.FlightclientError]
) -> None:
    with pytest.raises(ours) as caught, translated():
        raise theirs

    assert caught.value.code == ""


def test_a_message_has_no_noise_of_grpc_or_python(client: Client) -> None:
    with pytest.raises(errors.NotFound) as caught:
        client.query("SELECT * FROM nowhere")

    assert str(caught.value) == "there is no dataset 'nowhere' [FS-1004]"
    assert caught.value.__suppress_context__


def test_nobody_at_the_address_is_a_connection_that_failed() -> None:
    with (
        flightclient.connect("grpc://127.0.0.1:1") as client,
        pytest.raises(errors.ConnectionFailed, match="Connection refused"),
    ):
        client.tables()


@pytest.mark.parametrize("uri", ["127.0.0.1:31337", "nothing://127.0.0.1", ""])
def test_an_address_that_is_none_is_refused_with_an_example(uri: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"is not an address such as 'grpc://127\.0\.0\.1:31337'"):
        flightclient.connect(uri)


def test_a_statement_that_is_cancelled_raises_no_keyboard_interrupt(server: RunningServer) -> None:
    """Pyarrow interrupts the main thread of the client's process, which is therefore another one than the test's."""
    script = f"""if True:
        import flightclient
        client = flightclient.connect({server.uri!r})
        try:
            client.query("SELECT count(*) FROM generate_series(1, 1000000000000) WHERE value % 7 = 0")
        except flightclient.FlightclientError as error:
            print(type(error).__name__, error.code)
    """
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as client:  # our own script
        while not server.lakehouse.gate.admission.counts().running:
            time.sleep(0.01)
        server.lakehouse.gate.running.cancel_all()
        output, _ = client.communicate(timeout=60)

    assert output == "Cancelled FS-4002\n"


def test_a_keyboard_interrupt_of_the_user_passes() -> None:
    with pytest.raises(KeyboardInterrupt), translated():
        raise KeyboardInterrupt
