"""A transaction of several statements: a snapshot with changes of its own that nobody else sees.

Theory of operation: a `StagedTransaction` starts from one snapshot. What its statements commit is applied to a copy of
it, so that later statements see it, and collected. In the end all is committed as one transaction of the catalog,
whose requirements are those of the statements. A requirement that the starting snapshot doesn't satisfy is about
something that this transaction has changed before. Those that others must have changed nothing become the same about
the starting snapshot; for the rest, the earlier change had a requirement of its own, which is kept. All files are
written by then, so that a refusal costs no more than those files.

What is collected is only ever appended to, so a `Mark` of it is how much there was, and going back to a mark drops what
came later. The caller deletes the files of what was dropped.

Invariants: versions in the copy are that of the starting snapshot plus one, which another commit may have as well;
nothing may be kept by version alone (`Dataset.state`). A staged transaction belongs to one thread at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec.structs import replace

from flightserver.catalog.draft import Draft
from flightserver.catalog.requirements import DatasetAt, NameMeans, NothingAppended, ViewAt
from flightserver.catalog.snapshot import Snapshot
from flightserver.catalog.view_names import natural
from flightserver.errors import CommitConflict

if TYPE_CHECKING:
    from flightserver.catalog.draft import Outcome
    from flightserver.catalog.requirements import Requirement
    from flightserver.catalog.transaction import Transaction
    from flightserver.catalog.updates import Update


@dataclass(frozen=True, slots=True)
class Mark:
    """A state of a `StagedTransaction` to which it can go back.

    Attributes:
        updates: How many there were.
        requirements: How many there were.
        kinds: How many there were.
        rows: How many were changed.
        snapshot: What its next statement would have read.
    """

    updates: int
    requirements: int
    kinds: int
    rows: int
    snapshot: Snapshot


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

    def mark(self) -> Mark:
        """The state as it is now."""
        return Mark(len(self.updates), len(self.requirements), len(self.kinds), self.rows, self._now)

    def back_to(self, mark: Mark) -> list[Update]:
        """Drop what was staged after a mark; returns the updates dropped.

        Args:
            mark: Of this transaction, which has not gone back behind it since.
        """
        dropped = self.updates[mark.updates :]
        del self.updates[mark.updates :]
        del self.requirements[mark.requirements :]
        del self.kinds[mark.kinds :]
        self.rows = mark.rows
        self._now = mark.snapshot
        return dropped

    def _before(self, requirement: Requirement) -> Requirement:
        """What a requirement that nothing has changed since means for others: nothing since the beginning."""
        if isinstance(requirement, NameMeans):
            meant = natural(self.base, requirement.view, requirement.schema, requirement.name)
            return replace(requirement, meant=meant)
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
