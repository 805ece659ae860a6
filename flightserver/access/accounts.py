"""Users: made, changed and forgotten, with their passwords, roles, certificates and tokens.

No secret is kept or written to the log: a password's hash takes its place, and a token's SHA-256. The secret of a new
token is returned once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from flightserver.access.api_tokens import new_token
from flightserver.access.committing import AccessCommits, check_roles, find_user, once
from flightserver.access.passwords import hash_password
from flightserver.access.principal import NO_USERS
from flightserver.catalog.identities import User, check_identity_name
from flightserver.catalog.identity_updates import DropUser, PutUser
from flightserver.errors import AlreadyExists, InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from flightserver.access.committing import Author
    from flightserver.catalog.identities import AccessState, ApiToken
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.catalog.updates import Update

MOST_TOKENS = 100
"""Of one user: the catalog holds all of them in memory, and nobody can oversee more."""

MOST_CERTIFICATES = 100
_LONGEST_IDENTITY = 1024
"""Characters of a certificate's identity; distinguished names are rarely longer than 200."""

RESERVED_NAMES = NO_USERS | {"token"}
"""Also the name under which clients send a token as a password."""


class Accounts(AccessCommits):
    """Changes users.

    Every method makes one commit or, when there is nothing to change, none. All raise CommitConflict when others are
    always faster, and BackendUnavailable when storage fails.
    """

    def create_user(
        self,
        by: Author,
        name: str,
        *,
        password: str | None = None,
        roles: Sequence[str] = (),
        certificates: Sequence[str] = (),
    ) -> None:
        """Make a user.

        Raises:
            AlreadyExists: The name is taken, or a certificate is another user's.
            NotFound: There is no such role.
            InvalidRequest: Name, password or certificate isn't one, or the first user couldn't administer.
        """
        if check_identity_name(name, "user") in RESERVED_NAMES:
            raise InvalidRequest(f"{name!r} can't name a user: it is reserved; choose another name")
        hashed = "" if password is None else hash_password(password)

        def plan(snapshot: Snapshot) -> list[Update]:
            access = snapshot.access
            if name in access.users:
                raise AlreadyExists(f"there is a user {name!r} already: choose another name, or change that user")
            check_roles(access, roles)
            user = User(name, hashed, once(roles), certificates=once(certificates))
            _check_certificates(access, user)
            return [PutUser(user)]

        self.change(by, "create user", name, plan)

    def drop_user(self, by: Author, name: str) -> None:
        """Forget a user, with its tokens.

        Raises:
            NotFound: There is none.
            InvalidRequest: It is the last administrator.
        """
        self.change(by, "drop user", name, lambda snapshot: [DropUser(find_user(snapshot.access, name).name)])

    def set_password(self, by: Author, name: str, password: str) -> None:
        """Give a user another password; sessions of before end.

        Raises:
            NotFound: There is no such user.
            InvalidRequest: The password is too short or too long.
        """
        hashed = hash_password(password)
        self.change_user(
            by, "set password", name, name, lambda user, _: replace(user, password=hashed, epoch=user.epoch + 1)
        )

    def set_certificates(self, by: Author, name: str, certificates: Sequence[str]) -> None:
        """Say which client certificates are a user.

        Raises:
            NotFound: There is no such user.
            AlreadyExists: A certificate is another user's.
            InvalidRequest: It isn't an identity, or nobody could administer any more.
        """

        def changed(user: User, access: AccessState) -> User:
            there = replace(user, certificates=once(certificates))
            _check_certificates(access, there)
            return there

        self.change_user(by, "set certificates", name, name, changed)

    def set_roles(self, by: Author, name: str, roles: Sequence[str]) -> None:
        """Give a user exactly these roles.

        Raises:
            NotFound: There is no such user or role.
            InvalidRequest: It is the last administrator and would be none any more.
        """

        def changed(user: User, access: AccessState) -> User:
            check_roles(access, roles)
            return replace(user, roles=once(roles))

        self.change_user(by, "set roles", name, f"{name}: {', '.join(once(roles)) or 'none'}", changed)

    def grant_role(self, by: Author, role: str, name: str) -> None:
        """Give a user one more role. Raises as `set_roles`."""

        def changed(user: User, access: AccessState) -> User:
            check_roles(access, [role])
            return replace(user, roles=once([*user.roles, role]))

        self.change_user(by, "grant role", name, f"{role} to {name}", changed)

    def revoke_role(self, by: Author, role: str, name: str) -> None:
        """Take a role from a user. Raises as `set_roles`; NotFound as well when the user doesn't have it."""

        def changed(user: User, access: AccessState) -> User:
            check_roles(access, [role])
            if role not in user.roles:
                has = ", ".join(user.roles) or "none"
                raise NotFound(f"user {name!r} doesn't have the role {role!r}; its roles: {has}")
            return replace(user, roles=tuple(each for each in user.roles if each != role))

        self.change_user(by, "revoke role", name, f"{role} from {name}", changed)

    def disable(self, by: Author, name: str) -> None:
        """Let nobody be this user for now; its sessions end.

        Raises:
            NotFound: There is no such user.
            InvalidRequest: It is the last administrator.
        """
        self.change_user(
            by,
            "disable user",
            name,
            name,
            lambda user, _: user if user.disabled else replace(user, disabled=True, epoch=user.epoch + 1),
        )

    def enable(self, by: Author, name: str) -> None:
        """Undo `disable`; sessions of before stay ended.

        Raises:
            NotFound: There is no such user.
        """
        self.change_user(by, "enable user", name, name, lambda user, _: replace(user, disabled=False))

    def end_sessions(self, by: Author, name: str) -> None:
        """Make bearer tokens of before invalid; API tokens stay.

        Raises:
            NotFound: There is no such user.
        """
        self.change_user(by, "end sessions", name, name, lambda user, _: replace(user, epoch=user.epoch + 1))

    def create_token(
        self, by: Author, name: str, *, comment: str = "", expires: datetime | None = None
    ) -> tuple[str, ApiToken]:
        """Make an API token of a user; those that have expired are forgotten.

        Returns:
            The secret, which nobody can find out again, and what is kept of it.

        Raises:
            NotFound: There is no such user.
            InvalidRequest: It expires in the past, or the user has too many.
        """
        now = self.now()
        if expires is not None and expires <= now:
            raise InvalidRequest(f"the token would have expired at {expires.isoformat()} already: name a later time")
        secret, made = new_token(comment=comment, expires=expires, created=now)

        def changed(user: User, _access: AccessState) -> User:
            valid = tuple(token for token in user.tokens if token.expires is None or token.expires > now)
            if len(valid) >= MOST_TOKENS:
                raise InvalidRequest(f"user {name!r} has {len(valid)} tokens, which is the most: drop one first")
            return replace(user, tokens=(*valid, made))

        self.change_user(by, "create token", name, f"{made.id} of {name}", changed)
        return secret, made

    def drop_token(self, by: Author, name: str, token: str) -> None:
        """Forget an API token by its id.

        Raises:
            NotFound: There is no such user or token.
            InvalidRequest: By it alone somebody could administer.
        """

        def changed(user: User, _access: AccessState) -> User:
            left = tuple(each for each in user.tokens if each.id != token)
            if left == user.tokens:
                there = ", ".join(each.id for each in user.tokens) or "none"
                # What was sent may be the secret itself.
                raise NotFound(f"user {name!r} has no token of this id; ids of its tokens: {there}")
            return replace(user, tokens=left)

        self.change_user(by, "drop token", name, f"of {name}", changed)


def _check_certificates(access: AccessState, user: User) -> None:
    if len(user.certificates) > MOST_CERTIFICATES:
        raise InvalidRequest(f"{len(user.certificates)} certificates are more than the {MOST_CERTIFICATES} of a user")
    for identity in user.certificates:
        if not identity.strip() or not identity.isprintable() or len(identity) > _LONGEST_IDENTITY:
            raise InvalidRequest(
                f"{identity[:100]!r} can't be the identity of a certificate: that is its subject, 1 to "
                f"{_LONGEST_IDENTITY} printable characters"
            )
    for other in access.users.values():
        if other.name == user.name:
            continue
        taken = {other.name, *other.certificates}.intersection((user.name, *user.certificates))
        if taken:
            raise AlreadyExists(f"a certificate of {min(taken)!r} is user {other.name!r} already")
