"""The actions `role.*` and `policy.*`, and `dataset.tag_columns`: what roles may do, and what is hidden from them.

Where a request names a dataset without its bucket, the bucket is that of the header or session, or `primary`; other
buckets aren't looked at, because who protects something must know what. Without a dataset only the bucket of the
request counts, and without that all buckets are meant.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # msgspec resolves the annotations when it makes the JSON schema
from typing import TYPE_CHECKING, Literal

import msgspec

from flightserver.access.committing import Author
from flightserver.access.granting import Place
from flightserver.catalog.identities import BUILT_IN_ROLES, Policy, Privilege
from flightserver.errors import NotFound
from flightserver.flight.actions.datasets import Done
from flightserver.flight.actions.registry import Action, ActionRequest, ActionResponse, Progress, ServerRequest
from flightserver.flight.actions.users import GrantFacts, grant_facts
from flightserver.flight.permissions import ADMIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flightserver.access.administering import Administration
    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.identities import AccessState
    from flightserver.flight.middleware import CallContext

_ALL = "all"


class ListRequest(ServerRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `role.list` and `policy.list`: nothing."""


class NamedRequest(ServerRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `role.drop` and `policy.drop`."""

    name: str


class CreateRoleRequest(NamedRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `role.create`."""

    comment: str = ""


class GrantRequest(ActionRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `role.grant` and `role.revoke`: on a dataset, on all of `bucket`, or on everything."""

    role: str
    privileges: tuple[Literal["select", "insert", "update", "delete", "create", "alter", "all"], ...]
    dataset: str | None = None


class PolicyRequest(ActionRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `policy.create`: the fields of a policy, and whether it may take the place of another."""

    name: str
    dataset: str | None = None
    filter: str = ""
    masks: dict[str, str] = msgspec.field(default_factory=dict)
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    roles: tuple[str, ...] = ()
    exempt: tuple[str, ...] = ()
    replace: bool = False


class TagRequest(ActionRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `dataset.tag_columns`: column -> all its tags; an empty list takes them away."""

    dataset: str
    columns: dict[str, tuple[str, ...]]


class RoleFacts(ActionResponse, frozen=True, kw_only=True):
    """One role; `users` are those who have it."""

    name: str
    built_in: bool
    comment: str
    grants: list[GrantFacts]
    users: list[str]


class Roles(ActionResponse, frozen=True, kw_only=True):
    """Result of `role.list`."""

    roles: list[RoleFacts]


class PolicyFacts(ActionResponse, frozen=True, kw_only=True):
    """One policy."""

    name: str
    bucket: str | None
    dataset: str | None
    filter: str
    masks: dict[str, str]
    tags: dict[str, str]
    roles: tuple[str, ...]
    exempt: tuple[str, ...]
    created: datetime | None
    version: int


class Policies(ActionResponse, frozen=True, kw_only=True):
    """Result of `policy.list`."""

    policies: list[PolicyFacts]


class Tagged(ActionResponse, frozen=True, kw_only=True):
    """Result of `dataset.tag_columns`: all tags of the dataset's columns."""

    dataset: str
    bucket: str
    columns: dict[str, tuple[str, ...]]


class AccessActions:
    """Handlers.

    Args:
        administration: Changes roles, policies and tags.
        catalog: Shows them.
        check_policy: Looks at the SQL of a policy, and raises what is wrong with it.
    """

    def __init__(
        self, administration: Administration, catalog: Catalog, check_policy: Callable[[Policy], None]
    ) -> None:
        self._administration = administration
        self._catalog = catalog
        self._check_policy = check_policy

    def actions(self) -> list[Action]:
        """The families."""
        return [
            Action("role.create", "Make a role without grants.", CreateRoleRequest, RoleFacts, ADMIN, self._create),
            Action("role.list", "All roles, with their grants and users.", ListRequest, Roles, ADMIN, self._list),
            Action("role.drop", "Forget a role, also of users who have it.", NamedRequest, Done, ADMIN, self._drop),
            Action("role.grant", "Allow a role more.", GrantRequest, RoleFacts, ADMIN, self._grant),
            Action("role.revoke", "Take back what a role was granted.", GrantRequest, RoleFacts, ADMIN, self._revoke),
            Action(
                "policy.create",
                "Hide rows, or values of columns, from some roles.",
                PolicyRequest,
                PolicyFacts,
                ADMIN,
                self._create_policy,
            ),
            Action("policy.list", "All policies.", ListRequest, Policies, ADMIN, self._list_policies),
            Action("policy.drop", "Forget a policy.", NamedRequest, Done, ADMIN, self._drop_policy),
            Action(
                "dataset.tag_columns",
                "Say what columns are, such as pii, for policies.",
                TagRequest,
                Tagged,
                ADMIN,
                self._tag,
            ),
        ]

    def _create(self, call: CallContext, request: CreateRoleRequest) -> Iterator[Progress | ActionResponse]:
        self._administration.create_role(Author(call.user), request.name, comment=request.comment)
        yield self._role(request.name)

    def _list(self, _call: CallContext, _request: ListRequest) -> Iterator[Progress | ActionResponse]:
        access = self._catalog.snapshot().access
        yield Roles(roles=[_role_facts(access, name) for name in (*BUILT_IN_ROLES, *sorted(access.roles))])

    def _drop(self, call: CallContext, request: NamedRequest) -> Iterator[Progress | ActionResponse]:
        self._administration.drop_role(Author(call.user), request.name)
        yield Done()

    def _grant(self, call: CallContext, request: GrantRequest) -> Iterator[Progress | ActionResponse]:
        place = _place(call, request, request.dataset)
        self._administration.grant(Author(call.user), request.role, _privileges(request), place)
        yield self._role(request.role)

    def _revoke(self, call: CallContext, request: GrantRequest) -> Iterator[Progress | ActionResponse]:
        place = _place(call, request, request.dataset)
        self._administration.revoke(Author(call.user), request.role, _privileges(request), place)
        yield self._role(request.role)

    def _create_policy(self, call: CallContext, request: PolicyRequest) -> Iterator[Progress | ActionResponse]:
        place = _place(call, request, request.dataset)
        policy = Policy(
            name=request.name,
            bucket=place.bucket,
            dataset=place.dataset,
            filter=request.filter.strip(),
            masks=request.masks,
            tags=request.tags,
            roles=request.roles,
            exempt=request.exempt,
        )
        self._check_policy(policy)
        self._administration.create_policy(Author(call.user), policy, replace_it=request.replace)
        found = self._catalog.snapshot().access.policies.get(request.name)
        if found is None:
            raise NotFound(f"policy {request.name!r} was made, and somebody else has dropped it since")
        yield _policy_facts(found)

    def _list_policies(self, _call: CallContext, _request: ListRequest) -> Iterator[Progress | ActionResponse]:
        policies = self._catalog.snapshot().access.policies
        yield Policies(policies=[_policy_facts(policies[name]) for name in sorted(policies)])

    def _drop_policy(self, call: CallContext, request: NamedRequest) -> Iterator[Progress | ActionResponse]:
        self._administration.drop_policy(Author(call.user), request.name)
        yield Done()

    def _tag(self, call: CallContext, request: TagRequest) -> Iterator[Progress | ActionResponse]:
        place = _place(call, request, request.dataset)
        self._administration.tag_columns(Author(call.user), place.bucket, place.dataset, request.columns)
        found = self._catalog.snapshot().dataset(place.dataset, place.bucket)
        yield Tagged(dataset=found.name, bucket=found.bucket, columns=found.column_tags)

    def _role(self, name: str) -> RoleFacts:
        return _role_facts(self._catalog.snapshot().access, name)


def _place(call: CallContext, request: ActionRequest, dataset: str | None) -> Place:
    if dataset is None:
        return Place(request.bucket or "")
    return Place(request.bucket or call.home(None), dataset)


def _privileges(request: GrantRequest) -> tuple[Privilege, ...] | None:
    if _ALL in request.privileges:
        return None
    return tuple(Privilege(name) for name in request.privileges)


def _role_facts(access: AccessState, name: str) -> RoleFacts:
    role = access.roles.get(name)
    return RoleFacts(
        name=name,
        built_in=name in BUILT_IN_ROLES,
        comment="" if role is None else role.comment,
        grants=[] if role is None else [grant_facts(grant) for grant in role.grants],
        users=sorted(user.name for user in access.users.values() if name in user.roles),
    )


def _policy_facts(policy: Policy) -> PolicyFacts:
    return PolicyFacts(
        name=policy.name,
        bucket=policy.bucket or None,
        dataset=policy.dataset or None,
        filter=policy.filter,
        masks=policy.masks,
        tags=policy.tags,
        roles=policy.roles,
        exempt=policy.exempt,
        created=policy.created,
        version=policy.version,
    )
