"""Which privileges a statement that changes something needs.

Queries need none of this: what may not be selected doesn't exist for them (`flightserver.access.rights`). What a
statement reads beside its target is resolved under the same rights.

A statement may run for long. What it changes is committed by name, and the name may mean something else by then, so
what it needs is looked at once more right before the commit, in the version and by the rights of that moment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from flightserver.catalog.entities import PRIMARY, DatasetKey
from flightserver.catalog.identities import Privilege
from flightserver.errors import Forbidden, InvalidRequest, NotFound
from flightserver.query.language.changes import CreateView
from flightserver.query.language.statements import Kind
from flightserver.query.namespace import CATALOG, INFORMATION_SCHEMA, PUBLIC, SYSTEM

if TYPE_CHECKING:
    from flightserver.access.rights import Rights
    from flightserver.catalog.entities import Dataset
    from flightserver.catalog.snapshot import Snapshot
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


@dataclass(frozen=True, slots=True)
class Needs:
    """What a statement must be allowed.

    Attributes:
        privileges: On the target; none for what is only made.
        key: The target by its name of now.
        dataset: The target as it is now; None if it is a view, or isn't there.
        makes: Whether the statement makes it.
    """

    privileges: tuple[Privilege, ...]
    key: DatasetKey
    dataset: Dataset | None
    makes: bool = False

    def check(self, rights: Rights) -> None:
        """Return when all of it is allowed.

        Raises:
            Forbidden: Something isn't.
        """
        if self.makes:
            rights.require_create(self.key.bucket)
        if self.privileges:
            rights.require(self.privileges, self.key, self.dataset)

    def check_again(self, rights: Rights, newest: Snapshot) -> None:
        """As `check`, in a newer version and by its rights.

        The statement may be about what has the name by then, or about the dataset that had it, wherever that has moved.
        If there is neither, the commit will tell. What a statement makes has the name that it says.

        Raises:
            Forbidden: As `check`.
        """
        now = rights.at(newest.access)
        moved = None if self.dataset is None or self.makes else now.key_now(self.dataset, newest)
        for key in {self.key, self.key if moved is None else moved}:
            if self.makes or key in newest.datasets or key in newest.views:
                self._check_at(key, newest, now)

    def _check_at(self, key: DatasetKey, newest: Snapshot, rights: Rights) -> None:
        try:
            replace(self, key=key, dataset=newest.datasets.get(key)).check(rights)
        except Forbidden:
            if key == self.key or rights.sees(*key):
                raise
            raise Forbidden(
                f"{self.key} was renamed or moved meanwhile, to where user {rights.user!r} may not do this: "
                "nothing was changed"
            ) from None


def authorize(statement: Statement, scope: Scope) -> None:
    """Return when whoever asks may carry out a statement that changes something.

    A target that they don't see is left to the statement itself, which says that there is none.

    Raises:
        Forbidden: A privilege is missing; says which.
    """
    if statement.target is None or statement.kind not in {*_CREATING, *_ON_TARGET}:
        scope.rights.require_admin(statement.kind.value.upper())
        return
    needs = needs_of(statement, scope)
    if needs is not None:
        needs.check(scope.rights)


def needs_of(statement: Statement, scope: Scope) -> Needs | None:
    """What a statement needs; None where its target isn't there, or came with it."""
    target = statement.target
    if target is None:
        return None
    if statement.kind in _CREATING:
        key = DatasetKey(target_bucket(scope, target), target.name)
        replaces = statement.or_replace or (isinstance(statement.change, CreateView) and statement.change.or_replace)
        # Whether there is one that they don't see is not for them to know.
        one = None if scope.newest is None else scope.newest.datasets.get(key)
        return Needs((Privilege.ALTER,) if replaces else (), key, one, makes=True)
    if statement.kind not in _ON_TARGET or (target.schema is None and target.name in scope.given):
        return None
    try:
        found = scope.relation(target.name, target.schema)
    except NotFound:
        return None
    return Needs(_ON_TARGET[statement.kind], scope.key_now(found), scope.now(found))


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
