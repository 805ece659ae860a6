"""API tokens: secrets by which programs are a user.

A token is `fsk_<id>_<secret>`: the prefix by which scanners of source code can find a leaked one, an id by which people
speak of it, and 32 random bytes in URL-safe Base64. The catalog keeps SHA-256 of the whole; a slow hash would add
nothing, since 256 random bits can't be guessed. It is found by its id and compared in constant time, so that how long
an answer takes tells nothing about secrets.

`ApiTokens` keeps an index of one `AccessState`, and makes it anew when it is given another: a token that was dropped is
unknown from that moment on.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from flightserver.catalog.identities import ApiToken
from flightserver.errors import Unauthenticated

if TYPE_CHECKING:
    from flightserver.catalog.identities import AccessState, User

PREFIX: Final = "fsk_"

_ID_BYTES = 6
"""A few thousand tokens have different ids; two with the same would both work."""
_SECRET_BYTES = 32
_FORM = re.compile(r"fsk_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")


def new_token(
    *, comment: str = "", expires: datetime | None = None, created: datetime | None = None
) -> tuple[str, ApiToken]:
    """Draw a new token.

    Args:
        comment: What it is for.
        expires: When it ends to be valid, with a time zone; None for never.
        created: When it is made; None for now.

    Returns:
        The secret, to be shown once, and what the catalog keeps of it.
    """
    identity = secrets.token_hex(_ID_BYTES)
    secret = f"{PREFIX}{identity}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    made = datetime.now(UTC) if created is None else created
    return secret, ApiToken(identity, digest(secret), made, expires, comment)


def digest(secret: str) -> str:
    """SHA-256 of a token, in hexadecimal."""
    return hashlib.sha256(secret.encode()).hexdigest()


class ApiTokens:
    """Finds the user of a token."""

    def __init__(self) -> None:
        self._index: tuple[AccessState | None, dict[str, list[tuple[User, ApiToken]]]] = (None, {})

    def find(self, state: AccessState, secret: str, now: float) -> User:
        """The user whose token this is, disabled or not.

        Args:
            state: All users.
            secret: The token that was given.
            now: Seconds since 1970.

        Raises:
            Unauthenticated: It is nobody's, or has expired.
        """
        form = _FORM.fullmatch(secret)
        given = digest(secret) if form else ""
        for user, token in self._named(state, form[1]) if form else ():
            if hmac.compare_digest(given, token.sha256):
                if token.expires is not None and token.expires.timestamp() <= now:
                    raise Unauthenticated(
                        f"The API token {token.id!r} expired on {token.expires:%Y-%m-%d %H:%M:%S %Z}. Make a new one "
                        "with user.create_token."
                    )
                return user
        raise Unauthenticated(
            "This API token is not valid: it was mistyped or cut off, or it was dropped. A token is fsk_, its id, _ "
            "and 43 characters; user.list_tokens names those that exist by their ids."
        )

    def _named(self, state: AccessState, identity: str) -> list[tuple[User, ApiToken]]:
        indexed, index = self._index
        if indexed is not state:
            index = {}
            for user in state.users.values():
                for token in user.tokens:
                    index.setdefault(token.id, []).append((user, token))
            # One assignment, so that no thread sees the index of another state.
            self._index = (state, index)
        return index.get(identity, [])
