"""Public keys of an issuer of JSON web tokens, from a file or a URL (RFC 7517).

Theory of operation: a `KeySet` is immutable and replaced as a whole. A file is looked at on each use and read again
when it has changed. A URL is fetched in a thread of its own: when it is first needed, when somebody shows a token with
an unknown key, at most every 30 seconds, and when an hour has passed. Only callers whose key is unknown wait for that,
and never longer than 5 seconds after it began. Keys that were once there stay until the source is read with success
again, so that an issuer that is down for an hour keeps nobody out who has a token.

Of a key only its public numbers are read; private ones and symmetric keys in a set are passed over, and so are RSA keys
of less than 2048 bits (RFC 7518 section 3.3). A token chooses among these keys by its `kid`; keys and URLs in the token
itself are never looked at.

Locking: `FileKeys._lock` and `UrlKeys._lock` guard when the source was last read; sets are replaced by one assignment.
"""

from __future__ import annotations

import http.client
import ipaddress
import logging
import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from flightserver.errors import BackendUnavailable, InvalidRequest, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable
    from urllib.parse import SplitResult

_log = logging.getLogger(__name__)

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey

ALGORITHMS = {
    "RS256": ("RSA", ""),
    "RS384": ("RSA", ""),
    "RS512": ("RSA", ""),
    "PS256": ("RSA", ""),
    "PS384": ("RSA", ""),
    "PS512": ("RSA", ""),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", ""),
}
"""Name -> type of its keys and, where it prescribes one, their curve: RFC 7518 section 3.1, RFC 8037 section 3.1."""

_NUMBERS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}
_MIN_RSA_BITS = 2048
_MAX_BYTES = 1024 * 1024
_FETCH_SECONDS = 5.0
_RETRY_SECONDS = 30.0
_REFRESH_SECONDS = 3600.0
"""In which a key that the issuer has withdrawn is noticed."""


class _Jwk(msgspec.Struct, frozen=True):
    """Members of a JSON web key that matter here; a set may have keys with any others."""

    kty: str
    kid: str | None = None
    use: str | None = None
    alg: str | None = None
    crv: str = ""
    n: str = ""
    e: str = ""
    x: str = ""
    y: str = ""


class _Jwks(msgspec.Struct, frozen=True):
    keys: list[msgspec.Raw]


_set_decoder = msgspec.json.Decoder(_Jwks)
_key_decoder = msgspec.json.Decoder(_Jwk)


@dataclass(frozen=True, slots=True)
class _Key:
    jwk: _Jwk
    public: PublicKey

    def fits(self, algorithm: str) -> bool:
        """Whether it is a key of this algorithm, which is one of `ALGORITHMS`."""
        kind, curve = ALGORITHMS[algorithm]
        return self.jwk.kty == kind and curve in {"", self.jwk.crv} and self.jwk.alg in {None, algorithm}


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys that can check signatures."""

    keys: tuple[_Key, ...] = ()

    def find(self, kid: str | None, algorithm: str) -> PublicKey | None:
        """The one key of this id, or without an id the only one there is for the algorithm; None if there isn't one."""
        found = [key.public for key in self.keys if (kid is None or kid == key.jwk.kid) and key.fits(algorithm)]
        return found[0] if len(found) == 1 else None


def read_key_set(data: bytes) -> KeySet:
    """Read a JSON web key set.

    Raises:
        InvalidRequest: It is none, or has no public key that can check signatures.
    """
    try:
        entries = _set_decoder.decode(data).keys
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f'a JSON web key set is {{"keys": [...]}}; this is not: {error}') from None
    keys = tuple(key for entry in entries if (key := _read_key(entry)) is not None)
    if not keys:
        raise InvalidRequest(
            f"the JSON web key set has {len(entries)} keys, and none of them is a public key of RSA with 2048 bits or "
            "more, of an elliptic curve or of EdDSA that is for signatures"
        )
    return KeySet(keys)


def _read_key(entry: msgspec.Raw) -> _Key | None:
    try:
        jwk = _key_decoder.decode(entry)
        if jwk.use not in {None, "sig"} or jwk.kty not in _NUMBERS:
            return None
        public = jwt.PyJWK({"kty": jwk.kty} | {name: getattr(jwk, name) for name in _NUMBERS[jwk.kty]}).key
    except (msgspec.MsgspecError, jwt.PyJWTError, ValueError, RecursionError):  # ValueError: numbers that are no key
        return None
    if isinstance(public, RSAPublicKey) and public.key_size < _MIN_RSA_BITS:
        return None
    return _Key(jwk, public) if isinstance(public, PublicKey) else None


class KeySource(Protocol):
    """Where keys come from."""

    def find(self, kid: str | None, algorithm: str) -> PublicKey | None:
        """The key of a token; None if there is none.

        Raises:
            Unauthenticated: No keys could be got at all so far.
        """


