"""Action `catalog.migrate_buckets`: references of old kinds to `primary` are mended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.federation.migrating import migrate_buckets
from flightserver.flight.actions.registry import Action, ActionResponse, Progress, ServerRequest
from flightserver.flight.permissions import ADMIN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.catalog.catalog import Catalog
    from flightserver.flight.middleware import CallContext
    from flightserver.telemetry import Events


class MigrateRequest(ServerRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `catalog.migrate_buckets`; `dry_run` changes nothing."""

    dry_run: bool = False


class DuplicateName(msgspec.Struct, frozen=True):
    """Entries that have one name: the newest is kept, the others are dropped."""

    kept: str
    dropped: list[str]


class Migrated(ActionResponse, frozen=True, kw_only=True):
    """Result of `catalog.migrate_buckets`: datasets and views that were mended, and those that were right already."""

    renamed: int
    unchanged: int
    duplicates: list[DuplicateName]


def catalog_actions(catalog: Catalog, events: Events) -> list[Action]:
    """The family."""

    def migrate(call: CallContext, request: MigrateRequest) -> Iterator[Progress | ActionResponse]:
        operation = Operation(id=new_ulid(), kind="migrate buckets", user=call.user)
        done = migrate_buckets(catalog, events, operation, dry_run=request.dry_run)
        yield Migrated(
            renamed=len(done.update.moved),
            unchanged=done.unchanged,
            duplicates=[DuplicateName(str(each.kept), [str(key) for key in each.dropped]) for each in done.duplicates],
        )

    return [
        Action(
            "catalog.migrate_buckets",
            "Make references to the buckets '', 'data' and 'local' of old catalogs say 'primary'.",
            MigrateRequest,
            Migrated,
            ADMIN,
            migrate,
        )
    ]
