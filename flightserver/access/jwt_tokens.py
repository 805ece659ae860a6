"""JSON web tokens of an issuer that the administrator trusts (RFC 7519).

Theory of operation: a token is accepted when its signature is right by a public key of `access.jwks`, under an
algorithm of `access.jwt_algorithms`, and its claims say that it is from `access.jwt_issuer`, for
`access.jwt_audience`, and valid now. One claim is the user's name and another its roles; such a user needs not be in
the catalog.

The token says by which algorithm it is signed, which has been the way into many servers (RFC 8725 section 2.1). Here
the algorithm must be an allowed one, none of the allowed ones is symmetric or `none`, and the key must be of its type.

Invariants:
    - `exp`, `iss`, `aud` and the claim of the user are required.
    - No claim is believed before the signature was found right.
    - A claim of another type than expected refuses the token.
"""

from __future__ import annotations

import math
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import jwt

from flightserver.access.jwks import ALGORITHMS, open_keys
from flightserver.errors import InvalidRequest, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable

    from flightserver.access.jwks import KeySource, PublicKey
    from flightserver.settings import AccessSettings

PREFIX: Final = "eyJ"
"""Of every JSON object in Base64 that begins with `{"`."""

_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)")
_MAX_CHARACTERS = 16_384
"""Twice what most servers of HTTP take as a header."""
_MAX_NAME = 256

_ADVICE = "Get a new one from the issuer."


@dataclass(frozen=True, slots=True)
class JwtIdentity:
    """Whom a token is about.

    Attributes:
        name: The user.
        roles: What the token gives.
    """

    name: str
    roles: frozenset[str]


class JwtTokens:
    """Reads tokens.

    Args:
        settings: What is expected of them; `jwks` is set.
        clock: Seconds since 1970.

    Raises:
        InvalidRequest: The settings are incomplete, or the keys can't be read.
    """

    def __init__(self, settings: AccessSettings, *, clock: Callable[[], float] = time.time) -> None:
        _check(settings)
        self._settings = settings
        self._clock = clock
        self._keys: KeySource = open_keys(settings.jwks)

    def read(self, token: str) -> JwtIdentity:
        """Whom a token is about.

        Raises:
            Unauthenticated: It isn't one of the issuer's for this server, or not valid now.
        """
        claims = self._claims(token)
        self._check_times(claims)
        return JwtIdentity(self._name(claims), self._roles(claims))

    def _claims(self, token: str) -> dict[str, Any]:
        if not _is_canonical(token):
            raise _refused("it is cut off or changed")
        try:
            header = jwt.get_unverified_header(token)
            algorithm = str(header.get("alg"))
            if algorithm not in self._settings.jwt_algorithms:
                raise _refused(f"its algorithm is not one of {', '.join(self._settings.jwt_algorithms)}")
            kid = header.get("kid")
            key = self._keys.find(kid, algorithm)
            if key is None:
                raise _refused("the issuer has no key of its algorithm and key id")
            return self._verified(token, key, algorithm)
        except jwt.InvalidIssuerError:
            raise _refused("it is not from the issuer that this server trusts (access.jwt_issuer)") from None
        except jwt.InvalidAudienceError:
            raise _refused("it is not for this server (access.jwt_audience)") from None
        except jwt.MissingRequiredClaimError as error:
            raise _refused(f"it has no claim {error.claim!r}") from None
        except jwt.PyJWTError:
            raise _refused("its signature is wrong, or it is malformed") from None

    def _verified(self, token: str, key: PublicKey, algorithm: str) -> dict[str, Any]:
        return jwt.decode(
            token,
            key=key,
            algorithms=[algorithm],
            issuer=self._settings.jwt_issuer,
            audience=self._settings.jwt_audience,
            # The times are checked here by `_check_times`, by this object's clock.
            options={
                "require": ["exp", "iss", "aud"],
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
                "verify_sub": False,
                "verify_jti": False,
            },
        )

    def _check_times(self, claims: dict[str, Any]) -> None:
        now, leeway = self._clock(), self._settings.jwt_leeway_seconds
        if _seconds(claims, "exp") <= now - leeway:
            raise _refused("it has expired")
        for claim in ("nbf", "iat"):
            if claim in claims and _seconds(claims, claim) > now + leeway:
                raise _refused(f"it is not valid yet by its claim {claim!r}; are the clocks right?")

    def _name(self, claims: dict[str, Any]) -> str:
        claim = self._settings.jwt_user_claim
        name = _find(claims, claim)
        if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or not name.isprintable():
            raise _refused(
                f"its claim {claim!r} (access.jwt_user_claim) is not a user name of 1 to {_MAX_NAME} printable "
                "characters"
            )
        return name

    def _roles(self, claims: dict[str, Any]) -> frozenset[str]:
        claim = self._settings.jwt_roles_claim
        match _find(claims, claim):
            case None:
                return frozenset()
            case str(text):
                return frozenset(text.split())
            case [*roles] if len(names := [role for role in roles if isinstance(role, str)]) == len(roles):
                return frozenset(names)
            case _:
                raise _refused(
                    f"its claim {claim!r} (access.jwt_roles_claim) is neither a list of role names nor a text of them"
                )


def _check(settings: AccessSettings) -> None:
    """What must be set with `access.jwks`.

    Raises:
        InvalidRequest: Something isn't.
    """
    for name in ("jwt_issuer", "jwt_audience", "jwt_user_claim", "jwt_roles_claim"):
        if not getattr(settings, name):
            raise InvalidRequest(
                f"access.jwks is set and access.{name} is empty: a token of anybody whom the issuer knows, for any "
                "server, would be accepted. Set access.jwt_issuer and access.jwt_audience to what its tokens have."
            )
    unknown = [name for name in settings.jwt_algorithms if name not in ALGORITHMS]
    if unknown or not settings.jwt_algorithms:
        raise InvalidRequest(
            f"access.jwt_algorithms has {', '.join(unknown) or 'nothing'}; it can have {', '.join(ALGORITHMS)}. "
            "Algorithms whose key is a shared secret, and none, are never accepted."
        )


def _refused(reason: str) -> Unauthenticated:
    return Unauthenticated(f"This JSON web token is not valid: {reason}. {_ADVICE}")


def _is_canonical(token: str) -> bool:
    """Whether it has three parts, and its signature is the one text of its bytes.

    Python skips characters that aren't Base64's, and a last character may have bits to spare; the other parts are
    signed as text.
    """
    form = _FORM.fullmatch(token) if len(token) <= _MAX_CHARACTERS else None
    if form is None or len(form[1]) % 4 == 1:
        return False
    signature = urlsafe_b64decode(form[1] + "=" * (-len(form[1]) % 4))
    return urlsafe_b64encode(signature).rstrip(b"=").decode() == form[1]


def _seconds(claims: dict[str, Any], claim: str) -> float:
    value = claims[claim]
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not (isinstance(value, int) or math.isfinite(value))
    ):
        raise _refused(f"its claim {claim!r} is not a time in seconds since 1970")
    return value


def _find(claims: dict[str, Any], path: str) -> object:
    """A claim by its name, or by the names of objects that hold it, with dots between them; None if it isn't there."""
    if path in claims:
        return claims[path]
    found: object = claims
    for name in path.split("."):
        if not isinstance(found, dict):
            return None
        found = found.get(name)
    return found
