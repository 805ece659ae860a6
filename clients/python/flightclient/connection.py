"""Calls of Arrow Flight with our errors, headers and types; everything else in the package goes through it."""

from __future__ import annotations

import ssl
from base64 import b64encode
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.flight as fl

from flightclient.errors import InvalidRequest
from flightclient.streams import Stream
from flightclient.translation import translated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

_BUCKET_HEADER = b"x-lakehouse-bucket"


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM for a connection by TLS.

    Attributes:
        roots: Authorities that the server's certificate is checked by; None for those of gRPC.
        certificate: The client's own, with those between it and its authority, for a server that asks for one.
        key: The private key of `certificate`.
    """

    roots: str | PathLike[str] | None = None
    certificate: str | PathLike[str] | None = None
    key: str | PathLike[str] | None = None

    def options(self) -> dict[str, bytes]:
        """Arguments of `pyarrow.flight.connect`.

        Raises:
            InvalidRequest: A file can't be read or is not what it should be, or only one of certificate and key is
                given.
        """
        if (self.certificate is None) != (self.key is None):
            raise InvalidRequest("a certificate and its private key belong together: tls_certificate and tls_key")
        files = {"tls_root_certs": self.roots, "cert_chain": self.certificate, "private_key": self.key}
        contents = {name: _content(file) for name, file in files.items() if file is not None}
        self._check(contents)
        return contents

    def _check(self, contents: dict[str, bytes]) -> None:
        """Try the files: gRPC says of bad ones no more than that it found no address."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if self.roots is not None:
                context.load_verify_locations(cadata=contents["tls_root_certs"].decode("ascii", "ignore"))
        except (ssl.SSLError, ValueError):
            raise InvalidRequest(f"{str(self.roots)!r} doesn't hold certificates in PEM") from None
        try:
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key, lambda: b"")
        except (ssl.SSLError, OSError):
            raise InvalidRequest(
                f"{str(self.certificate)!r} and {str(self.key)!r} don't hold a certificate and its private key in PEM, "
                "not encrypted"
            ) from None


def _content(file: str | PathLike[str]) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{str(file)!r} can't be read: {error.strerror}") from None


class Credential(fl.ClientMiddlewareFactory):
    """What says who calls: a token, or user and password until the server has given a token for them.

    A server renews the tokens of logins with its answers; the newest is sent. When it says that a token is no good any
    more, the next call sends user and password again. `_value` is replaced, never changed, so it needs no lock.

    Args:
        token: A bearer token, or None.
        user: Name of a user, or None.
        password: Its password.

    Raises:
        InvalidRequest: Both are given, or a password without a user.
    """

    def __init__(self, token: str | None, user: str | None, password: str | None) -> None:
        if (user is None) != (password is None) or (token and user is not None):
            raise InvalidRequest("either a token is needed, or a user and its password")
        login = None if user is None else b64encode(f"{user}:{password}".encode()).decode()
        self._first = f"Bearer {token}" if token else "" if login is None else f"Basic {login}"
        self._has_login = login is not None
        self._value = self._first

    def start_call(self, info: Any) -> _CredentialOfCall:  # noqa: ARG002  # pyarrow's signature
        """Begin a call."""
        return _CredentialOfCall(self)

    @property
    def value(self) -> str:
        """The header to send; empty for none."""
        return self._value

    def answered(self, value: str) -> None:
        """Take what the server answered to a call, to send it from now on."""
        if self._has_login:
            self._value = value

    def refused(self) -> None:
        """Begin anew: the server doesn't know who calls."""
        self._value = self._first


class _CredentialOfCall(fl.ClientMiddleware):
    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    def sending_headers(self) -> dict[str, str]:
        return {"authorization": self._credential.value} if self._credential.value else {}

    def received_headers(self, headers: dict[str, list[str]]) -> None:
        for value in headers.get("authorization", []):
            self._credential.answered(value)

    def call_completed(self, exception: BaseException | None) -> None:
        if isinstance(exception, fl.FlightUnauthenticatedError):
            self._credential.refused()


class Connection:
    """One gRPC channel. Methods may be called from any thread.

    Args:
        uri: Address of the server, such as `grpc://127.0.0.1:31337`.
        credential: Says who calls.
        bucket: Sent with each call: where writes go, and where unqualified names are looked up first.
        tls: For addresses that begin with `grpc+tls://`.

    Raises:
        InvalidRequest: The address or a file of `tls` can't be read. Whether a server answers there shows in the first
            call.
    """

    def __init__(self, uri: str, credential: Credential, bucket: str | None, tls: Tls | None = None) -> None:
        headers = [(_BUCKET_HEADER, bucket.encode())] if bucket else []
        self._options = fl.FlightCallOptions(headers=headers)
        try:
            self._client = fl.connect(uri, middleware=[credential], **(tls or Tls()).options())
        except pa.ArrowException:
            raise InvalidRequest(f"{uri!r} is not an address such as 'grpc://127.0.0.1:31337'") from None

    def close(self) -> None:
        """Close the channel; may be repeated."""
        with translated():
            self._client.close()

    def info(self, command: bytes) -> Any:
        """The `pyarrow.flight.FlightInfo` of a command."""
        with translated():
            return self._client.get_flight_info(fl.FlightDescriptor.for_command(command), self._options)

    def rows(self, command: bytes) -> Stream:
        """The rows that a command answers, as they come."""
        info = self.info(command)
        return self.read([endpoint.ticket for endpoint in info.endpoints], info.schema)

    def flights(self) -> Iterator[Any]:
        """The `pyarrow.flight.FlightInfo` of every table."""
        with translated():
            yield from self._client.list_flights(options=self._options)

    def read(self, tickets: list[Any], schema: pa.Schema) -> Stream:
        """The rows of one or more tickets, one after the other."""
        return Stream(schema, (partial(self._get, ticket) for ticket in tickets))

    def read_ticket(self, ticket: bytes) -> Stream:
        """The rows of one ticket whose schema is not known before."""
        with translated():
            reader = self._get(fl.Ticket(ticket))
            return Stream(reader.schema, [lambda: reader])

    def put(self, command: bytes, schema: pa.Schema) -> tuple[Any, Any]:
        """Begins a DoPut: its `FlightStreamWriter` and `FlightMetadataReader`, whose errors the caller translates."""
        return self._client.do_put(fl.FlightDescriptor.for_command(command), schema, self._options)  # type: ignore[no-any-return]  # pyarrow has no types

    def action(self, kind: str, body: bytes) -> Iterator[bytes]:
        """The answers of an action, as they come."""
        with translated():
            for result in self._client.do_action(fl.Action(kind, body), self._options):
                yield result.body.to_pybytes()

    def _get(self, ticket: Any) -> Any:
        return self._client.do_get(ticket, self._options)
