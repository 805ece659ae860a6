"""The actions `user.*`: users with their passwords, roles, certificates and tokens.

Administrators may call all of them. Anybody may ask `whoami`, change the own password, and handle the own tokens. Who
hasn't come by a password may not make tokens, and who has no password may not give itself one: what an administrator or
an issuer gave for a while would last for ever.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, NoReturn

import msgspec

from flightserver.access.committing import Author
from flightserver.access.passwords import PasswordCheck
from flightserver.catalog.catalog import utc_now
from flightserver.errors import Forbidden, InvalidRequest, NotFound
from flightserver.flight.actions.datasets import Done
from flightserver.flight.actions.registry import Action, ActionResponse, Progress, ServerRequest
from flightserver.flight.permissions import ADMIN, CALLER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.access.administering import Administration
    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.identities import Grant, User
    from flightserver.flight.middleware import CallContext

_BY_PASSWORD = frozenset({"password", "bearer"})
"""As `Principal.method` has it; a bearer token is what a password was given for."""
_MOST_DAYS = 36_500


class NothingRequest(ServerRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `user.list` and `user.whoami`: nothing."""


class UserRequest(ServerRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of actions on one user."""

    name: str


class CreateUserRequest(UserRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `user.create`."""

    password: str | None = None
    roles: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()


class PasswordRequest(UserRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `user.set_password`; `current_password` for the own one."""

    password: str
    current_password: str | None = None


class RolesRequest(UserRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `user.set_roles`."""

    roles: tuple[str, ...]


class CertificatesRequest(UserRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `user.set_certificates`."""

    certificates: tuple[str, ...]


class OwnRequest(ServerRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `user.list_tokens`: without `name` it is about the caller."""

    name: str | None = None


class TokenRequest(OwnRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `user.create_token`; without `days` the token never expires."""

    comment: Annotated[str, msgspec.Meta(max_length=200)] = ""
    days: Annotated[float, msgspec.Meta(gt=0, le=_MOST_DAYS)] | None = None


class DropTokenRequest(OwnRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `user.drop_token`."""

    id: str


class UserFacts(ActionResponse, frozen=True, kw_only=True):
    """One user; `tokens` is how many it has."""

    name: str
    roles: tuple[str, ...]
    disabled: bool
    has_password: bool
    tokens: int
    certificates: tuple[str, ...]
    created: datetime | None
    version: int


class Users(ActionResponse, frozen=True, kw_only=True):
    """Result of `user.list`."""

    users: list[UserFacts]


class CreatedToken(ActionResponse, frozen=True, kw_only=True):
    """Result of `user.create_token`: nobody can find out `token` again."""

    token: str
    id: str
    expires: datetime | None


class TokenFacts(msgspec.Struct, frozen=True):
    """One API token."""

    id: str
    comment: str
    created: datetime
    expires: datetime | None


class Tokens(ActionResponse, frozen=True, kw_only=True):
    """Result of `user.list_tokens`."""

    name: str
    tokens: list[TokenFacts]


class GrantFacts(msgspec.Struct, frozen=True):
    """Privileges on a dataset; on all of a bucket without `dataset`, and on everything without both."""

    privileges: tuple[str, ...]
    bucket: str | None
    dataset: str | None


class Who(ActionResponse, frozen=True, kw_only=True):
    """Result of `user.whoami`: `grants` are those of the roles that aren't built in."""

    name: str
    method: str
    roles: tuple[str, ...]
    is_admin: bool
    grants: list[GrantFacts]


class UserActions:
    """Handlers."""

    def __init__(self, administration: Administration, catalog: Catalog) -> None:
        self._administration = administration
        self._catalog = catalog
        self._passwords = PasswordCheck(remember_seconds=0)

    def actions(self) -> list[Action]:
        """The family."""
        return [
            Action("user.create", "Make a user.", CreateUserRequest, UserFacts, ADMIN, self._create),
            Action("user.list", "All users.", NothingRequest, Users, ADMIN, self._list),
            Action("user.drop", "Forget a user, with its tokens.", UserRequest, Done, ADMIN, self._drop),
            Action(
                "user.set_password",
                "Change a password; sessions of before end.",
                PasswordRequest,
                UserFacts,
                CALLER,
                self._set_password,
            ),
            Action("user.set_roles", "Give a user exactly these roles.", RolesRequest, UserFacts, ADMIN, self._roles),
            Action(
                "user.set_certificates",
                "Say which client certificates are a user.",
                CertificatesRequest,
                UserFacts,
                ADMIN,
                self._certificates,
            ),
            Action("user.disable", "Let nobody be a user for now.", UserRequest, UserFacts, ADMIN, self._disable),
            Action("user.enable", "Undo user.disable.", UserRequest, UserFacts, ADMIN, self._enable),
            Action(
                "user.end_sessions",
                "Make bearer tokens of a user invalid; API tokens stay.",
                UserRequest,
                UserFacts,
                ADMIN,
                self._end_sessions,
            ),
            Action(
                "user.create_token",
                "Make an API token of a user; its secret is shown this once.",
                TokenRequest,
                CreatedToken,
                CALLER,
                self._create_token,
            ),
            Action("user.list_tokens", "API tokens of a user.", OwnRequest, Tokens, CALLER, self._list_tokens),
            Action("user.drop_token", "Forget an API token.", DropTokenRequest, Done, CALLER, self._drop_token),
            Action("user.whoami", "Who the caller is, and may do what.", NothingRequest, Who, CALLER, self._whoami),
        ]

    def _create(self, call: CallContext, request: CreateUserRequest) -> Iterator[Progress | ActionResponse]:
        self._administration.create_user(
            Author(call.user),
            request.name,
            password=request.password,
            roles=request.roles,
            certificates=request.certificates,
        )
        yield self._facts(request.name)

    def _list(self, _call: CallContext, _request: NothingRequest) -> Iterator[Progress | ActionResponse]:
        yield Users(users=[_user_facts(one) for one in self._catalog.snapshot().access.users.values()])

    def _drop(self, call: CallContext, request: UserRequest) -> Iterator[Progress | ActionResponse]:
        self._administration.drop_user(Author(call.user), request.name)
        yield Done()

    def _set_password(self, call: CallContext, request: PasswordRequest) -> Iterator[Progress | ActionResponse]:
        if request.name == call.user:
            _require_account(call)
        if request.name == call.user and (user := self._administration.user(request.name)).password:
            if request.current_password is None:
                raise InvalidRequest("`current_password` is missing: who changes the own password has to give it")
            if not self._passwords.is_right(user.name, user.password, request.current_password):
                raise Forbidden("`current_password` is not the current password of this user")
        elif not call.rights.is_admin:
            _forbid(call, "set a first password, or the password of another user")
        self._administration.set_password(Author(call.user), request.name, request.password)
        yield self._facts(request.name)

    def _roles(self, call: CallContext, request: RolesRequest) -> Iterator[Progress | ActionResponse]:
        self._administration.set_roles(Author(call.user), request.name, request.roles)
        yield self._facts(request.name)

    def _certificates(self, call: CallContext, request: CertificatesRequest) -> Iterator[Progress | ActionResponse]:
        self._administration.set_certificates(Author(call.user), request.name, request.certificates)
        yield self._facts(request.name)

    def _disable(self, call: CallContext, request: UserRequest) -> Iterator[Progress | ActionResponse]:
        self._administration.disable(Author(call.user), request.name)
        yield self._facts(request.name)

    def _enable(self, call: CallContext, request: UserRequest) -> Iterator[Progress | ActionResponse]:
        self._administration.enable(Author(call.user), request.name)
        yield self._facts(request.name)

    def _end_sessions(self, call: CallContext, request: UserRequest) -> Iterator[Progress | ActionResponse]:
        self._administration.end_sessions(Author(call.user), request.name)
        yield self._facts(request.name)

    def _create_token(self, call: CallContext, request: TokenRequest) -> Iterator[Progress | ActionResponse]:
        name = _whose(call, request)
        if call.rights.principal.method not in _BY_PASSWORD and not call.rights.is_admin:
            _forbid(call, "make a token by means of a token or certificate: log in by the password")
        expires = None if request.days is None else utc_now() + timedelta(days=request.days)
        secret, made = self._administration.create_token(
            Author(call.user), name, comment=request.comment, expires=expires
        )
        yield CreatedToken(token=secret, id=made.id, expires=made.expires)

    def _list_tokens(self, call: CallContext, request: OwnRequest) -> Iterator[Progress | ActionResponse]:
        user = self._administration.user(_whose(call, request))
        tokens = [TokenFacts(one.id, one.comment, one.created, one.expires) for one in user.tokens]
        yield Tokens(name=user.name, tokens=tokens)

    def _drop_token(self, call: CallContext, request: DropTokenRequest) -> Iterator[Progress | ActionResponse]:
        self._administration.drop_token(Author(call.user), _whose(call, request), request.id)
        yield Done()

    def _whoami(self, call: CallContext, _request: NothingRequest) -> Iterator[Progress | ActionResponse]:
        principal = call.rights.principal
        roles = call.rights.access.roles
        grants = [grant for name in sorted(principal.roles) if name in roles for grant in roles[name].grants]
        yield Who(
            name=principal.name,
            method=principal.method,
            roles=tuple(sorted(principal.roles)),
            is_admin=call.rights.is_admin,
            grants=[grant_facts(grant) for grant in grants],
        )

    def _facts(self, name: str) -> UserFacts:
        return _user_facts(self._administration.user(name))


def grant_facts(grant: Grant) -> GrantFacts:
    """A grant as results have it."""
    return GrantFacts(tuple(one.value for one in grant.privileges), grant.bucket or None, grant.dataset or None)


def _whose(call: CallContext, request: OwnRequest) -> str:
    """Whom a request is about that everybody may send about oneself.

    Raises:
        Forbidden: Somebody else, and the caller is no administrator.
        NotFound: As `_require_account`.
    """
    name = call.user if request.name is None else request.name
    if name != call.user and not call.rights.is_admin:
        _forbid(call, "see or change tokens of another user")
    _require_account(call)
    return name


def _require_account(call: CallContext) -> None:
    """Return when the caller is a user of the catalog, or an administrator, who may be told which there are.

    Raises:
        NotFound: It is known by its JSON web tokens only.
    """
    if not call.rights.is_admin and call.user not in call.rights.access.users:
        raise NotFound(
            f"user {call.user!r} is known by JSON web tokens only, and has neither a password nor API tokens here: an "
            "administrator can make a user of that name"
        )


def _forbid(call: CallContext, what: str) -> NoReturn:
    raise Forbidden(f"user {call.user!r} may not {what}; an administrator may")


def _user_facts(user: User) -> UserFacts:
    return UserFacts(
        name=user.name,
        roles=user.roles,
        disabled=user.disabled,
        has_password=bool(user.password),
        tokens=len(user.tokens),
        certificates=user.certificates,
        created=user.created,
        version=user.version,
    )
