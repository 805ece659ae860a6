"""GRANT, REVOKE, CREATE ROLE and DROP ROLE, from tokens to values.

Users, and what has to do with their passwords, aren't made by SQL: the text of a statement is shown in `system.queries`
and in logs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flightserver.catalog.identities import Privilege
from flightserver.query.language.changes import CreateRole, DropRole, Membership, Privileges

if TYPE_CHECKING:
    from flightserver.query.language.changes import TableName
    from flightserver.query.language.reader import Reader

USERS_BY_ACTIONS = (
    "users are made and changed by the actions user.create, user.set_password and so on, or by `flightserver users`; "
    "the text of a statement, with a password in it, would be kept in system.queries"
)
POLICIES_BY_ACTIONS = "policies are made and dropped by the actions policy.create and policy.drop"

_PRIVILEGES = {privilege.value.upper(): privilege for privilege in Privilege}


def grant(reader: Reader) -> Privileges | Membership:
    """GRANT {privilege, ... | ALL [PRIVILEGES]} ON place TO role, or GRANT role TO USER user.

    Raises:
        InvalidRequest: It is not written so.
    """
    reader.expect("GRANT")
    return _given(reader, "TO")


def revoke(reader: Reader) -> Privileges | Membership:
    """REVOKE {privilege, ... | ALL [PRIVILEGES]} ON place FROM role, or REVOKE role FROM USER user.

    Raises:
        InvalidRequest: It is not written so.
    """
    reader.expect("REVOKE")
    return _given(reader, "FROM")


def create_role(reader: Reader) -> CreateRole:
    """What follows CREATE: ROLE [IF NOT EXISTS] name.

    Raises:
        InvalidRequest: It is not written so.
    """
    reader.expect("ROLE")
    exists_ok = reader.take("IF", "NOT", "EXISTS")
    name = reader.identifier()
    reader.end("the end of the statement (a role has no options)")
    return CreateRole(name, exists_ok)


def drop_role(reader: Reader) -> DropRole:
    """What follows DROP: ROLE [IF EXISTS] name.

    Raises:
        InvalidRequest: It is not written so.
    """
    reader.expect("ROLE")
    exists_ok = reader.take("IF", "EXISTS")
    name = reader.identifier()
    reader.end("the end of the statement (one role at a time)")
    return DropRole(name, exists_ok)


def _given(reader: Reader, preposition: str) -> Privileges | Membership:
    if not reader.outside("ON"):
        role = reader.identifier()
        reader.expect(preposition, "USER")
        user = reader.identifier()
        reader.end("the end of the statement (one user at a time)")
        return Membership(role, user)
    privileges = _privileges(reader)
    reader.expect("ON")
    table, bucket = _place(reader)
    reader.expect(preposition)
    role = reader.identifier()
    reader.end("the end of the statement (one role at a time)")
    return Privileges(privileges, role, table, bucket)


def _privileges(reader: Reader) -> tuple[Privilege, ...] | None:
    if reader.take("ALL"):
        reader.take("PRIVILEGES")
        return None
    found = [_privilege(reader)]
    while reader.take(","):
        found.append(_privilege(reader))
    return tuple(found)


def _privilege(reader: Reader) -> Privilege:
    privilege = _PRIVILEGES.get(reader.peek())
    if privilege is None:
        reader.fail(f"{', '.join(_PRIVILEGES)} or ALL")
    reader.position += 1
    return privilege


def _place(reader: Reader) -> tuple[TableName | None, str]:
    """A table, or None and the bucket; its name is empty for all tables."""
    if reader.take("ALL", "TABLES"):
        if not reader.take("IN"):
            return None, ""
        if not (reader.take("SCHEMA") or reader.take("BUCKET")):
            reader.fail("SCHEMA and a name")
        return None, reader.identifier()
    # A table may be called bucket.
    if reader.peek() in {"SCHEMA", "BUCKET"} and reader.peek(1) not in {"TO", "FROM", "."}:
        reader.position += 1
        return None, reader.identifier()
    reader.take("TABLE")
    return reader.target(), ""
