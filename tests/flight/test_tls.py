"""TLS with certificates made here: what is refused at the start, who is let in, and how new files take over."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

import adbc_driver_flightsql.dbapi
import flightclient
import pyarrow.flight as fl
import pytest
from adbc_driver_flightsql import DatabaseOptions
from certificates import LOCALHOST, Authority, Pair
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from flightclient.errors import ConnectionFailed

from flightserver.errors import InvalidRequest
from flightserver.flight import listening
from flightserver.flight.certificates import Certificates, TlsFiles
from flightserver.flight.listening import Listener
from flightserver.flight.middleware import MIDDLEWARE, CallMiddlewareFactory, OpenHandshake, peer_identity
from flightserver.flight.service import Service
from flightserver.flight.sql.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from flightserver.lakehouse import Lakehouse

LONG = "SELECT value, repeat('x', 100) AS text FROM generate_series(1, 1000000)"
"""Some 100 MB: more than the network buffers of a client that reads slowly."""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.in_file(tmp_path / "ca.pem")


@pytest.fixture
def files(tmp_path: Path, authority: Authority) -> TlsFiles:
    """A good certificate for this machine."""
    return TlsFiles(*authority.sign("localhost", LOCALHOST).write(tmp_path, "server"))


@pytest.fixture
def listen(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[TlsFiles], Listener]]:
    """Serves the lakehouse with certificates that are looked at often."""
    monkeypatch.setattr(listening, "LOOK_SECONDS", 0.02)
    opened: list[Listener] = []

    def start(files: TlsFiles) -> Listener:
        opened.append(Listener(Service(lakehouse), "127.0.0.1", 0, files))
        return opened[-1]

    yield start
    for listener in opened:
        listener.stop(grace_seconds=10)


def served(port: int) -> bytes:
    """The certificate that a server shows, in PEM."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    # wrapped before it is connected: a socket that is reset while it is being wrapped isn't closed by anybody
    with context.wrap_socket(socket.socket()) as connection:
        connection.settimeout(10)
        connection.connect(("127.0.0.1", port))
        shown = connection.getpeercert(binary_form=True)
    assert shown
    return ssl.DER_cert_to_PEM_cert(shown).encode()


def until_served(port: int, pair: Pair) -> None:
    """Return when a server shows a certificate; the test's own timeout ends it otherwise."""
    while True:
        try:
            if served(port) == pair.certificate:
                return
        except OSError:
            pass  # the moment in which the port is closed
        time.sleep(0.01)


def test_clients_that_know_the_authority_are_served_and_others_are_not(
    files: TlsFiles, listen: Callable[[TlsFiles], Listener], tmp_path: Path
) -> None:
    uri = listen(files).uri

    assert uri.startswith("grpc+tls://127.0.0.1:")
    with flightclient.connect(uri, tls_roots=tmp_path / "ca.pem") as client:
        assert client.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]
    with flightclient.connect(uri) as client, pytest.raises(ConnectionFailed):
        client.tables()
    with flightclient.connect(uri.replace("+tls", "")) as client, pytest.raises(ConnectionFailed):
        client.tables()


def test_adbc_is_served(files: TlsFiles, listen: Callable[[TlsFiles], Listener], authority: Authority) -> None:
    options = {DatabaseOptions.TLS_ROOT_CERTS.value: authority.pem.decode(), "username": "a", "password": "b"}
    with (
        adbc_driver_flightsql.dbapi.connect(listen(files).uri, options, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT 1 AS one")
        assert cursor.fetchall() == [(1,)]


def _swap(files: TlsFiles, authority: Authority) -> None:
    files.key.write_bytes(authority.sign("localhost").key)


def _encrypt(files: TlsFiles, _: Authority) -> None:
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"secret")
    kind = serialization.PrivateFormat.PKCS8
    files.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, encryption))


def _expire(files: TlsFiles, authority: Authority) -> None:
    authority.sign("localhost", LOCALHOST, days=-1).write(files.key.parent, files.key.stem)


