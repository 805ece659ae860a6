"""The tables `system.users`, `roles`, `grants` and `policies`: who may do what, as the snapshot of a statement has it.

Administrators see all of it; others see themselves, and their roles with their grants. Hashes of passwords and tokens
are in none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

from flightserver.catalog.identities import BUILT_IN_ROLES
from flightserver.query.rowtable import table_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flightserver.query.namespace import Scope

_UTC = pa.timestamp("us", tz="UTC")
_NAMES = pa.list_(pa.string())

USERS = pa.schema(
    [
        ("name", pa.string()),
        ("roles", _NAMES),
        ("disabled", pa.bool_()),
        ("has_password", pa.bool_()),
        ("tokens", pa.int64()),
        ("certificates", _NAMES),
        ("created", _UTC),
        ("version", pa.int64()),
    ]
)
ROLES = pa.schema(
    [
        ("name", pa.string()),
        ("built_in", pa.bool_()),
        ("comment", pa.string()),
        ("created", _UTC),
        ("version", pa.int64()),
    ]
)
GRANTS = pa.schema(
    [("role", pa.string()), ("privilege", pa.string()), ("bucket", pa.string()), ("dataset", pa.string())]
)
POLICIES = pa.schema(
    [
        ("name", pa.string()),
        ("bucket", pa.string()),
        ("dataset", pa.string()),
        ("filter", pa.string()),
        ("masks", pa.string()),
        ("tags", pa.string()),
        ("roles", _NAMES),
        ("exempt", _NAMES),
        ("created", _UTC),
        ("version", pa.int64()),
    ]
)

ACCESS_SCHEMAS = {"users": USERS, "roles": ROLES, "grants": GRANTS, "policies": POLICIES}


def access_tables() -> Mapping[str, Callable[[Scope], pa.Table]]:
    """Name -> function that computes the table for a scope."""
    return {"users": _users, "roles": _roles, "grants": _grants, "policies": _policies}


def _users(scope: Scope) -> pa.Table:
    return table_of(
        USERS,
        (
            (
                one.name,
                list(one.roles),
                one.disabled,
                bool(one.password),
                len(one.tokens),
                list(one.certificates),
                one.created,
                one.version,
            )
            for one in scope.snapshot.access.users.values()
            if scope.rights.is_admin or one.name == scope.rights.user
        ),
    )


def _roles(scope: Scope) -> pa.Table:
    built_in = [(name, True, "", None, None) for name in BUILT_IN_ROLES]
    made = [(one.name, False, one.comment, one.created, one.version) for one in scope.snapshot.access.roles.values()]
    return table_of(ROLES, (role for role in (*built_in, *made) if _is_theirs(role[0], scope)))


def _grants(scope: Scope) -> pa.Table:
    return table_of(
        GRANTS,
        (
            (role.name, privilege.value.upper(), grant.bucket or None, grant.dataset or None)
            for role in scope.snapshot.access.roles.values()
            if _is_theirs(role.name, scope)
            for grant in role.grants
            for privilege in grant.privileges
        ),
    )


def _policies(scope: Scope) -> pa.Table:
    return table_of(
        POLICIES,
        (
            (
                one.name,
                one.bucket or None,
                one.dataset or None,
                one.filter or None,
                msgspec.json.encode(one.masks).decode() if one.masks else None,
                msgspec.json.encode(one.tags).decode() if one.tags else None,
                list(one.roles),
                list(one.exempt),
                one.created,
                one.version,
            )
            for one in scope.snapshot.access.policies.values()
            if scope.rights.is_admin
        ),
    )


def _is_theirs(role: str, scope: Scope) -> bool:
    return scope.rights.is_admin or role in scope.rights.principal.roles
