"""When a server counts as silent, what that means to those who read, and what ends it."""

from __future__ import annotations

import io
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

import pytest
from faults.faulty_proxy import Fault, Proxy, always_hang, never
from obstore.exceptions import GenericError

from flightserver.errors import BackendUnavailable
from flightserver.storage.s3 import S3Objects
from flightserver.storage.s3_access import S3Timeouts
from flightserver.storage.s3_looking import expect_answer
from flightserver.storage.silence import SILENT_SECONDS, Silence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3server import S3Server

PATIENCE = 60.0
NO_ANSWER = GenericError("Generic S3 error: Error performing HEAD in 60s - HTTP error: error sending request")
BUSY = GenericError("Generic S3 error: in 60s - Server returned non-2xx status code: 503 Service Unavailable: ")
IMPATIENT = S3Timeouts(connect_seconds=0.2, request_seconds=0.2, retry_seconds=0.4, retries=10)


class Server:
    """A server of which a silence is kept, with the time that passes there.

    Attributes:
        answers: Whether looks are answered.
        looks: How many there were.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.silence = Silence(clock=lambda: self.now)
        self.answers = False
        self.looks = 0

    def fail(self, error: Exception, after: float, *, others_answered: bool = False) -> None:
        """A HEAD ends by an error, and in the middle of it another request by an answer."""
        with suppress(type(error)), self.silence.asking(PATIENCE):
            self.now += after / 2
            if others_answered:
                self.silence.answered()
            self.now += after / 2
            raise error

    def ask(self) -> None:
        """Raise if nobody should wait for an answer."""
        self.silence.check("read 'a'", self._look)

    def _look(self) -> bool:
        self.looks += 1
        return self.answers


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def silent(server: Server) -> Server:
    """A server that has just been waited for in vain."""
    server.fail(NO_ANSWER, after=PATIENCE)
    return server


def test_a_silent_server_is_looked_for_every_few_seconds_and_refused_between(silent: Server) -> None:
    looks = []
    for _ in range(12):
        silent.now += 1
        with pytest.raises(
            BackendUnavailable, match=r"^can't read 'a': the S3 server of this bucket doesn't answer: \d+ s"
        ):
            silent.ask()
        looks.append(silent.looks)

    assert looks == [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3]


def test_the_message_says_when_it_was_waited_for(silent: Server) -> None:
    silent.now += 12
    with pytest.raises(BackendUnavailable, match="12 seconds ago it was waited for in vain"):
        silent.ask()


def test_a_look_that_is_answered_ends_the_silence(silent: Server) -> None:
    silent.answers = True

    for _ in range(3):
        silent.ask()

    assert silent.looks == 1


def test_any_answer_ends_the_silence(silent: Server) -> None:
    with silent.silence.asking(PATIENCE):
        pass
    silent.ask()

    silent.fail(NO_ANSWER, after=PATIENCE)
    silent.fail(FileNotFoundError("404"), after=1)
    silent.ask()

    silent.fail(NO_ANSWER, after=PATIENCE)
    silent.fail(BUSY, after=PATIENCE)
    silent.ask()

    assert silent.looks == 0


def test_after_a_while_readers_are_patient_again(silent: Server) -> None:
    silent.now += SILENT_SECONDS

    silent.ask()

    assert silent.looks == 0


def test_a_server_that_was_asked_for_a_shorter_time_is_not_silent(server: Server) -> None:
    server.fail(NO_ANSWER, after=PATIENCE - 1)

    server.ask()

    assert server.looks == 0


def test_a_server_that_answers_others_meanwhile_is_slow_and_not_silent(server: Server) -> None:
    server.fail(NO_ANSWER, after=3 * PATIENCE, others_answered=True)

    server.ask()

    assert server.looks == 0


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[Proxy]:
    """What stands before the S3 server."""
    with Proxy(s3_server.endpoint) as running:
        yield running


def test_reads_of_a_server_that_hung_are_refused_until_it_answers(
    proxy: Proxy, s3_server: S3Server, s3_bucket: str
) -> None:
    access = s3_server.access(s3_bucket, timeouts=IMPATIENT, endpoint=proxy.endpoint)
    objects = S3Objects(access)
    expect_answer(access, "a")
    proxy.decide = always_hang
    with pytest.raises(BackendUnavailable):
        objects.head("a")
    before = len(proxy.asked)

    for _ in range(3):
        with pytest.raises(BackendUnavailable, match="seconds ago it was waited for in vain"):
            expect_answer(access, "a")
    assert len(proxy.asked) == before + 1  # one look, which is not repeated

    proxy.decide = never
    objects.put("a", b"written")  # whose answer is heard
    expect_answer(access, "a")
    assert objects.get("a") == b"written"


def test_a_look_at_a_server_that_is_back_lets_reads_through(proxy: Proxy, s3_server: S3Server, s3_bucket: str) -> None:
    access = s3_server.access(s3_bucket, timeouts=IMPATIENT, endpoint=proxy.endpoint)
    proxy.decide = always_hang
    with pytest.raises(BackendUnavailable):
        S3Objects(access).head("a")
    proxy.decide = never

    expect_answer(access, "a")
    expect_answer(access, "a")


@pytest.mark.parametrize("fault", [Fault.BUSY, Fault.RESET_BEFORE])
def test_a_server_that_fails_is_not_silent(fault: Fault, proxy: Proxy, s3_server: S3Server, s3_bucket: str) -> None:
    timeouts = S3Timeouts(request_seconds=30, retry_seconds=30, retries=1)
    access = s3_server.access(s3_bucket, timeouts=timeouts, endpoint=proxy.endpoint)
    proxy.decide = lambda *_: fault
    with pytest.raises(BackendUnavailable):
        S3Objects(access).head("a")
    before = len(proxy.asked)

    expect_answer(access, "a")

    assert len(proxy.asked) == before


REQUESTS: dict[str, Callable[[S3Objects], object]] = {
    "get": lambda objects: objects.get("a"),
    "get_range": lambda objects: objects.get_range("a", 0, 1),
    "head": lambda objects: objects.head("a"),
    "list": lambda objects: list(objects.list("")),
    "put": lambda objects: objects.put("b", b"1"),
    "put_parts": lambda objects: objects.put_parts("b", io.BytesIO(b"1"), 1),
    "delete": lambda objects: objects.delete("a"),
}


@pytest.mark.parametrize("is_refused", [False, True], ids=["done", "refused"])
@pytest.mark.parametrize("request_", REQUESTS)
def test_every_answer_to_every_request_ends_the_silence(
    request_: str, proxy: Proxy, s3_server: S3Server, s3_bucket: str, *, is_refused: bool
) -> None:
    access = s3_server.access(s3_bucket, timeouts=IMPATIENT, endpoint=proxy.endpoint)
    objects = S3Objects(access)
    objects.put("a", b"1")
    proxy.decide = always_hang
    with pytest.raises(BackendUnavailable):
        objects.head("a")
    proxy.decide = (lambda *_: Fault.BUSY) if is_refused else never

    with pytest.raises(BackendUnavailable) if is_refused else nullcontext():
        REQUESTS[request_](objects)

    before = len(proxy.asked)
    expect_answer(access, "a")
    assert len(proxy.asked) == before  # nobody has to look


def test_writes_are_never_refused(proxy: Proxy, s3_server: S3Server, s3_bucket: str) -> None:
    access = s3_server.access(s3_bucket, timeouts=IMPATIENT, endpoint=proxy.endpoint)
    objects = S3Objects(access)
    proxy.decide = always_hang
    with pytest.raises(BackendUnavailable):
        objects.head("a")

    proxy.decide = never
    with objects.writer("a") as writer:
        writer.write(b"all of it")
        writer.commit()
    assert objects.get("a") == b"all of it"