BAD: dict[str, tuple[Callable[[TlsFiles, Authority], object], str]] = {
    "no certificate": (
        lambda files, _: files.certificate.unlink(),
        "tls.certificate: 'server.pem' can't be read: No such file or directory",
    ),
    "no key": (lambda files, _: files.key.unlink(), "tls.key: 'server.key' can't be read: No such file or directory"),
    "open to others": (
        lambda files, _: files.key.chmod(0o644),
        (
            "tls.key: 'server.key' has mode 0644, so that others can read or change the private key: make it 0600, or "
            "0640 for a group that may read it"
        ),
    ),
    "another's key": (_swap, "tls.key: 'server.key' is not the key of the certificate in 'server.pem'"),
    "encrypted key": (_encrypt, "tls.key: 'server.key' is encrypted, and nobody is asked for a password"),
    "no PEM": (
        lambda files, _: files.certificate.write_bytes(b"\x30\x82"),
        "tls.certificate and tls.key: 'server.pem' and 'server.key' don't hold a certificate and its private key",
    ),
    "expired": (_expire, "tls.certificate: 'server.pem' would be refused by clients: certificate has expired"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_files_are_refused_with_what_is_wrong(files: TlsFiles, authority: Authority, bad: str) -> None:
    spoil, message = BAD[bad]
    spoil(files, authority)
    with pytest.raises(InvalidRequest) as raised:
        Certificates.load(files)
    assert raised.value.message == message


def test_a_group_may_read_the_key(files: TlsFiles) -> None:
    files.key.chmod(0o640)
    assert Certificates.load(files).key == files.key.read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"nothing", "doesn't hold certificates in PEM"),
        (None, "holds no certificate of an authority, which may sign others"),
    ],
)
def test_a_file_of_authorities_holds_authorities(files: TlsFiles, content: bytes | None, message: str) -> None:
    given = files.key.with_name("clients.pem")
    given.write_bytes(files.certificate.read_bytes() if content is None else content)
    with pytest.raises(InvalidRequest, match=message):
        Certificates.load(TlsFiles(files.certificate, files.key, given))


def test_secrets_are_not_shown(files: TlsFiles) -> None:
    certificates = Certificates.load(files)
    assert certificates.key.decode().splitlines()[1] not in repr(certificates)


def test_new_files_are_served_and_running_streams_go_on(
    files: TlsFiles, authority: Authority, listen: Callable[[TlsFiles], Listener], tmp_path: Path
) -> None:
    listener = listen(files)
    replacement = authority.sign("localhost", LOCALHOST)
    with flightclient.connect(listener.uri, tls_roots=tmp_path / "ca.pem") as client:
        stream = client.stream(LONG)
        rows = next(stream).num_rows

        replacement.write(files.key.parent, "server")
        until_served(listener.port, replacement)

        # A client that was connected connects again by itself, while its stream comes from where it was.
        assert client.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]
        rows += sum(batch.num_rows for batch in stream)
    assert rows == 1_000_000


