"""Whom a call is from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flightserver.catalog.identities import ADMIN

ANONYMOUS_NAME: Final = "anonymous"


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who was recognised.

    Attributes:
        name: Of the user.
        roles: Names of its roles, as they are now.
        method: How it was recognised: `open` (the server has no users), `password`, `bearer`, `token`, `jwt`,
            `certificate` or `local` (a command on the machine, which needs no credential).
    """

    name: str
    roles: frozenset[str]
    method: str


ANONYMOUS: Final = Principal(ANONYMOUS_NAME, frozenset({ADMIN}), "open")
"""Everybody, as long as the server has no users: it listens on loopback only then, unless it was told otherwise."""

LOCAL: Final = Principal("local", frozenset({ADMIN}), "local")
"""A command that opens the data directory itself."""

NO_USERS: Final = frozenset({ANONYMOUS.name, LOCAL.name})
"""Names of others than users: no user may have one, wherever it comes from."""
