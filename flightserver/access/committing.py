"""How users, roles, grants, policies and tags are changed: planned on a snapshot, and committed if it is still so.

Theory of operation: each change is one commit, which requires that nobody has changed users, roles or policies since
it was planned (`AccessUnchanged`); if somebody has, it is planned again. So rules that span several users hold whoever
else administers at the same time. The same operation id commits once.

Invariant: as soon as there are users, one of them is an administrator who can log in, see `can_administer`; a change
after which nobody could is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flightserver.catalog.catalog import utc_now
from flightserver.catalog.identities import ADMIN, BUILT_IN_ROLES
from flightserver.catalog.identity_updates import PutUser
from flightserver.catalog.log import Operation
from flightserver.catalog.requirements import AccessUnchanged
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.ulid import new_ulid
from flightserver.errors import CommitConflict, InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.identities import AccessState, Role, User
    from flightserver.catalog.requirements import Requirement
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.catalog.updates import Update

_ATTEMPTS = 20
"""Commits of one change; each refusal is another's change of users, roles or policies, of which there are few."""


@dataclass(frozen=True, slots=True)
class Author:
    """Who changes something.

    Attributes:
        user: Name, for the log.
        operation: Id of what is done; the same id is committed once.
    """

    user: str
    operation: str = field(default_factory=new_ulid)


def can_administer(user: User) -> bool:
    """Whether a user is an administrator who can log in, now and for ever: a token that expires doesn't count."""
    lasting = any(token.expires is None for token in user.tokens)
    return ADMIN in user.roles and not user.disabled and bool(user.password or user.certificates or lasting)


class AccessCommits:
    """Commits changes of users, roles and policies. All methods may be called from any thread, and on several servers.

    Args:
        catalog: What keeps them.
        clock: Tells the time, UTC.
    """

    def __init__(self, catalog: Catalog, clock: Callable[[], datetime] = utc_now) -> None:
        self._catalog = catalog
        self.now = clock

    def user(self, name: str) -> User:
        """The user of this name.

        Raises:
            NotFound: There is none.
        """
        return find_user(self._catalog.snapshot().access, name)

    def change_user(
        self, by: Author, kind: str, name: str, detail: str, changed: Callable[[User, AccessState], User]
    ) -> None:
        """Commit what `changed` makes of a user, and nothing if that is the user as it is. Raises as `change`."""

        def plan(snapshot: Snapshot) -> list[Update]:
            user = find_user(snapshot.access, name)
            now = changed(user, snapshot.access)
            return [] if now == user else [PutUser(now)]

        self.change(by, kind, detail, plan)

    def change(
        self,
        by: Author,
        kind: str,
        detail: str,
        plan: Callable[[Snapshot], list[Update]],
        required: Callable[[Snapshot], Requirement] = lambda snapshot: AccessUnchanged(snapshot.access.version),
    ) -> None:
        """Commit what `plan` makes of the newest snapshot, and nothing if that is nothing.

        Args:
            by: Who does it.
            kind: Of the operation, for the log.
            detail: Likewise, without secrets.
            plan: Makes updates of a snapshot; it may be called several times.
            required: What must not change while they are planned.

        Raises:
            NotFound: There is no such thing as what an update changes.
            InvalidRequest: Nobody could administer any more.
            CommitConflict: Others are always faster.
        """
        operation = Operation(id=by.operation, kind=kind, detail=detail, user=by.user)
        for _ in range(_ATTEMPTS):
            snapshot = self._catalog.snapshot()
            if by.operation in snapshot.operations:
                return
            updates = tuple(plan(snapshot))
            if not updates:
                return
            _check_administrator(snapshot, updates, self.now())
            try:
                self._catalog.commit(Transaction(operation, updates, (required(snapshot),)))
            except CommitConflict as error:
                conflict = error
            else:
                return
        raise conflict


def _check_administrator(snapshot: Snapshot, updates: Sequence[Update], now: datetime) -> None:
    """Refuse updates after which nobody could administer a server that has users."""
    draft = snapshot.draft(now)
    draft.run("", 0, updates)
    before, after = snapshot.access.users, draft.access.users
    if any(map(can_administer, after.values())) or not (before or after):
        return
    if not before:
        raise InvalidRequest(
            f"the first user must have the role {ADMIN!r}, and a password or a client certificate to log in with: "
            "nobody else could administer the server"
        )
    if any(map(can_administer, before.values())):
        [last] = [name for name, user in before.items() if can_administer(user)]
        raise InvalidRequest(
            f"user {last!r} is the last administrator who can log in (by a password, a client certificate or a token "
            "that doesn't expire), and has to stay so: make another one first"
        )


def find_user(access: AccessState, name: str) -> User:
    """The user of this name.

    Raises:
        NotFound: There is none; the message lists those that there are.
    """
    found = access.users.get(name)
    if found is None:
        raise NotFound(f"there is no user {name!r}; there are: {', '.join(sorted(access.users)) or 'none'}")
    return found


def find_role(access: AccessState, name: str) -> Role:
    """The role of this name, which isn't built in.

    Raises:
        NotFound: There is none; the message lists those that there are.
    """
    check_roles(access, [name])
    return access.roles[name]


def check_roles(access: AccessState, names: Iterable[str]) -> None:
    """Return when all of these are roles.

    Raises:
        NotFound: One isn't; the message lists those that there are.
    """
    for name in names:
        if name not in access.roles and name not in BUILT_IN_ROLES:
            known = ", ".join((*BUILT_IN_ROLES, *sorted(access.roles)))
            raise NotFound(f"there is no role {name!r}; there are: {known}")


def once(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once, in order of first use."""
    return tuple(dict.fromkeys(names))
