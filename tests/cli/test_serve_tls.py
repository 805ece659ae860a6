"""`flightserver serve` with TLS in a process of its own: who is let in by it, and when it doesn't begin to listen."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from certificates import LOCALHOST, Authority
from faults.serving import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PASSWORD = "correct horse"  # noqa: S105  # of a user that the tests make
ANSWERED = (0, '"one"\n1\n', "")
"""What a query leaves: its exit status, its output and nothing on standard error."""

EVERYWHERE = "0.0.0.0"  # noqa: S104  # it is refused


@dataclass(frozen=True)
class Left:
    """What a command left: its exit status and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def seen(self) -> tuple[int, str, str]:
        return self.status, self.out, self.err

    def refused(self) -> str:
        """The one line that a command writes which could not do what it was asked."""
        assert (self.status, self.out) == (1, ""), self
        (line,) = self.err.splitlines()
        assert line.startswith("error: ")
        return line.removeprefix("error: ")


def flightserver(*arguments: str | Path, typed: str = "", password: str = "") -> Left:
    """Run a command in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLIGHTSERVER_")}
    finished = subprocess.run(
        [sys.executable, "-m", "flightserver.cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        input=typed,
        env=environment | ({"FLIGHTSERVER_PASSWORD": password} if password else {}),
    )
    return Left(finished.returncode, finished.stdout, finished.stderr)


class Place:
    """A directory with a lakehouse, an authority in `ca.pem`, and what it has signed for a server."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = path / "data"
        self.roots = path / "ca.pem"
        self.authority = Authority.in_file(self.roots)
        self.certificate, self.key = self.authority.sign("localhost", LOCALHOST).write(path, "server")

    @property
    def tls(self) -> tuple[str, ...]:
        """What has a server use TLS."""
        return ("--tls-certificate", str(self.certificate), "--tls-key", str(self.key))

    def add_ann(self) -> None:
        """Make the first user, an administrator with a password."""
        made = flightserver(
            "users", "add", "ann", "--role", "admin", "--password-stdin", "--data", self.data, typed=f"{PASSWORD}\n"
        )
        assert made.status == 0, made

    def serve(self, *flags: str) -> ServerProcess:
        """A server with TLS."""
        return ServerProcess(self.data, *self.tls, *flags)

    def refused(self, *flags: str) -> str:
        """The one line of a server that doesn't start; what it logged before is left out."""
        left = flightserver("serve", "--data", self.data, "--port", "0", "--http-port", "0", *flags)
        told = "".join(line for line in left.err.splitlines(keepends=True) if " INFO " not in line)
        return Left(left.status, left.out, told).refused()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A place of its own for a test."""
    return Place(tmp_path)


@dataclass(frozen=True)
class Served:
    """A server with TLS and the user `ann`."""

    place: Place
    server: ServerProcess

    def ask(self, *flags: str | Path, password: str = "", roots: Path | None = None) -> Left:
        """Run a query; checks the server by the authority that signed for it, if no other is given."""
        told = ("query", "SELECT 1 AS one", "--format", "csv", "--uri", self.server.uri)
        return flightserver(*told, "--tls-roots", roots or self.place.roots, *flags, password=password)

    def whom(self, *flags: str | Path, password: str = "") -> tuple[str, str]:
        """Whom the server takes a client for, and why."""
        told = ("action", "user.whoami", "--uri", self.server.uri, "--tls-roots", self.place.roots)
        answer = json.loads(flightserver(*told, *flags, password=password).out)["result"]
        return answer["name"], answer["method"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One for all tests that change nothing of it but make tokens."""
    place = Place(tmp_path_factory.mktemp("served"))
    place.add_ann()
    with place.serve() as server:
        yield Served(place, server)


def trusting(roots: Path) -> ssl.SSLContext:
    """What checks a server's certificate by an authority."""
    return ssl.create_default_context(cafile=roots)


def shown(uri: str) -> str:
    """The certificate, in PEM, that a server shows where it listens."""
    host, port = re.fullmatch(r"[a-z+]+://([0-9.]+):(\d+)", uri).groups()  # type: ignore[union-attr]  # it fails then
    return ssl.get_server_certificate((host, int(port)), timeout=10)


