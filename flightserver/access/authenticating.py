"""Whom a call is from: the credential of its header, or its certificate, turned into a principal.

Theory of operation: `Authenticator.authenticate` is asked at each call, with the value of the header `authorization`.
Nothing of the answer is kept: whether a user exists, is disabled and has which roles is looked up in the catalog's
state of that moment, so that what an administrator changes holds for the next call of everybody.

What is understood, schemes in any case of letters::

    Basic user:password      a password of a user; the answer is a bearer token, which is cheap to check
    Basic :token             a token below as the password, for programs that only ask for a password; the user name
    Basic token:token        is empty or the word `token`
    Bearer fsb_...           what a login gave; the answer is a new one when more than half of its life is over
    Bearer fsk_...           an API token of a user
    Bearer eyJ...            a JSON web token of the issuer of `access.jwks`

Basic is Base64 with or without padding (the Go client leaves it out), of UTF-8.

As long as there are no users and no issuer, the server is open: everybody is `anonymous`, whatever is sent, and an
answer is sent that clients take for a login.

Invariants:
    - No message has a credential or part of one in it.
    - An unknown user, a wrong password, a disabled user and a user without a password are refused with the same text,
      and at the same cost.
    - A token is answered by no other kind of token, so that dropping it ends what it began.
"""

from __future__ import annotations

import binascii
import time
from base64 import b64decode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from flightserver.access import api_tokens, bearer, jwt_tokens
from flightserver.access.api_tokens import ApiTokens
from flightserver.access.bearer import BearerTokens
from flightserver.access.jwt_tokens import JwtTokens
from flightserver.access.passwords import PasswordCheck
from flightserver.access.principal import ANONYMOUS, NO_USERS, Principal
from flightserver.errors import Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable

    from flightserver.catalog.identities import AccessState, User
    from flightserver.settings import AccessSettings

OPEN_ANSWER: Final = "Bearer anonymous"
"""What an open server answers to a login; it means nothing."""

_TOKEN_USERS = {"", "token"}
_TOKEN_PREFIXES = (bearer.PREFIX, api_tokens.PREFIX, jwt_tokens.PREFIX)

_EXPECTED = (
    "the header authorization with 'Basic' and user:password in Base64, or 'Bearer' and a bearer token (fsb_...), an "
    "API token (fsk_...) or a JSON web token. Clients have options for user and password, or for a token."
)
_WRONG_LOGIN = "User name and password don't belong together, or the user is disabled."


@dataclass(frozen=True, slots=True)
class Authenticated:
    """Somebody who was recognised.

    Attributes:
        principal: Who.
        answer: What the header `authorization` of the answer shall be, which clients send from then on; None if the
            client shall go on with what it has.
    """

    principal: Principal
    answer: str | None = None

    def __repr__(self) -> str:
        """Without the answer, which is a secret."""
        return f"Authenticated(principal={self.principal!r})"


