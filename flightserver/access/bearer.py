"""Bearer tokens: what a login gives, and what later calls show in its place.

Theory of operation: a token is `fsb_` and, in URL-safe Base64 without padding, HMAC-SHA256 over its claims and the
claims in MessagePack. Nothing about it is kept in the server, so it survives a restart and works on every server that
has the same key. The key is that of tickets (`flightserver.flight.tickets`). What is signed there begins with `FST1`
and here with `_DOMAIN`, so that no bytes are valid as both.

A token says whose it is, never what that user may do: roles are looked up at each call. It also carries the user's
epoch, which the catalog counts up when earlier tokens shall end. A client that goes on working is given a new token
after half of the old one's life.

Invariants:
    - Nothing of a token is read before its signature was found right, by a comparison in constant time.
    - One text only is valid for a signature: Base64 that another text stands for as well is refused.
    - Every token expires, and no token is in a message.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING, Final

import msgspec

from flightserver.errors import Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX: Final = "fsb_"

_DOMAIN = b"flightserver bearer 1\n"
"""The number is the version of the format."""
_SIGNATURE_BYTES = 32
_MAX_CHARACTERS = 1024
"""A name has at most 128 characters."""


class Claims(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a token says.

    Attributes:
        name: Of the user.
        epoch: The user's when it was issued.
        issued: Seconds since 1970.
        expires: Seconds since 1970.
        created: When the user was, in microseconds since 1970: one who is made anew under the name is another.
    """

    name: str
    epoch: int
    issued: int
    expires: int
    created: int = 0


_decoder = msgspec.msgpack.Decoder(Claims)
_encoder = msgspec.msgpack.Encoder()


class BearerTokens:
    """Issues and reads tokens.

    Args:
        key: The 32 secret bytes that sign tickets.
        seconds: How long a token is valid.
        clock: Seconds since 1970.
    """

    def __init__(self, key: bytes, seconds: float, clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._seconds = seconds
        self._clock = clock

    def issue(self, name: str, epoch: int, created: int = 0) -> str:
        """A new token of a user.

        Args:
            name: The user's name.
            epoch: The user's epoch now.
            created: When the user was, in microseconds since 1970.
        """
        now = self._clock()
        payload = _encoder.encode(Claims(name, epoch, int(now), int(now + self._seconds), created))
        return PREFIX + _text(self._signature(payload) + payload)

    def read(self, token: str) -> Claims:
        """What a token says.

        Raises:
            Unauthenticated: It was not issued with this key, was changed since, or has expired.
        """
        data = _data(token)
        signature, payload = data[:_SIGNATURE_BYTES], data[_SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._signature(payload)):
            raise Unauthenticated(
                "This bearer token is not valid: it was changed or cut off, or comes from a server with another key. "
                "Log in again with user and password."
            )
        try:
            claims = _decoder.decode(payload)
        except msgspec.MsgspecError:
            raise Unauthenticated(
                "This bearer token is of another version of the server. Log in again with user and password."
            ) from None
        now = self._clock()
        if claims.expires <= now:
            raise Unauthenticated(
                f"This bearer token expired {now - claims.expires:.0f} seconds ago. Log in again with user and "
                "password, or use an API token."
            )
        return claims

    def should_renew(self, claims: Claims) -> bool:
        """Whether more than half of a token's life is over."""
        return self._clock() > (claims.issued + claims.expires) / 2

    def _signature(self, payload: bytes) -> bytes:
        return hmac.digest(self._key, _DOMAIN + payload, hashlib.sha256)


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _data(token: str) -> bytes:
    """The bytes of a token; none if it has not the form of one, which no signature is right for."""
    encoded = token.removeprefix(PREFIX)
    if encoded == token or len(encoded) > _MAX_CHARACTERS:
        return b""
    try:
        data = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except (binascii.Error, ValueError):  # ValueError: a character beyond ASCII
        return b""
    # Python skips characters that aren't Base64's, and the last one may have bits to spare.
    return data if _text(data) == encoded else b""