def test_who_is_known_is_served(served: Served) -> None:
    assert re.fullmatch(r"grpc\+tls://127\.0\.0\.1:\d+", served.server.uri)
    assert re.fullmatch(r"https://127\.0\.0\.1:\d+", served.server.web)

    assert served.ask("--user", "ann", password=PASSWORD).seen == ANSWERED
    assert served.whom("--user", "ann", password=PASSWORD) == ("ann", "password")

    place = ("--uri", served.server.uri, "--tls-roots", served.place.roots)
    made = flightserver("users", "token", "ann", *place, "--user", "ann", password=PASSWORD)
    assert made.status == 0
    token = made.out.strip()
    assert served.ask("--token", token).seen == ANSWERED
    assert served.whom("--token", token) == ("ann", "token")
    assert served.ask("--token", token[:-1]).refused().startswith("This API token is not valid: it was mistyped or cut")


def test_who_is_not_known_is_told_so_in_one_line(served: Served) -> None:
    assert re.match(r"This server wants to know who calls: .* \[FS-2001\]$", served.ask().refused())
    wrong = "User name and password don't belong together, or the user is disabled. [FS-2001]"
    assert served.ask("--user", "ann", password="incorrect horse").refused() == wrong  # noqa: S106  # as it says
    assert served.ask("--user", "bob", password=PASSWORD).refused() == wrong


def test_without_a_terminal_no_password_is_asked_for(served: Served) -> None:
    assert (
        served.ask("--user", "ann").refused()
        == "there is no terminal to ask for the password of 'ann': put it in FLIGHTSERVER_PASSWORD [FS-1001]"
    )


def test_a_server_that_an_unknown_authority_has_signed_is_not_talked_to(served: Served, tmp_path: Path) -> None:
    Authority.in_file(tmp_path / "other.pem")
    line = served.ask("--user", "ann", password=PASSWORD, roots=tmp_path / "other.pem").refused()
    assert re.match(r"failed to connect to all addresses; .*certificate", line)
    line = flightserver("query", "SELECT 1", "--uri", served.server.uri, "--token", "fsk_x").refused()
    assert re.match(r"failed to connect to all addresses; .*certificate", line)
    plain = flightserver("query", "SELECT 1", "--uri", served.server.uri.replace("+tls", ""), "--token", "fsk_x")
    assert plain.refused().startswith("failed to connect to all addresses")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--tls-roots", "{}/nowhere.pem"), "'{}/nowhere.pem' can't be read: No such file or directory"),
        (("--tls-roots", "{}/server.key"), "'{}/server.key' doesn't hold certificates in PEM"),
        (
            ("--tls-certificate", "{}/server.pem"),
            "a certificate and its private key belong together: tls_certificate and tls_key",
        ),
        (
            ("--tls-certificate", "{}/ca.pem", "--tls-key", "{}/server.key"),
            "'{}/ca.pem' and '{}/server.key' don't hold a certificate and its private key in PEM, not encrypted",
        ),
    ],
)
def test_files_that_a_client_cannot_use_are_named(served: Served, flags: tuple[str, ...], message: str) -> None:
    given = [flag.replace("{}", str(served.place.path)) for flag in flags]

    line = served.ask(*given, password=PASSWORD).refused()

    assert line == message.replace("{}", str(served.place.path)) + " [FS-1001]"


def test_health_is_https_with_the_same_certificate(served: Served) -> None:
    with urllib.request.urlopen(f"{served.server.web}/healthz", context=trusting(served.place.roots)) as answer:  # noqa: S310  # our own address
        assert answer.status == 200
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(f"{served.server.web}/healthz", context=ssl.create_default_context())  # noqa: S310  # as above

    pem = served.place.certificate.read_text()
    assert [shown(served.server.web), shown(served.server.uri)] == [pem, pem]


def test_certificates_of_clients_say_who_calls(place: Place) -> None:
    place.add_ann()
    clients = Authority.in_file(place.path / "clients.pem")
    signed = {name: clients.sign(name).write(place.path, name) for name in ("laptop-7", "visitor")}
    signed["stranger"] = Authority().sign("laptop-7").write(place.path, "stranger")
    own = {name: ("--tls-certificate", pair[0], "--tls-key", pair[1]) for name, pair in signed.items()}

    with place.serve("--tls-client-ca", str(place.path / "clients.pem")) as server:
        served = Served(place, server)
        unknown = served.ask(*own["laptop-7"]).refused()
        assert unknown.startswith("The client certificate of 'laptop-7' belongs to no user")
        # A password counts, too, on a connection that any certificate of the authority has opened.
        where = ("--uri", server.uri, "--tls-roots", place.roots, *own["visitor"], "--user", "ann")
        given = flightserver("users", "certificates", "ann", "laptop-7", *where, password=PASSWORD)
        assert (given.status, json.loads(given.out)["certificates"]) == (0, ["laptop-7"])

        assert served.ask(*own["laptop-7"]).seen == ANSWERED
        assert served.whom(*own["laptop-7"]) == ("ann", "certificate")
        assert "'visitor' belongs to no user" in served.ask(*own["visitor"]).refused()
        for nobody in (own["stranger"], ()):
            line = served.ask(*nobody, "--user", "ann", password=PASSWORD).refused()
            assert line.startswith("failed to connect to all addresses")
        with urllib.request.urlopen(f"{server.web}/healthz", context=trusting(place.roots)) as answer:  # noqa: S310  # our own address
            assert answer.status == 200
        assert server.stop()[0] == 0


