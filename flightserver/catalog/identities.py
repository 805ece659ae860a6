"""Who may do what, as the catalog keeps it: users, roles with grants, and policies on rows and columns.

The format rule of `flightserver.catalog.entities` holds here as well. Secrets are never here, only what they are
checked against: a password's argon2id hash, and SHA-256 of an API token, which is random.

Grants and policies go by the names of buckets and datasets. They follow when these are renamed or moved, and stay when
a dataset is dropped: one that is created anew under the name is as protected as the one before.
"""

from __future__ import annotations

import enum
import re
from datetime import datetime  # noqa: TC003  # msgspec resolves the annotations when it decodes
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec.structs import replace

from flightserver.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from flightserver.catalog.entities import DatasetKey

ADMIN = "admin"
WRITER = "writer"
READER = "reader"
BUILT_IN_ROLES = (READER, WRITER, ADMIN)
"""Roles that always exist: reading all, changing all data, and everything."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,127}")


class Privilege(enum.Enum):
    """What a grant allows on a dataset, or on all datasets of a bucket."""

    SELECT = "select"
    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    CREATE = "create"
    """Make datasets and views; it can be granted on a bucket only."""
    ALTER = "alter"
    """Change what a dataset is: its columns, name, comment, versions and files; drop it."""


class ApiToken(msgspec.Struct, frozen=True, omit_defaults=True):
    """A secret by which a program is a user.

    Attributes:
        id: Names it, and is the beginning of the secret.
        sha256: Of the whole secret, in hexadecimal.
        created: When.
        expires: When it ends to be valid; None for never.
        comment: What it is for.
    """

    id: str
    sha256: str
    created: datetime
    expires: datetime | None = None
    comment: str = ""


class User(msgspec.Struct, frozen=True, omit_defaults=True):
    """Somebody who may use the server.

    Attributes:
        name: Its name.
        password: Argon2id hash in the PHC format; empty for a user who has none.
        roles: Names of the roles that it has.
        created: When.
        version: The commit that last changed it.
        epoch: Counts changes after which bearer tokens of before are not valid any more: of the password, or on demand.
        disabled: Whether nobody can be this user for now.
        tokens: Its API tokens.
        certificates: Identities of client certificates that are this user.
    """

    name: str
    password: str = ""
    roles: tuple[str, ...] = ()
    created: datetime | None = None
    version: int = 0
    epoch: int = 0
    disabled: bool = False
    tokens: tuple[ApiToken, ...] = ()
    certificates: tuple[str, ...] = ()


class Grant(msgspec.Struct, frozen=True, omit_defaults=True):
    """Privileges on a dataset, on all of a bucket when `dataset` is empty, or on all when `bucket` is empty too."""

    privileges: tuple[Privilege, ...]
    bucket: str = ""
    dataset: str = ""

    def covers(self, privilege: Privilege, key: DatasetKey) -> bool:
        """Whether it allows this on a dataset."""
        return privilege in self.privileges and self.bucket in {"", key.bucket} and self.dataset in {"", key.name}


class Role(msgspec.Struct, frozen=True, omit_defaults=True):
    """A name for what users of it may do."""

    name: str
    grants: tuple[Grant, ...] = ()
    created: datetime | None = None
    version: int = 0
    comment: str = ""


class Policy(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which rows of datasets users see, and what they see in place of a column's values.

    Attributes:
        name: Its name.
        bucket: Of the dataset that it is about; empty for every bucket.
        dataset: Name of the dataset; empty for all of the bucket.
        filter: A SQL predicate over the row; rows for which it isn't true don't exist. Empty for all rows.
        masks: Column -> SQL expression over the row that is shown in its place.
        tags: Tag of columns -> SQL expression that is shown in the place of each column that has it, where `value` is
            the column.
        roles: Who it applies to; empty for everybody.
        exempt: Roles it doesn't apply to. It never applies to `admin`.
        created: When.
        version: The commit that last changed it.
    """

    name: str
    bucket: str = ""
    dataset: str = ""
    filter: str = ""
    masks: dict[str, str] = {}
    tags: dict[str, str] = {}
    roles: tuple[str, ...] = ()
    exempt: tuple[str, ...] = ()
    created: datetime | None = None
    version: int = 0

    def is_about(self, key: DatasetKey) -> bool:
        """Whether a dataset is one that it protects."""
        return self.bucket in {"", key.bucket} and self.dataset in {"", key.name}


_Placed = TypeVar("_Placed", Grant, Policy)


class AccessState(msgspec.Struct, frozen=True):
    """All of it at one version of the catalog.

    Attributes:
        version: The commit that last changed any of it.
        users: By name.
        roles: By name, without those that are built in.
        policies: By name.
    """

    version: int = 0
    users: dict[str, User] = {}
    roles: dict[str, Role] = {}
    policies: dict[str, Policy] = {}

    def renamed(self, old: DatasetKey, new: DatasetKey, version: int) -> AccessState:
        """The same for a dataset that is called otherwise from now on."""
        return self._moved(version, lambda bucket, dataset: new if (bucket, dataset) == old else (bucket, dataset))

    def bucket_renamed(self, names: frozenset[str], new: str, version: int) -> AccessState:
        """The same for a bucket that had any of these names and is called otherwise from now on."""
        return self._moved(version, lambda bucket, dataset: (new if bucket in names else bucket, dataset))

    def _moved(self, version: int, place: Callable[[str, str], tuple[str, str]]) -> AccessState:
        """The same with grants and policies about where `place` puts what they are about; itself if nothing moves."""

        def moved(one: _Placed) -> _Placed:
            bucket, dataset = place(one.bucket, one.dataset)
            return (
                one if (bucket, dataset) == (one.bucket, one.dataset) else replace(one, bucket=bucket, dataset=dataset)
            )

        roles, policies = dict(self.roles), dict(self.policies)
        for role in self.roles.values():
            grants = tuple(moved(grant) for grant in role.grants)
            if grants != role.grants:
                roles[role.name] = replace(role, grants=grants, version=version)
        for policy in self.policies.values():
            there = moved(policy)
            if there != policy:
                policies[policy.name] = replace(there, version=version)
        if roles == self.roles and policies == self.policies:
            return self
        return replace(self, version=version, roles=roles, policies=policies)


def check_identity_name(name: str, what: str) -> str:
    """Return `name` when it can name a user, a role or a policy.

    Raises:
        InvalidRequest: It can't.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name[:200]!r} can't name a {what}: a name has 1 to 128 letters of ASCII, digits and _ . @ + -, and "
            "begins with a letter, a digit or _"
        )
    return name
