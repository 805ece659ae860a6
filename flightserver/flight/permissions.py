"""What each call needs: every RPC, command and action names its permission here or in its own definition.

A permission is checked before the part that answers is asked. `CALLER` stands where that part shows and does only what
the caller may by the caller's rights: names resolve only to what may be seen (`flightserver.access.rights`), statements
that change something are authorised when they are planned (`flightserver.query.authorizing`), and handles, tickets and
results know their owners. That a caller is known at all is settled earlier, in `middleware.py`. What a request names is
looked up in the newest snapshot, and judged by the rights that the caller has in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from flightserver.catalog.entities import DatasetKey
from flightserver.catalog.identities import Privilege
from flightserver.errors import Forbidden, NotFound
from flightserver.flight.scoping import index_in, scope_of
from flightserver.flight.sql import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flightserver.catalog.snapshot import Snapshot
    from flightserver.flight.middleware import CallContext
    from flightserver.query.service import Queries


class Permission(Protocol):
    """Decides whether a call may go on."""

    def check(self, call: CallContext, what: str, request: Any) -> None:
        """Return when it may.

        Args:
            call: Whose.
            what: What is called, for the message.
            request: The decoded body of an action, or None.

        Raises:
            Forbidden: It may not.
            NotFound: What it is about doesn't exist for the caller.
        """


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever is known; the part that answers goes by the caller's rights."""

    def check(self, call: CallContext, what: str, request: Any) -> None:
        """Return: who isn't known hasn't come here."""


@dataclass(frozen=True, slots=True)
class Admin:
    """Administrators."""

    def check(self, call: CallContext, what: str, request: Any) -> None:  # noqa: ARG002  # whatever the request
        """Return when the caller is one."""
        call.rights.require_admin(what)


@dataclass(frozen=True, slots=True)
class Writer:
    """Who may put rows somewhere; what is uploaded belongs to nothing yet."""

    def check(self, call: CallContext, what: str, request: Any) -> None:  # noqa: ARG002  # as above
        """Return when the caller has a grant to insert or to create."""
        if not call.rights.writes_anything:
            raise Forbidden(f"{what} needs the privilege INSERT or CREATE on something: user {call.user!r} has neither")


@dataclass(frozen=True, slots=True)
class OnDataset:
    """Privileges on the dataset that the request names.

    Attributes:
        queries: Knows what names mean.
        privileges: All of them are needed.
        create_in: Field of the request with a bucket in which the caller must be allowed to create as well; where it
            is null, in the bucket of the dataset.
    """

    queries: Queries
    privileges: tuple[Privilege, ...]
    create_in: str = ""

    def check(self, call: CallContext, what: str, request: Any) -> None:  # noqa: ARG002  # the message names the dataset
        """Return when the caller has the privileges."""
        scope = scope_of(self.queries, call, request.bucket)
        found = scope.relation(request.dataset, request.bucket)
        scope.rights.require(self.privileges, found.key, scope.now(found))
        if self.create_in:
            to = getattr(request, self.create_in)
            scope.rights.require_create(found.bucket if to is None else to)


@dataclass(frozen=True, slots=True)
class OnIndex:
    """Privileges on the dataset of the vector index that the request names.

    Attributes:
        queries: Knows what names mean.
        privileges: All of them are needed.
        create_in: Field of the request with a bucket in which the caller must be allowed to create as well.
    """

    queries: Queries
    privileges: tuple[Privilege, ...]
    create_in: str = ""

    def check(self, call: CallContext, what: str, request: Any) -> None:  # noqa: ARG002  # as above
        """Return when the caller has the privileges."""
        scope = scope_of(self.queries, call, request.bucket)
        _, dataset = index_in(scope, call, request)
        scope.rights.require(self.privileges, dataset.key, dataset)
        if self.create_in:
            scope.rights.require_create(getattr(request, self.create_in))


@dataclass(frozen=True, slots=True)
class Ingesting:
    """What bringing rows into the dataset of the request needs, by its `evolve` and its mode, or the one given here."""

    queries: Queries
    mode: str = ""

    def check(self, call: CallContext, what: str, request: Any) -> None:  # noqa: ARG002  # as above
        """Return when the caller may."""
        key = DatasetKey(call.home(request.bucket), request.dataset)
        check_ingest(self.queries, call, key, mode=self.mode or request.mode, evolve=getattr(request, "evolve", False))


@dataclass(frozen=True, slots=True)
class Creating:
    """Making something in the bucket of the request."""

    def check(self, call: CallContext, what: str, request: Any) -> None:  # noqa: ARG002  # the message names the bucket
        """Return when the caller may."""
        call.rights.require_create(call.home(request.bucket))


