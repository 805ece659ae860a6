"""What a statement's generated names mean: relations of earlier versions (`FOR VERSION AS OF`), and searches."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flightserver.catalog.entities import Dataset
from flightserver.errors import InvalidRequest, NotFound
from flightserver.query.namespace import PastView, Scope
from flightserver.tables.versions import dataset_at

if TYPE_CHECKING:
    from datetime import datetime

    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.query.language.statements import AsOf, Statement


class PastTables:
    """Finds what a statement's clauses mean.

    Args:
        catalog: Knows earlier versions.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def scope(self, scope: Scope, statement: Statement) -> Scope:
        """The scope with the names that stand for earlier versions and searches in the statement.

        Raises:
            NotFound: There is no such table, version or tag; the message says which there are.
        """
        if not statement.as_of and not statement.searches:
            return scope
        named = self._named(scope, statement)
        while scope.newest is not None and any(one.version > scope.newest.version for one in named.values()):
            # It was committed meanwhile, as may have been what hides it.
            scope = scope.renewed(self._catalog.snapshot())
            named = self._named(scope, statement)
        named = {**scope.named, **named}
        return replace(scope, named=named, searches={one.name: one for one in statement.searches})

    def _named(self, scope: Scope, statement: Statement) -> dict[str, Dataset | PastView]:
        return {one.name: self._find(scope, one) for one in statement.as_of}

    def _find(self, scope: Scope, clause: AsOf) -> Dataset | PastView:
        table = clause.table
        try:
            found = scope.relation(table.name, table.schema)
        except NotFound:
            # It may have been dropped since.
            if isinstance(clause.at, str):
                raise
            snapshot = self._seen(scope, clause.at)
            found = replace(scope, snapshot=snapshot).relation(table.name, table.schema)
        if isinstance(found, Dataset):
            return dataset_at(self._catalog, found, clause.at)[1]
        if isinstance(clause.at, str):
            raise InvalidRequest(f"{found.key} is a view, which has no tags: name a version or a time")
        snapshot = self._seen(scope, clause.at)
        past = snapshot.views.get(found.key)
        if past is None:
            raise NotFound(f"view {found.key} didn't exist at {clause.at}")
        return PastView(past, snapshot)

    def _seen(self, scope: Scope, at: int | datetime) -> Snapshot:
        """The snapshot of another time as whoever asks may see it."""
        snapshot = self._catalog.snapshot_at(at)
        return snapshot if scope.newest is None else scope.rights.visible(snapshot, scope.newest, past=snapshot)
