"""Certificates for TLS: read from files and proven good before anybody is served with them.

gRPC takes whatever it is given, and tells of a wrong certificate only in its own log when clients come. So a
certificate is tried here first, by a handshake in memory with a client that trusts just this certificate: that finds a
key which isn't its own, one that has expired or isn't valid yet, and one that may not be a server's.
"""

from __future__ import annotations

import hashlib
import ssl
import stat
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from flightserver.errors import InvalidRequest

if TYPE_CHECKING:
    from pathlib import Path

    from flightserver.settings import TlsSettings

_FORBIDDEN_MODE = stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO
"""A key file may be read by its group, as Debian's `ssl-cert` has it, and by nobody else."""

_MAX_FLIGHTS = 10
"""A handshake of TLS 1.3 takes three messages, one of TLS 1.2 four."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where certificates are, in PEM.

    Attributes:
        certificate: The server's, followed by those between it and its authority.
        key: Its private key, not encrypted.
        client_ca: The authorities whose certificates clients must have; None if clients need none.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @classmethod
    def of(cls, settings: TlsSettings) -> Self | None:
        """The files that the settings name; None where TLS isn't configured.

        Raises:
            InvalidRequest: One of certificate and key is missing.
        """
        if settings.certificate is not None and settings.key is not None:
            return cls(settings.certificate, settings.key, settings.client_ca)
        given = {name for name in ("certificate", "key", "client_ca") if getattr(settings, name) is not None}
        if not given:
            return None
        names = " and ".join(f"tls.{name}" for name in sorted(given))
        raise InvalidRequest(f"{names} is set; TLS needs both tls.certificate and tls.key")

    def fingerprint(self) -> bytes:
        """Changes when a file's content or mode does; a file that can't be read is as if it were empty."""
        digest = hashlib.sha256()
        for path in (self.certificate, self.key, self.client_ca):
            if path is not None:
                try:
                    content, mode = path.read_bytes(), path.stat().st_mode
                except OSError:
                    content, mode = b"", 0
                digest.update(f"{len(content)} {mode} ".encode() + content)
        return digest.digest()


@dataclass(frozen=True, slots=True)
class Certificates:
    """What the files hold, tried; made by `load`.

    Attributes:
        certificate: PEM.
        key: PEM; a secret.
        client_ca: PEM, or None.
        context: Serves this certificate over other protocols than gRPC, to clients without certificates.
        expires: When the certificate does.
    """

    certificate: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None
    context: ssl.SSLContext
    expires: datetime

    @classmethod
    def load(cls, files: TlsFiles) -> Self:
        """Read and try the files.

        Raises:
            InvalidRequest: One can't be read, is open to strangers, or is not what it should be; or they don't match.
        """
        certificate, key = _read("tls.certificate", files.certificate), _read("tls.key", files.key)
        _check_mode(files.key)
        if b"ENCRYPTED" in key:
            raise InvalidRequest(f"tls.key: {files.key.name!r} is encrypted, and nobody is asked for a password")
        context = _context(files)
        if (certificate, key) != (_read("tls.certificate", files.certificate), _read("tls.key", files.key)):
            raise InvalidRequest(f"tls.certificate: {files.certificate.name!r} was changed while it was read")
        expires = _tried(context, certificate, files.certificate.name)
        client_ca = None
        if files.client_ca is not None:
            client_ca = _read("tls.client_ca", files.client_ca)
            _check_authorities(client_ca, files.client_ca.name)
        return cls(certificate, key, client_ca, context, expires)


def _read(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{setting}: {path.name!r} can't be read: {error.strerror}") from None


def _check_mode(path: Path) -> None:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:  # it was there a moment ago
        raise InvalidRequest(f"tls.key: {path.name!r} can't be read: {error.strerror}") from None
    if mode & _FORBIDDEN_MODE:
        raise InvalidRequest(
            f"tls.key: {path.name!r} has mode {mode:04o}, so that others can read or change the private key: "
            "make it 0600, or 0640 for a group that may read it"
        )


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(files.certificate, files.key)
    except (ssl.SSLError, OSError) as error:
        if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
            raise InvalidRequest(
                f"tls.key: {files.key.name!r} is not the key of the certificate in {files.certificate.name!r}"
            ) from None
        raise InvalidRequest(
            f"tls.certificate and tls.key: {files.certificate.name!r} and {files.key.name!r} don't hold a certificate "
            "and its private key"
        ) from None
    return context


def _tried(server: ssl.SSLContext, certificate: bytes, name: str) -> datetime:
    """Shake hands with a client that trusts this certificate; returns when it expires."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        client.load_verify_locations(cadata=certificate.decode("ascii", "ignore"))
        there, here = client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)
        _shake_hands(there, here)
    except ssl.SSLCertVerificationError as error:
        raise InvalidRequest(f"tls.certificate: {name!r} would be refused by clients: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise InvalidRequest(f"tls.certificate: {name!r} can't be served: {error.reason}") from None
    found = there.getpeercert() or {}
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(found["notAfter"])), UTC)


def _shake_hands(there: ssl.SSLObject, here: ssl.SSLObject) -> None:
    for _ in range(_MAX_FLIGHTS):
        waiting = 0
        for side in (there, here):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                waiting += 1
        if not waiting:
            return


def _check_authorities(data: bytes, name: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=data.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError):
        raise InvalidRequest(f"tls.client_ca: {name!r} doesn't hold certificates in PEM") from None
    ends = [ssl.cert_time_to_seconds(str(found["notAfter"])) for found in context.get_ca_certs()]
    if not ends:
        raise InvalidRequest(f"tls.client_ca: {name!r} holds no certificate of an authority, which may sign others")
    if max(ends) <= datetime.now(UTC).timestamp():
        raise InvalidRequest(f"tls.client_ca: {name!r} holds only certificates that have expired")
