"""A transaction of several statements: a snapshot with changes of its own that nobody else sees.

Theory of operation: a `StagedTransaction` starts from one snapshot. What its statements commit is applied to a copy of
it, so that later statements see it, and collected. In the end all is committed as one transaction of the catalog,
whose requirements are those of the statements. A requirement that the starting snapshot doesn't satisfy is about
something that this transaction has changed before. Those that others must have changed nothing become the same about
the starting snapshot; for the rest, the earlier change had a requirement of its own, which is kept. All files are
written by then, so that a refusal costs no more than those files.

Invariants: versions in the copy are that of the starting snapshot plus one, which another commit may have as well;
nothing may be kept by version alone (`Dataset.state`). A staged transaction belongs to one thread at a time.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec.structs import replace

from flightserver.catalog.draft import Draft
from flightserver.catalog.requirements import DatasetAt, NothingAppended, ViewAt
from flightserver.catalog.snapshot import Snapshot
from flightserver.errors import CommitConflict

if TYPE_CHECKING:
    from flightserver.catalog.draft import Outcome
    from flightserver.catalog.requirements import Requirement
    from flightserver.catalog.transaction import Transaction
    from flightserver.catalog.updates import Update


class StagedTransaction:
    """Changes on top of a snapshot; see `flightserver.catalog.transaction.Commits`.

    Args:
        base: What it reads, and what its requirements are about.
    """

    def __init__(self, base: Snapshot) -> None:
        self.base = base
        self.updates: list[Update] = []
        self.requirements: list[Requirement] = []
        self.kinds: list[str] = []
        self.rows = 0
        self._now = base

    def snapshot(self) -> Snapshot:
        """The starting snapshot with all changes so far."""
        return self._now

    def commit(self, transaction: Transaction) -> Outcome:
        """Stage the changes of one statement, all or none.

        Raises:
            CommitConflict: A requirement doesn't hold here.
            RequestError: An update doesn't fit.
        """
        known = self._now.operations.get(transaction.operation.id)
        if known is not None:
            return known
        draft = Draft(self.base.version + 1, max(datetime.now(UTC), self._now.time), self._now)
        for requirement in transaction.requirements:
            requirement.check(draft)
        operation = transaction.operation
        outcome = draft.run(operation.id, operation.rows, transaction.updates)
        self._now = Snapshot.of(draft)
        self.updates += transaction.updates
        told = [self._before(each) for each in transaction.requirements]
        self.requirements += [each for each in told if self._holds_before(each)]
        self.kinds.append(operation.kind)
        self.rows += operation.rows
        return outcome

    def _before(self, requirement: Requirement) -> Requirement:
        """What a requirement that nothing has changed since means for others: nothing since the beginning."""
        if isinstance(requirement, ViewAt):
            view = self.base.views.get(requirement.key)
            return replace(requirement, version=0 if view is None else view.version)
        if isinstance(requirement, DatasetAt | NothingAppended):
            dataset = self.base.datasets.get(requirement.key)
            if dataset is None:
                return requirement
            if isinstance(requirement, DatasetAt):
                return replace(requirement, version=dataset.version)
            return replace(requirement, next_row_id=dataset.next_row_id)
        return requirement

    def _holds_before(self, requirement: Requirement) -> bool:
        try:
            requirement.check(self.base)
        except CommitConflict:
            return False
        return True
