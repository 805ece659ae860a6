"""Whom a call is from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from flightserver.catalog.identities import ADMIN

if TYPE_CHECKING:
    from flightserver.catalog.identities import AccessState

ANONYMOUS_NAME: Final = "anonymous"
_OPEN: Final = "open"


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who was recognised.

    Attributes:
        name: Of the user.
        roles: Names of its roles, as they were when it was recognised.
        method: How it was recognised: `open` (the server has no users), `password`, `bearer`, `token`, `jwt`,
            `certificate` or `local` (a command on the machine, which needs no credential).
        claimed: Those of the roles that its credential gives, whatever the catalog says; None for all of them.
    """

    name: str
    roles: frozenset[str]
    method: str
    claimed: frozenset[str] | None = None

    def at(self, access: AccessState) -> Principal:
        """The same with the roles that it has by a state of the catalog.

        A user who is disabled there has none, and neither has anybody whom a server didn't ask because it had no users.
        """
        if self.claimed is None:
            return replace(self, roles=frozenset()) if self.method == _OPEN and access.users else self
        user = access.users.get(self.name)
        given = frozenset(() if user is None else user.roles)
        roles = frozenset() if user is not None and user.disabled else self.claimed | given
        return self if roles == self.roles else replace(self, roles=roles)


ANONYMOUS: Final = Principal(ANONYMOUS_NAME, frozenset({ADMIN}), _OPEN)
"""Everybody, as long as the server has no users: it listens on loopback only then, unless it was told otherwise."""

LOCAL: Final = Principal("local", frozenset({ADMIN}), "local")
"""A command that opens the data directory itself."""

NO_USERS: Final = frozenset({ANONYMOUS.name, LOCAL.name})
"""Names of others than users: no user may have one, wherever it comes from."""