def test_adbc_connects_again_by_itself(
    files: TlsFiles, authority: Authority, listen: Callable[[TlsFiles], Listener]
) -> None:
    listener = listen(files)
    replacement = authority.sign("localhost", LOCALHOST)
    options = {DatabaseOptions.TLS_ROOT_CERTS.value: authority.pem.decode()}
    with (
        adbc_driver_flightsql.dbapi.connect(listener.uri, options, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT 1 AS one")
        assert cursor.fetchall() == [(1,)]
        replacement.write(files.key.parent, "server")
        until_served(listener.port, replacement)
        cursor.execute("SELECT 2 AS two")
        assert cursor.fetchall() == [(2,)]


def test_sessions_outlive_a_new_certificate(
    files: TlsFiles, authority: Authority, listen: Callable[[TlsFiles], Listener]
) -> None:
    listener = listen(files)
    replacement = authority.sign("localhost", LOCALHOST)
    options = {
        DatabaseOptions.TLS_ROOT_CERTS.value: authority.pem.decode(),
        DatabaseOptions.WITH_COOKIE_MIDDLEWARE.value: "true",
    }
    with (
        adbc_driver_flightsql.dbapi.connect(listener.uri, options, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        cursor.adbc_prepare("SELECT 1 AS one")
        connection.adbc_connection.set_options(**{"adbc.connection.db_schema": "system"})
        replacement.write(files.key.parent, "server")
        until_served(listener.port, replacement)
        assert connection.adbc_current_db_schema == "system"


def test_a_bad_replacement_is_told_and_what_was_there_goes_on(
    files: TlsFiles,
    authority: Authority,
    listen: Callable[[TlsFiles], Listener],
    caplog: pytest.LogCaptureFixture,
) -> None:
    good = Pair(files.certificate.read_bytes(), files.key.read_bytes())
    listener = listen(files)
    _expire(files, authority)
    while not caplog.records:
        time.sleep(0.01)
    assert served(listener.port) == good.certificate
    (record,) = caplog.records
    assert (record.levelname, record.getMessage(), vars(record)["reason"]) == (
        "WARNING",
        "new certificates are not good: the old ones are kept",
        BAD["expired"][1],
    )

    # What is mended later is taken.
    replacement = authority.sign("localhost", LOCALHOST)
    replacement.write(files.key.parent, "server")
    until_served(listener.port, replacement)


def test_https_shows_the_same_certificate_before_and_after(
    files: TlsFiles, authority: Authority, listen: Callable[[TlsFiles], Listener]
) -> None:
    listener = listen(files)
    assert listener.tls
    shown = [_shown(listener.tls)]
    replacement = authority.sign("localhost", LOCALHOST)
    before = files.certificate.read_bytes()
    replacement.write(files.key.parent, "server")
    until_served(listener.port, replacement)
    shown.append(_shown(listener.tls))
    assert shown == [before, replacement.certificate]


def _shown(server: ssl.SSLContext) -> bytes:
    """What a context shows to a client, over a pair of sockets."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    there, here = client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)
    for side in (there, here, there):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    shown = there.getpeercert(binary_form=True)
    assert shown
    return ssl.DER_cert_to_PEM_cert(shown).encode()


class Mutual:
    """Clients with certificates, and a server that wants them."""

    def __init__(self, files: TlsFiles, tmp_path: Path) -> None:
        self.authority = Authority.in_file(tmp_path / "clients.pem")
        self.files = TlsFiles(files.certificate, files.key, tmp_path / "clients.pem")
        self.roots = tmp_path / "ca.pem"


@pytest.fixture
def mutual(files: TlsFiles, tmp_path: Path) -> Mutual:
    return Mutual(files, tmp_path)


def test_only_clients_with_a_certificate_of_the_authority_are_let_in(
    mutual: Mutual, listen: Callable[[TlsFiles], Listener], tmp_path: Path
) -> None:
    uri = listen(mutual.files).uri
    known = mutual.authority.sign("alice").write(tmp_path, "alice")
    unknown = Authority().sign("alice").write(tmp_path, "stranger")

    with flightclient.connect(uri, tls_roots=mutual.roots, tls_certificate=known[0], tls_key=known[1]) as client:
        assert client.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]
    stranger = flightclient.connect(uri, tls_roots=mutual.roots, tls_certificate=unknown[0], tls_key=unknown[1])
    with stranger as client, pytest.raises(ConnectionFailed):
        client.tables()
    with flightclient.connect(uri, tls_roots=mutual.roots) as client, pytest.raises(ConnectionFailed):
        client.tables()


def test_a_certificate_without_its_key_is_refused_by_the_client(tmp_path: Path) -> None:
    with pytest.raises(flightclient.errors.InvalidRequest, match="belong together"):
        flightclient.connect("grpc+tls://localhost:1", tls_certificate=tmp_path / "one.pem")


class Identities(fl.FlightServerBase):
    """Tells a client whom its certificate names."""

    def do_action(self, context: Any, action: Any) -> Iterator[bytes]:  # noqa: ARG002  # pyarrow's signature
        return iter([peer_identity(context).encode()])


def _asked(mutual: Mutual, pair: Pair, handler: OpenHandshake | None) -> str:
    certificates = Certificates.load(mutual.files)
    with (
        Identities(
            "grpc+tls://127.0.0.1:0",
            auth_handler=handler,
            tls_certificates=[(certificates.certificate, certificates.key)],
            verify_client=True,
            root_certificates=certificates.client_ca,
            middleware={MIDDLEWARE: CallMiddlewareFactory(Sessions())},
        ) as server,
        fl.connect(
            f"grpc+tls://127.0.0.1:{server.port}",
            tls_root_certs=mutual.roots.read_bytes(),
            cert_chain=pair.certificate,
            private_key=pair.key,
        ) as client,
    ):
        (result,) = client.do_action(fl.Action("whoami", b""))
        name: str = result.body.to_pybytes().decode()
        return name


@pytest.mark.parametrize(
    ("names", "identity"),
    [
        ((), "alice"),
        ((x509.DNSName("alice.example.org"), x509.DNSName("other.example.org")), "alice.example.org"),
        ((x509.UniformResourceIdentifier("spiffe://example.org/alice"),), "spiffe://example.org/alice"),
        ((x509.RFC822Name("alice@example.org"), x509.DNSName("alice.example.org")), "alice@example.org"),
        ((x509.IPAddress(ipaddress.ip_address("192.0.2.1")),), "192.0.2.1"),
    ],
)
def test_a_certificate_names_its_first_alternative_name_or_else_its_common_name(
    mutual: Mutual, names: Sequence[x509.GeneralName], identity: str
) -> None:
    assert _asked(mutual, mutual.authority.sign("alice", names), None) == identity


def test_a_handler_of_authentication_would_hide_whom_a_certificate_names(mutual: Mutual) -> None:
    assert not _asked(mutual, mutual.authority.sign("alice"), OpenHandshake())


def test_a_handshake_is_unimplemented_where_clients_have_certificates(
    mutual: Mutual, listen: Callable[[TlsFiles], Listener]
) -> None:
    pair = mutual.authority.sign("alice")
    with (
        fl.connect(
            listen(mutual.files).uri,
            tls_root_certs=mutual.roots.read_bytes(),
            cert_chain=pair.certificate,
            private_key=pair.key,
        ) as client,
        pytest.raises(NotImplementedError),
    ):
        client.authenticate_basic_token("alice", "secret")
