"""Updates of users, roles and policies."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # msgspec resolves the annotations when it decodes
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from flightserver.catalog.identities import BUILT_IN_ROLES, Policy, Role, User, check_identity_name
from flightserver.catalog.update_base import BaseUpdate, DatasetUpdate
from flightserver.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from flightserver.catalog.draft import Draft


_Entity = TypeVar("_Entity", User, Role, Policy)


def _with(entities: dict[str, _Entity], one: _Entity, version: int, time: datetime) -> dict[str, _Entity]:
    """Entities by name with this one; its version is the commit's, and its creation time too unless it has one."""
    return {**entities, one.name: replace(one, version=version, created=one.created or time)}


def _without(entities: dict[str, _Entity], name: str, what: str, built_in: tuple[str, ...] = ()) -> dict[str, _Entity]:
    """Entities by name without one.

    Raises:
        NotFound: There is none of the name.
    """
    if name not in entities:
        there = ", ".join(sorted((*built_in, *entities))) or "none"
        raise NotFound(f"there is no {what} {name!r}; there are: {there}")
    return {each: one for each, one in entities.items() if each != name}


class PutUser(BaseUpdate, frozen=True, tag="put_user"):
    """Create a user, or put it in the place of the one of its name. Its version is set, whatever it says."""

    user: User

    def apply(self, draft: Draft, version: int, time: datetime) -> None:
        """Add the user."""
        check_identity_name(self.user.name, "user")
        users = _with(draft.access.users, self.user, version, time)
        draft.access = replace(draft.access, version=version, users=users)


class DropUser(BaseUpdate, frozen=True, tag="drop_user"):
    """Forget a user."""

    user: str

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Remove the user."""
        users = _without(draft.access.users, self.user, "user")
        draft.access = replace(draft.access, version=version, users=users)


class PutRole(BaseUpdate, frozen=True, tag="put_role"):
    """Create a role, or put it in the place of the one of its name. Its version is set, whatever it says."""

    role: Role

    def apply(self, draft: Draft, version: int, time: datetime) -> None:
        """Add the role."""
        check_identity_name(self.role.name, "role")
        if self.role.name in BUILT_IN_ROLES:
            raise InvalidRequest(f"role {self.role.name!r} is built in: what it may do can't be changed")
        roles = _with(draft.access.roles, self.role, version, time)
        draft.access = replace(draft.access, version=version, roles=roles)


class DropRole(BaseUpdate, frozen=True, tag="drop_role"):
    """Forget a role; users lose it. Policies that name it stay as they are."""

    role: str

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Remove the role."""
        access = draft.access
        roles = _without(access.roles, self.role, "role", BUILT_IN_ROLES)
        users = {
            name: replace(user, version=version, roles=tuple(role for role in user.roles if role != self.role))
            if self.role in user.roles
            else user
            for name, user in access.users.items()
        }
        draft.access = replace(access, version=version, users=users, roles=roles)


class PutPolicy(BaseUpdate, frozen=True, tag="put_policy"):
    """Create a policy, or put it in the place of the one of its name. Its version is set, whatever it says."""

    policy: Policy

    def apply(self, draft: Draft, version: int, time: datetime) -> None:
        """Add the policy."""
        check_identity_name(self.policy.name, "policy")
        policies = _with(draft.access.policies, self.policy, version, time)
        draft.access = replace(draft.access, version=version, policies=policies)


class DropPolicy(BaseUpdate, frozen=True, tag="drop_policy"):
    """Forget a policy."""

    policy: str

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Remove the policy."""
        policies = _without(draft.access.policies, self.policy, "policy")
        draft.access = replace(draft.access, version=version, policies=policies)


class TagColumns(DatasetUpdate, frozen=True, tag="tag_columns"):
    """Say which tags columns of a dataset have; a column that is named with none loses those that it had."""

    columns: dict[str, tuple[str, ...]]

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Change the tags."""
        dataset = self.find(draft)
        tags = {**dataset.column_tags, **self.columns}
        draft.put_dataset(
            replace(dataset, version=version, column_tags={name: each for name, each in tags.items() if each})
        )