def check_ingest(queries: Queries, call: CallContext, key: DatasetKey, *, mode: str, evolve: bool = False) -> None:
    """Return when a caller may bring rows into a dataset.

    Raises:
        Forbidden: The caller may not.
    """
    newest = queries.newest()
    call.rights.at(newest.access).require_ingest(mode, key, newest.datasets.get(key), evolve=evolve)


def still_ingests(
    queries: Queries, call: CallContext, key: DatasetKey, *, mode: str, evolve: bool = False
) -> Callable[[], None]:
    """A check, to be asked again right before the commit, that a caller may bring rows into a dataset.

    Grants follow a dataset that is moved or renamed. Who may insert into it where it is now is told where that is,
    and not that there is no grant on the name that it had.

    Returns:
        A function that raises `Forbidden` when the caller may not, and `NotFound` when the dataset that rows are to be
        added to has moved away, and nothing is in its place.

    Raises:
        Forbidden: The caller may not already now.
    """

    def may(newest: Snapshot) -> None:
        call.rights.at(newest.access).require_ingest(mode, key, newest.datasets.get(key), evolve=evolve)

    first = queries.newest()
    may(first)
    was = first.datasets.get(key)

    def check() -> None:
        newest = queries.newest()
        if was is not None and mode in _ADDING and key not in newest.datasets:
            rights = call.rights.at(newest.access)
            now = rights.key_now(was, newest)
            if now is not None and rights.may(Privilege.INSERT, now):
                raise NotFound(f"dataset {key} is {now} by now: nothing was written; send the rows there")
        may(newest)

    return check


def check_change(queries: Queries, call: CallContext, key: DatasetKey, *privileges: Privilege) -> None:
    """Return when a caller may still change a dataset, or there is none of that name any more.

    Raises:
        Forbidden: The caller may not.
    """
    newest = queries.newest()
    one = newest.datasets.get(key)
    if one is not None:
        call.rights.at(newest.access).require(privileges, key, one)


def check_command(call: CallContext, command: m.Command) -> None:
    """Note a command of Flight SQL, and return when its caller may send it.

    Raises:
        Forbidden: The caller may not.
    """
    call.note.what = type(command).__name__
    COMMANDS[type(command)].check(call, call.note.what, command)


_ADDING: Final = frozenset({"append", "create_append", "upsert"})
"""Modes that keep the rows that are there."""

CALLER: Final = Caller()
ADMIN: Final = Admin()
WRITER: Final = Writer()

RPCS: Final[Mapping[str, Permission]] = {
    "list_flights": CALLER,
    "get_flight_info": CALLER,
    "get_schema": CALLER,
    "do_get": CALLER,
    "do_put": CALLER,
    "do_exchange": CALLER,
    "do_action": CALLER,
    "list_actions": CALLER,
}
"""The RPCs. What comes with them has permissions of its own: `COMMANDS`, `PROTOCOL_ACTIONS`, `Action.needs`."""

COMMANDS: Final[Mapping[type[m.Command], Permission]] = {
    m.GetCatalogs: CALLER,
    m.GetCrossReference: CALLER,
    m.GetDbSchemas: CALLER,
    m.GetExportedKeys: CALLER,
    m.GetImportedKeys: CALLER,
    m.GetPrimaryKeys: CALLER,
    m.GetSqlInfo: CALLER,
    m.GetTableTypes: CALLER,
    m.GetTables: CALLER,
    m.GetXdbcTypeInfo: CALLER,
    m.PreparedStatementQuery: CALLER,
    m.PreparedStatementUpdate: CALLER,
    m.StatementIngest: CALLER,
    m.StatementQuery: CALLER,
    m.StatementSubstraitPlan: CALLER,
    m.StatementUpdate: CALLER,
    m.TicketStatementQuery: CALLER,
}
"""Commands of Flight SQL: metadata shows what the caller may see, statements are authorised when they are planned."""

PROTOCOL_ACTIONS: Final[Mapping[type[m.ActionRequest], Permission]] = {
    m.BeginSavepoint: CALLER,
    m.BeginTransaction: CALLER,
    m.CancelFlightInfo: CALLER,
    m.CancelQuery: CALLER,
    m.ClosePreparedStatement: CALLER,
    m.CloseSession: CALLER,
    m.CreatePreparedStatement: CALLER,
    m.CreatePreparedSubstraitPlan: CALLER,
    m.EndSavepoint: CALLER,
    m.EndTransaction: CALLER,
    m.GetSessionOptions: CALLER,
    m.RenewFlightEndpoint: CALLER,
    m.SetSessionOptions: CALLER,
}
"""Actions of Flight and Flight SQL: on what belongs to the caller."""