class Authenticator:
    """Recognises users.

    Args:
        state: The users of this moment.
        key: The 32 secret bytes that sign tickets; servers that share them accept each other's bearer tokens.
        settings: How users are recognised.
        clock: Seconds since 1970.
        ticks: Seconds of a clock that is never set.

    Raises:
        InvalidRequest: The settings for JSON web tokens are incomplete, or their keys can't be read.
    """

    def __init__(
        self,
        state: Callable[[], AccessState],
        key: bytes,
        settings: AccessSettings,
        *,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state = state
        self._clock = clock
        self._passwords = PasswordCheck(settings.password_cache_seconds, ticks=ticks)
        self._bearer = BearerTokens(key, settings.token_seconds, clock)
        self._api_tokens = ApiTokens()
        self._jwt = JwtTokens(settings, clock=clock) if settings.jwks else None

    @property
    def is_open(self) -> bool:
        """Whether everybody is `anonymous`: there are no users and no issuer of tokens."""
        return self._jwt is None and not self._state().users

    def authenticate(self, authorization: str) -> Authenticated:
        """Recognise who sent a header.

        Args:
            authorization: Its value; empty if there was none.

        Raises:
            Unauthenticated: It is nobody's.
            Overloaded: Too many passwords are being checked.
        """
        if self.is_open:
            return Authenticated(ANONYMOUS, OPEN_ANSWER)
        scheme, _, credential = authorization.strip().partition(" ")
        match scheme.lower():
            case "basic":
                return self._basic(credential.strip())
            case "bearer":
                return self._token(credential.strip())
            case "":
                raise Unauthenticated(f"This server wants to know who calls: it expects {_EXPECTED}")
            case _:
                raise Unauthenticated(f"The header authorization has a scheme that is not known: expected {_EXPECTED}")

    def claimed(self, authorization: str) -> str:
        """The user whom a wrong password was given for; empty when there is no such user, or no password was given.

        What isn't a user's name may be a secret in the wrong place, and is told to nobody.
        """
        scheme, _, credential = authorization.strip().partition(" ")
        if scheme.lower() != "basic":
            return ""
        try:
            name, _ = _name_and_password(credential.strip())
        except Unauthenticated:
            return ""
        return name if name in self._state().users else ""

    def certificate(self, identity: str) -> Principal:
        """Recognise who has a client certificate, whose signature was checked by TLS.

        Args:
            identity: What the certificate names. It is the user that has it among its `certificates`, else the one that
                is called so.

        Raises:
            Unauthenticated: It is nobody's, that of a disabled user, or of several.
        """
        if self.is_open:
            return ANONYMOUS
        users = self._state().users
        owners = [user for user in users.values() if identity and identity in user.certificates]
        if not owners and identity in users:
            owners = [users[identity]]
        if len(owners) != 1:
            raise Unauthenticated(
                f"The client certificate of {identity[:200]!r} belongs to {'several users' if owners else 'no user'}; "
                "an administrator gives it to one."
            )
        return _principal(_enabled(owners[0]), "certificate")

    def _basic(self, credential: str) -> Authenticated:
        name, password = _name_and_password(credential)
        if name in _TOKEN_USERS and password.startswith(_TOKEN_PREFIXES):
            found = self._token(password)
            return Authenticated(found.principal, found.answer or f"Bearer {password}")
        known = self._state().users.get(name)
        stored = known.password if known else ""
        is_right = self._passwords.is_right(name, stored, password)
        # The check may have waited for its turn, and the user may be another since.
        user = self._state().users.get(name)
        if not is_right or user is None or user.disabled or user.password != stored:
            raise Unauthenticated(_WRONG_LOGIN)
        return Authenticated(_principal(user, "password"), f"Bearer {self._issue(user)}")

    def _token(self, token: str) -> Authenticated:
        if token.startswith(bearer.PREFIX):
            return self._by_bearer(token)
        if token.startswith(api_tokens.PREFIX):
            user = self._api_tokens.find(self._state(), token, self._clock())
            return Authenticated(_principal(_enabled(user), "token"))
        if token.startswith(jwt_tokens.PREFIX):
            return self._by_jwt(token)
        raise Unauthenticated(f"The token after 'Bearer' is of no kind that is known: expected {_EXPECTED}")

    def _by_bearer(self, token: str) -> Authenticated:
        claims = self._bearer.read(token)
        user = self._state().users.get(claims.name)
        if user is None or (user.epoch, _created(user)) != (claims.epoch, claims.created):
            raise Unauthenticated(
                "This bearer token was ended before its time, by a new password or an administrator. Log in again with "
                "user and password."
            )
        principal = _principal(_enabled(user), "bearer")
        is_old = self._bearer.should_renew(claims)
        return Authenticated(principal, f"Bearer {self._issue(user)}" if is_old else None)

    def _issue(self, user: User) -> str:
        return self._bearer.issue(user.name, user.epoch, _created(user))

    def _by_jwt(self, token: str) -> Authenticated:
        if self._jwt is None:
            raise Unauthenticated(
                "This server accepts no JSON web tokens: its setting access.jwks is empty. Log in with user and "
                "password, or use an API token (fsk_...)."
            )
        identity = self._jwt.read(token)
        if identity.name in NO_USERS:
            raise Unauthenticated(f"This JSON web token is not valid: its user {identity.name!r} is reserved here.")
        user = self._state().users.get(identity.name)
        roles = identity.roles if user is None else identity.roles | frozenset(_enabled(user).roles)
        return Authenticated(Principal(identity.name, roles, "jwt", claimed=identity.roles))


def _created(user: User) -> int:
    """Microseconds since 1970."""
    return 0 if user.created is None else round(user.created.timestamp() * 1_000_000)


def _principal(user: User, method: str) -> Principal:
    return Principal(user.name, frozenset(user.roles), method, claimed=frozenset())


def _enabled(user: User) -> User:
    """A user who has shown a secret of its own, unless it is disabled.

    Raises:
        Unauthenticated: It is.
    """
    if user.disabled:
        raise Unauthenticated(f"The user {user.name!r} is disabled; an administrator enables it with user.enable.")
    return user


def _name_and_password(credential: str) -> tuple[str, str]:
    """What Basic says (RFC 7617); a password may have colons, a name has none.

    Raises:
        Unauthenticated: It says nothing.
    """
    try:
        text = b64decode(credential.rstrip("=") + "=" * (-len(credential.rstrip("=")) % 4), validate=True).decode()
    except (binascii.Error, ValueError):  # ValueError: not ASCII, or the bytes are not UTF-8
        text = ""
    name, colon, password = text.partition(":")
    if not colon:
        raise Unauthenticated(
            "What stands after 'Basic' is not user:password in Base64 and UTF-8; user and password belong in the "
            "options of the client, which makes the header of them."
        )
    return name, password
