"""`catalog.migrate_buckets`: old references become `primary`, in one commit, however many there are.

The plan is made on the newest snapshot and committed if it is still the plan then; otherwise it is made again. Whatever
name it gave up to a newer entry is recorded as an event, because somebody may miss it; earlier versions still have it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flightserver.catalog.migration import plan_migration
from flightserver.catalog.requirements import MigrationIs
from flightserver.catalog.transaction import Transaction
from flightserver.errors import CommitConflict

if TYPE_CHECKING:
    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.log import Operation
    from flightserver.catalog.migration import Migration
    from flightserver.telemetry import Events

_ATTEMPTS = 20
"""Each refusal is another's commit of a dataset under an old name, which only old clients make."""


def migrate_buckets(catalog: Catalog, events: Events, operation: Operation, *, dry_run: bool = False) -> Migration:
    """Mend all references, and tell what that was; with `dry_run` only tell what it would be.

    Raises:
        CommitConflict: Others wrote under old names again and again meanwhile; nothing was changed.
    """
    refusal: CommitConflict | None = None
    for _ in range(_ATTEMPTS):
        plan = plan_migration(catalog.snapshot())
        if dry_run or not plan.needed:
            return plan
        try:
            catalog.commit(Transaction(operation, (plan.update,), (MigrationIs(plan.update),)))
        except CommitConflict as error:
            refusal = error
            continue
        for duplicate in plan.duplicates:
            for dropped in duplicate.dropped:
                events.record("duplicate name dropped", dropped.bucket, dropped.name, kept=str(duplicate.kept))
        return plan
    raise refusal or AssertionError
