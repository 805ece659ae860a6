"""An issuer of JSON web tokens: keys, key sets, tokens, and a server that publishes the keys."""

from __future__ import annotations

import json
import ssl
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

ISSUER = "https://issuer.example"
AUDIENCE = "lakehouse"
NOW = 1_800_000_000

RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
OTHER_EC = ec.generate_private_key(ec.SECP384R1())
ED = ed25519.Ed25519PrivateKey.generate()


def jwk(key: PrivateKey, kid: str | None, **members: str) -> dict[str, Any]:
    """The public part of a key as a JSON web key."""
    if isinstance(key, rsa.RSAPrivateKey):
        public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        public = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        public = jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    public.pop("key_ops", None)
    return public | ({} if kid is None else {"kid": kid}) | members


def key_set(*keys: dict[str, Any]) -> bytes:
    """A JSON web key set."""
    return json.dumps({"keys": keys}).encode()


ALL_KEYS = key_set(jwk(RSA, "rsa"), jwk(EC, "ec"), jwk(ED, "ed"))


def token(key: PrivateKey | bytes = RSA, *, algorithm: str = "RS256", kid: str | None = "rsa", **claims: Any) -> str:
    """A token that is valid around `NOW`, but for claims that are given here; those that are None are left out."""
    content = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ida", "exp": NOW + 600, **claims}
    payload = json.dumps({name: value for name, value in content.items() if value is not None})
    # Not jwt.encode, which refuses to sign some claims of wrong types.
    return jwt.PyJWS().encode(payload.encode(), key, algorithm, {} if kid is None else {"kid": kid})


class KeyServer:
    """What the server publishes.

    Attributes:
        url: Where.
        body: The answer.
        status: Its status.
        requests: How many there were.
        answers: When cleared, requests wait until it is set.
        drips: While it is true, an answer goes on for ever, a byte now and then.
    """

    def __init__(self) -> None:
        self.url = ""
        self.body = ALL_KEYS
        self.status = 200
        self.requests = 0
        self.answers = threading.Event()
        self.answers.set()
        self.drips = False


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing: clients that give up are what is tested."""


def certificate(directory: Path) -> Path:
    """A file with a key and its own certificate of `localhost`."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(EC.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(EC, SHA256())
    )
    path = directory / "localhost.pem"
    key = EC.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(key + made.public_bytes(Encoding.PEM))
    return path


@contextmanager
def key_server(tls: Path | None = None) -> Iterator[KeyServer]:
    """A server on loopback that publishes keys, by TLS if there is a file of `certificate`."""
    published = KeyServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name is what the base class calls
            published.requests += 1
            published.answers.wait(30)
            self.send_response(published.status)
            self.end_headers()
            while published.drips:
                self.wfile.write(b" ")
                time.sleep(0.02)
            self.wfile.write(published.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the signature is the base class's
            """Says nothing."""

    server = _QuietServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    host = "http://127.0.0.1" if tls is None else "https://localhost"
    published.url = f"{host}:{server.server_port}/keys"
    try:
        yield published
    finally:
        published.answers.set()
        published.drips = False
        server.shutdown()
        thread.join()
        server.server_close()
