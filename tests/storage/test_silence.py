"""When a server counts as silent, what that means to those who read, and what ends it."""

from __future__ import annotations

import io
import threading
import time
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from faults.faulty_proxy import Fault, Proxy, always_hang, never
from obstore.exceptions import GenericError

from flightserver.errors import BackendUnavailable
from flightserver.storage.s3 import S3Objects
from flightserver.storage.s3_access import S3Timeouts
from flightserver.storage.s3_looking import expect_answer
from flightserver.storage.silence import SILENT_SECONDS, WAITING_SECONDS, Silence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3server import S3Server

PATIENCE = 60.0
NO_ANSWER = GenericError("Generic S3 error: Error performing HEAD in 60s - HTTP error: error sending request")
NOBODY = GenericError(
    "Generic S3 error: Error performing HEAD in 4s, after 10 retries - HTTP error: error sending request\n"
    'HttpError {\n    kind: Connect,\n    source: ConnectError("tcp connect error", 127.0.0.1:9, Os {\n'
    '        code: 111,\n        kind: ConnectionRefused,\n        message: "Connection refused",\n'
)
PAUSE = 5.0
"""Between two looks of those who read."""
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

    def ask(self, *, elsewhere: bool = False) -> None:
        """Raise if nobody should wait for an answer."""
        self.silence.check("read 'a'", self._look, elsewhere=elsewhere)

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


def test_a_server_that_nobody_can_connect_to_is_silent_however_soon_that_is_known(server: Server) -> None:
    server.fail(NOBODY, after=4)
    with pytest.raises(BackendUnavailable, match="0 seconds ago it was waited for in vain"):
        server.ask()

    server.answers = True
    server.now += PAUSE
    server.ask()
    server.fail(NOBODY, after=4, others_answered=True)
    server.ask()

    assert server.looks == 2


def test_who_may_read_elsewhere_does_not_wait_while_a_look_waits_for_long(
    server: Server,
) -> None:
    with suppress(GenericError), server.silence.asking(PATIENCE):
        server.now += WAITING_SECONDS - 0.1
        server.ask(elsewhere=True)
        server.now += 7.1
        with pytest.raises(BackendUnavailable, match="doesn't answer: 12 seconds it has been waited for by now"):
            server.ask(elsewhere=True)
        assert server.looks == 1
        server.now += PATIENCE
        raise NO_ANSWER
    server.now += SILENT_SECONDS - 1
    with server.silence.asking(PATIENCE), suppress(GenericError), server.silence.asking(PATIENCE):
        server.now += WAITING_SECONDS + 1  # between one look and the next there is no gap
        with pytest.raises(BackendUnavailable):
            server.ask(elsewhere=True)


def test_other_requests_that_wait_say_nothing(server: Server) -> None:
    with server.silence.asking():
        server.now += PATIENCE
        server.ask(elsewhere=True)

    assert server.looks == 0


def test_a_look_that_waits_says_nothing_once_another_request_was_answered(server: Server) -> None:
    with server.silence.asking(PATIENCE):
        server.now += 3
        server.silence.answered()
        server.now += 30
        server.ask(elsewhere=True)

    assert server.looks == 0


def test_a_server_that_was_slow_lately_has_more_time(server: Server) -> None:
    for _ in range(2):
        with server.silence.asking(PATIENCE):
            server.now += 8
    with server.silence.asking(PATIENCE):
        server.now += 15
        server.ask(elsewhere=True)
        assert server.looks == 0
        server.now += 1
        with pytest.raises(BackendUnavailable):
            server.ask(elsewhere=True)


def test_who_may_not_read_elsewhere_waits_with_others_for_a_server_that_stalls(server: Server) -> None:
    with server.silence.asking(PATIENCE):
        server.now += PATIENCE - 0.1
        server.ask()

    assert server.looks == 0


def test_a_server_is_doubtful_from_a_request_without_an_answer_to_the_next_answer(server: Server) -> None:
    found = [server.silence.is_doubtful]
    for after, others_answered in ((0.1, True), (0.1, False)):
        server.fail(NO_ANSWER, after=after, others_answered=others_answered)
        found.append(server.silence.is_doubtful)
    server.fail(BUSY, after=1)
    found.append(server.silence.is_doubtful)

    assert found == [False, False, True, False]


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


def test_a_server_that_is_not_there_is_silent_after_a_look_and_used_when_it_is(
    s3_server: S3Server, s3_bucket: str
) -> None:
    with Proxy(s3_server.endpoint) as gone:
        pass
    timeouts = S3Timeouts(retries=1)
    access = s3_server.access(s3_bucket, timeouts=timeouts, endpoint=gone.endpoint)
    objects = S3Objects(access)
    with pytest.raises(BackendUnavailable):
        objects.head("_staging/probe")

    with pytest.raises(BackendUnavailable, match="seconds ago it was waited for in vain"):
        expect_answer(access, "a")


def test_a_hung_server_that_a_look_waits_for_is_not_waited_for_by_readers(
    proxy: Proxy, s3_server: S3Server, s3_bucket: str
) -> None:
    patient = S3Timeouts(request_seconds=600, retry_seconds=600, retries=0)
    now = 1000.0
    access = replace(
        s3_server.access(s3_bucket, timeouts=patient, endpoint=proxy.endpoint), silence=Silence(clock=lambda: now)
    )
    proxy.decide = always_hang

    def ask() -> None:
        with suppress(BackendUnavailable):  # it ends with the proxy
            S3Objects(access).head("_staging/probe")

    look = threading.Thread(target=ask, daemon=True)
    look.start()
    while not proxy.asked:
        time.sleep(0.01)
    now += WAITING_SECONDS

    with pytest.raises(BackendUnavailable, match="5 seconds it has been waited for by now"):
        expect_answer(access, "a", elsewhere=True)

    assert [asked.method for asked in proxy.asked] == ["HEAD", "HEAD"]
    assert look.is_alive()
