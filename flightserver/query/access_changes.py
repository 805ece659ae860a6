"""GRANT, REVOKE, CREATE ROLE and DROP ROLE, carried out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flightserver.access.committing import Author
from flightserver.access.granting import Place
from flightserver.errors import NotFound
from flightserver.query.authorizing import target_bucket
from flightserver.query.language.changes import CreateRole, DropRole, Membership, Privileges
from flightserver.query.language.statements import Kind

if TYPE_CHECKING:
    from flightserver.access.administering import Administration
    from flightserver.query.namespace import Scope
    from flightserver.query.request import Planned

ACCESS_KINDS = frozenset({Kind.GRANT, Kind.REVOKE, Kind.CREATE_ROLE, Kind.DROP_ROLE})
"""Statements that change who may do what."""


class AccessChanges:
    """Carries out statements about roles and grants.

    Args:
        administration: Commits them.
    """

    def __init__(self, administration: Administration) -> None:
        self._administration = administration

    def carry_out(self, planned: Planned, operation_id: str) -> None:
        """Run a statement of one of `ACCESS_KINDS`.

        Args:
            planned: The statement.
            operation_id: The commit records it, so that the same id never commits twice.

        Raises:
            NotFound: It names a role, user, table or bucket that doesn't exist.
            AlreadyExists: The name of a new role is taken.
            InvalidRequest: It is part of a transaction, or not possible.
        """
        statement, request = planned.statement, planned.request
        request.refuse_in_transaction(statement.kind.value.upper())
        by = Author(request.user, operation_id)
        match statement.change:
            case Privileges() as change:
                self._change_grants(by, statement.kind, change, planned.scope)
            case Membership(role=role, user=user):
                change_roles = (
                    self._administration.grant_role
                    if statement.kind is Kind.GRANT
                    else self._administration.revoke_role
                )
                change_roles(by, role, user)
            case CreateRole(name=name, exists_ok=exists_ok):
                self._administration.create_role(by, name, exists_ok=exists_ok)
            case DropRole(name=name, exists_ok=exists_ok):
                self._administration.drop_role(by, name, exists_ok=exists_ok)

    def _change_grants(self, by: Author, kind: Kind, change: Privileges, scope: Scope) -> None:
        if kind is Kind.GRANT:
            self._administration.grant(by, change.role, change.privileges, _place(change, scope))
            return
        try:
            place = _place(change, scope)
        except NotFound:
            if change.table is None:
                raise
            # What was granted on a table stays when it is dropped.
            place = Place(target_bucket(scope, change.table), change.table.name)
        self._administration.revoke(by, change.role, change.privileges, place)


def _place(change: Privileges, scope: Scope) -> Place:
    if change.table is None:
        return Place(change.bucket)
    key = scope.relation(change.table.name, change.table.schema).key
    return Place(key.bucket, key.name)