class FileKeys:
    """Keys in a file.

    Args:
        path: The file.

    Raises:
        InvalidRequest: It can't be read, or is no set of keys.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self._seen = self._identity()
            self._keys = read_key_set(path.read_bytes())
        except OSError as error:
            raise InvalidRequest(f"access.jwks: the file {path.name!r} can't be read: {error.strerror}") from None
        except InvalidRequest as error:
            raise InvalidRequest(f"access.jwks: the file {path.name!r}: {error.message}") from None

    def find(self, kid: str | None, algorithm: str) -> PublicKey | None:
        """As `KeySource` says. A file that has become unreadable leaves the keys that it had."""
        with self._lock:
            before, self._seen = self._seen, self._identity()
            if self._seen != before:
                self._read_again()
        return self._keys.find(kid, algorithm)

    def _read_again(self) -> None:
        try:
            self._keys = read_key_set(self._path.read_bytes())
        except (OSError, InvalidRequest) as error:
            _log.warning("JSON web keys could not be read", extra={"error": str(error)})

    def _identity(self) -> tuple[int, int, int] | None:
        """What changes with the file's content; None if it can't be looked at."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


class UrlKeys:
    """Keys at a URL.

    Args:
        url: Where the set is; https, or http on this machine.
        ticks: Seconds of a clock that is never set.

    Raises:
        InvalidRequest: The URL is not of that kind.
    """

    def __init__(self, url: str, *, ticks: Callable[[], float] = time.monotonic) -> None:
        self._url = _checked(url)
        self._ticks = ticks
        self._lock = threading.Lock()
        self._keys = KeySet()
        self._begun = float("-inf")
        self._done = threading.Event()
        self._done.set()

    def find(self, kid: str | None, algorithm: str) -> PublicKey | None:
        """As `KeySource` says."""
        found = self._keys.find(kid, algorithm)
        left = self._begin_if_due(_RETRY_SECONDS if found is None else _REFRESH_SECONDS)
        if found is None:
            self._done.wait(left)
            found = self._keys.find(kid, algorithm)
        if found is None and not self._keys.keys:
            raise Unauthenticated(
                "The keys that check JSON web tokens can't be reached at the moment, so that no such token is "
                f"accepted. Try again in {_RETRY_SECONDS:.0f} seconds, or log in with user and password."
            )
        return found

    def _begin_if_due(self, seconds: float) -> float:
        """Fetch the keys if that was begun longer ago and is not going on; how long it may take from now on."""
        with self._lock:
            now = self._ticks()
            if self._done.is_set() and now - self._begun >= seconds:
                self._begun = now
                self._done.clear()
                threading.Thread(target=self._fetch, name="jwks", daemon=True).start()
            return max(0.0, self._begun + _FETCH_SECONDS - now)

    def _fetch(self) -> None:
        try:
            self._keys = read_key_set(_get(self._url))
        except (BackendUnavailable, InvalidRequest) as error:
            _log.warning("JSON web keys could not be fetched", extra={"host": self._url.netloc, "error": error.message})
        finally:
            self._done.set()


def _checked(url: str) -> SplitResult:
    parts = urlsplit(url)
    try:
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in {"https", "http"} or "@" in parts.netloc:
        raise InvalidRequest("access.jwks is a file or a URL such as https://host/path, without user and password")
    if parts.scheme == "http" and not _is_loopback(host):
        raise InvalidRequest(
            f"access.jwks is at http://{host}, where anybody on the way can change the keys; use https. http is for "
            "this machine only."
        )
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _get(url: SplitResult) -> bytes:
    """The bytes at a URL, without following redirects: those would lead to what nobody has chosen.

    Raises:
        BackendUnavailable: They can't be got in time, or are too many.
    """
    deadline = time.monotonic() + _FETCH_SECONDS
    host = url.hostname or ""
    if url.scheme == "https":
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, url.port, timeout=_FETCH_SECONDS, context=ssl.create_default_context()
        )
    else:
        connection = http.client.HTTPConnection(host, url.port, timeout=_FETCH_SECONDS)
    try:
        connection.request("GET", f"{url.path or '/'}{'?' if url.query else ''}{url.query}")
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise BackendUnavailable(f"the answer has the status {response.status}; expected 200")
        data = bytearray()
        while chunk := response.read1(65_536):
            data += chunk
            if len(data) > _MAX_BYTES or time.monotonic() > deadline:
                raise BackendUnavailable(
                    f"the answer has not ended after {len(data)} bytes and {_FETCH_SECONDS:.0f} seconds at most"
                )
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: characters no URL has
        raise BackendUnavailable(f"{type(error).__name__}: {error}") from None
    finally:
        connection.close()
    return bytes(data)


def open_keys(location: str) -> KeySource:
    """The keys of the setting `access.jwks`.

    Raises:
        InvalidRequest: It is neither a readable file with keys nor a URL that may be used.
    """
    return UrlKeys(location) if "://" in location else FileKeys(Path(location))
