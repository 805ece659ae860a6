"""Which privileges a statement that changes something needs.

Queries need none of this: what may not be selected doesn't exist for them (`flightserver.access.rights`). What a
statement reads beside its target is resolved under the same rights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flightserver.catalog.entities import PRIMARY, DatasetKey
from flightserver.catalog.identities import Privilege
from flightserver.errors import InvalidRequest, NotFound
from flightserver.query.language.changes import CreateView
from flightserver.query.language.statements import Kind
from flightserver.query.namespace import CATALOG, INFORMATION_SCHEMA, PUBLIC, SYSTEM

if TYPE_CHECKING:
    from flightserver.query.language.changes import TableName
    from flightserver.query.language.statements import Statement
    from flightserver.query.namespace import Scope

_ON_TARGET: Final = {
    Kind.INSERT: (Privilege.INSERT,),
    Kind.UPSERT: (Privilege.INSERT, Privilege.UPDATE),
    Kind.UPDATE: (Privilege.UPDATE,),
    Kind.DELETE: (Privilege.DELETE,),
    Kind.TRUNCATE: (Privilege.DELETE,),
    Kind.MERGE: (Privilege.INSERT, Privilege.UPDATE, Privilege.DELETE),
    Kind.DROP_TABLE: (Privilege.ALTER,),
    Kind.ALTER_TABLE: (Privilege.ALTER,),
    Kind.COMMENT: (Privilege.ALTER,),
    Kind.DROP_VIEW: (Privilege.ALTER,),
}
_CREATING: Final = frozenset({Kind.CREATE_TABLE, Kind.CREATE_TABLE_AS, Kind.CREATE_VIEW})


def authorize(statement: Statement, scope: Scope) -> None:
    """Return when whoever asks may carry out a statement that changes something.

    A target that they don't see is left to the statement itself, which says that there is none.

    Raises:
        Forbidden: A privilege is missing; says which.
    """
    target = statement.target
    if statement.kind in _CREATING and target is not None:
        key = DatasetKey(target_bucket(scope, target), target.name)
        scope.rights.require_create(key.bucket)
        if statement.or_replace or (isinstance(statement.change, CreateView) and statement.change.or_replace):
            # Whether there is one that they don't see is not for them to know.
            scope.rights.require(
                (Privilege.ALTER,), key, None if scope.newest is None else scope.newest.datasets.get(key)
            )
    elif statement.kind in _ON_TARGET and target is not None:
        if target.schema is None and target.name in scope.given:
            return
        try:
            found = scope.relation(target.name, target.schema)
        except NotFound:
            return
        scope.rights.require(_ON_TARGET[statement.kind], scope.key_now(found), scope.now(found))
    else:
        scope.rights.require_admin(statement.kind.value.upper())


def target_bucket(scope: Scope, target: TableName) -> str:
    """The bucket in which a statement makes a table.

    Raises:
        InvalidRequest: Nothing can be made in its schema.
        NotFound: There is no such schema.
    """
    schema = target.schema or scope.schema
    if schema == PUBLIC:
        return scope.bucket or PRIMARY
    if schema in {SYSTEM, INFORMATION_SCHEMA}:
        raise InvalidRequest(f"schema {schema!r} can be read but not changed")
    if schema not in scope.snapshot.buckets:
        raise NotFound(scope.missing(CATALOG, schema, target.name))
    return schema