def test_certificates_that_are_replaced_are_served_without_a_restart(place: Place) -> None:
    place.add_ann()
    with place.serve() as server:
        served = Served(place, server)
        new_roots = place.path / "new-ca.pem"
        replacement = Authority.in_file(new_roots).sign("localhost", LOCALHOST)
        replacement.write(place.path, "server")
        while shown(server.web).encode() != replacement.certificate:  # the test's own timeout ends it otherwise
            time.sleep(0.05)

        assert shown(server.uri).encode() == replacement.certificate
        assert served.ask("--user", "ann", password=PASSWORD, roots=new_roots).seen == ANSWERED
        assert "certificate" in served.ask("--user", "ann", password=PASSWORD).refused()
        status, log = server.stop()
    assert status == 0
    assert "new certificates are served" in log


NO_TLS = "the host '0.0.0.0' can be reached from other machines, and there is no TLS: "
NO_USERS = "the host '0.0.0.0' can be reached from other machines, and there are no users: "


@pytest.mark.parametrize(
    ("has_tls", "has_users", "reason"),
    [(False, False, NO_TLS), (False, True, NO_TLS), (True, False, NO_USERS)],
    ids=["neither", "users alone", "TLS alone"],
)
def test_other_machines_are_served_with_both_tls_and_users_only(
    place: Place,
    has_tls: bool,  # noqa: FBT001  # a parameter of the test
    has_users: bool,  # noqa: FBT001  # as above
    reason: str,
) -> None:
    if has_users:
        place.add_ann()

    line = place.refused("--host", EVERYWHERE, *(place.tls if has_tls else ()))

    assert line.startswith(reason)
    assert line.endswith("or add --insecure if the network keeps strangers out [FS-1001]")


def test_with_both_the_host_is_no_reason_to_refuse(place: Place) -> None:
    """The port of the pages is taken, which is the last that can be refused."""
    place.add_ann()
    with socket.create_server((EVERYWHERE, 0)) as taken:
        port = taken.getsockname()[1]
        line = place.refused("--host", EVERYWHERE, "--http-port", str(port), *place.tls)

    assert line.startswith(f"the web server can't listen on {EVERYWHERE} port {port}: Address already in use")


def test_insecure_is_enough_with_tls_and_without_users(place: Place) -> None:
    with place.serve("--host", EVERYWHERE, "--insecure") as server:
        uri = server.uri.replace(EVERYWHERE, "127.0.0.1")
        asked = flightserver("query", "SELECT 1 AS one", "--format", "csv", "--uri", uri, "--tls-roots", place.roots)
        assert asked.seen == ANSWERED
        assert server.stop()[0] == 0


def _swap_key(place: Place) -> None:
    place.key.write_bytes(place.authority.sign("localhost").key)


def _expire(place: Place) -> None:
    place.authority.sign("localhost", LOCALHOST, days=-1).write(place.path, "server")


BAD: dict[str, tuple[Callable[[Place], object], str]] = {
    "a key that others may read": (
        lambda place: place.key.chmod(0o644),
        (
            "tls.key: 'server.key' has mode 0644, so that others can read or change the private key: make it 0600, or "
            "0640 for a group that may read it"
        ),
    ),
    "another's key": (_swap_key, "tls.key: 'server.key' is not the key of the certificate in 'server.pem'"),
    "expired": (_expire, "tls.certificate: 'server.pem' would be refused by clients: certificate has expired"),
    "absent": (
        lambda place: place.certificate.unlink(),
        "tls.certificate: 'server.pem' can't be read: No such file or directory",
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_files_stop_the_start_with_one_line(place: Place, bad: str) -> None:
    spoil, message = BAD[bad]
    spoil(place)

    assert place.refused(*place.tls) == f"{message} [FS-1001]"


def test_one_file_of_two_is_not_enough(place: Place) -> None:
    needed = "is set; TLS needs both tls.certificate and tls.key [FS-1001]"

    assert place.refused(*place.tls[:2]) == f"tls.certificate {needed}"
    assert place.refused(*place.tls[2:], "--tls-client-ca", str(place.roots)) == f"tls.client_ca and tls.key {needed}"
