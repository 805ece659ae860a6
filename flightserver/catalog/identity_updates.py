"""Updates of users, roles and policies."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # msgspec resolves the annotations when it decodes
from typing import TYPE_CHECKING

from msgspec.structs import replace

from flightserver.catalog.identities import BUILT_IN_ROLES, Policy, Role, User, check_identity_name
from flightserver.catalog.update_base import BaseUpdate, DatasetUpdate
from flightserver.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flightserver.catalog.draft import Draft


def _missing(what: str, name: str, there: Iterable[str]) -> NotFound:
    return NotFound(f"there is no {what} {name!r}; there are: {', '.join(sorted(there)) or 'none'}")


class PutUser(BaseUpdate, frozen=True, tag="put_user"):
    """Create a user, or put it in the place of the one of its name. Its version is set, whatever it says."""

    user: User

    def apply(self, draft: Draft, version: int, time: datetime) -> None:
        """Add the user."""
        check_identity_name(self.user.name, "user")
        user = replace(self.user, version=version, created=self.user.created or time)
        access = draft.access
        draft.access = replace(access, version=version, users={**access.users, user.name: user})


class DropUser(BaseUpdate, frozen=True, tag="drop_user"):
    """Forget a user."""

    user: str

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Remove the user."""
        access = draft.access
        if self.user not in access.users:
            raise _missing("user", self.user, access.users)
        users = {name: user for name, user in access.users.items() if name != self.user}
        draft.access = replace(access, version=version, users=users)


class PutRole(BaseUpdate, frozen=True, tag="put_role"):
    """Create a role, or put it in the place of the one of its name. Its version is set, whatever it says."""

    role: Role

    def apply(self, draft: Draft, version: int, time: datetime) -> None:
        """Add the role."""
        check_identity_name(self.role.name, "role")
        if self.role.name in BUILT_IN_ROLES:
            raise InvalidRequest(f"role {self.role.name!r} is built in: what it may do can't be changed")
        role = replace(self.role, version=version, created=self.role.created or time)
        access = draft.access
        draft.access = replace(access, version=version, roles={**access.roles, role.name: role})


class DropRole(BaseUpdate, frozen=True, tag="drop_role"):
    """Forget a role; users lose it. Policies that name it stay as they are."""

    role: str

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Remove the role."""
        access = draft.access
        if self.role not in access.roles:
            raise _missing("role", self.role, (*BUILT_IN_ROLES, *access.roles))
        users = {
            name: replace(user, version=version, roles=tuple(role for role in user.roles if role != self.role))
            if self.role in user.roles
            else user
            for name, user in access.users.items()
        }
        roles = {name: role for name, role in access.roles.items() if name != self.role}
        draft.access = replace(access, version=version, users=users, roles=roles)


class PutPolicy(BaseUpdate, frozen=True, tag="put_policy"):
    """Create a policy, or put it in the place of the one of its name. Its version is set, whatever it says."""

    policy: Policy

    def apply(self, draft: Draft, version: int, time: datetime) -> None:
        """Add the policy."""
        check_identity_name(self.policy.name, "policy")
        policy = replace(self.policy, version=version, created=self.policy.created or time)
        access = draft.access
        draft.access = replace(access, version=version, policies={**access.policies, policy.name: policy})


class DropPolicy(BaseUpdate, frozen=True, tag="drop_policy"):
    """Forget a policy."""

    policy: str

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Remove the policy."""
        access = draft.access
        if self.policy not in access.policies:
            raise _missing("policy", self.policy, access.policies)
        policies = {name: policy for name, policy in access.policies.items() if name != self.policy}
        draft.access = replace(access, version=version, policies=policies)


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
