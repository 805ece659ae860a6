"""What a caller asks the catalog to do: updates that happen together or not at all, if what they require holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from flightserver.catalog.draft import Outcome
    from flightserver.catalog.log import Operation
    from flightserver.catalog.requirements import Requirement
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.catalog.updates import Update


@dataclass(frozen=True, slots=True)
class Transaction:
    """Updates and requirements of one operation.

    Attributes:
        operation: Who does what; its id makes a repeated commit harmless.
        updates: Applied in order.
        requirements: Must hold in the newest state when the updates are committed, whatever was read before.
    """

    operation: Operation
    updates: tuple[Update, ...]
    requirements: tuple[Requirement, ...] = ()


class Commits(Protocol):
    """Where transactions go: the catalog, or a transaction of several statements that holds them back."""

    def snapshot(self) -> Snapshot:
        """What a statement reads that begins now."""

    def commit(self, transaction: Transaction) -> Outcome:
        """Make the changes part of what later snapshots show.

        Raises:
            CommitConflict: A requirement doesn't hold.
            RequestError: An update doesn't fit.
        """


class Confirmed:
    """Where transactions go that somebody may still call off.

    Args:
        commits: Where they go.
        confirm: Asked right before each commit; what it raises calls it off.
    """

    def __init__(self, commits: Commits, confirm: Callable[[], None]) -> None:
        self._commits = commits
        self._confirm = confirm

    def snapshot(self) -> Snapshot:
        """What a statement reads that begins now."""
        return self._commits.snapshot()

    def commit(self, transaction: Transaction) -> Outcome:
        """Commit, if it isn't called off."""
        self._confirm()
        return self._commits.commit(transaction)
