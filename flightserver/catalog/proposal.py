"""Which of several transactions can become the next commit, and what that commit is.

Theory of operation: the transactions are tried one after the other, each against the state that those before it
leave. One whose requirements or updates don't hold there is refused alone. Nobody is told anything before the
commit is durable: a refusal may rest on a transaction of the same commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flightserver.catalog.log import Commit, Recorded, new_commit_id
from flightserver.catalog.snapshot import Snapshot
from flightserver.errors import CommitConflict, FlightserverError, RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from flightserver.catalog.draft import Draft, Outcome
    from flightserver.catalog.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Proposal:
    """The next commit and what comes of it.

    Attributes:
        commit: To be written; without transactions when none can be committed.
        snapshot: The catalog after it.
        outcomes: For each transaction, in order, its outcome or why it is refused.
    """

    commit: Commit
    snapshot: Snapshot
    outcomes: tuple[Outcome | FlightserverError, ...]


def propose(base: Snapshot, transactions: Iterable[Transaction], now: datetime, server: str) -> Proposal:
    """Try transactions on a snapshot. Commit times never go back, whatever the clock does."""
    draft = base.draft(max(now, base.time))
    accepted: list[Recorded] = []
    outcomes: list[Outcome | FlightserverError] = []
    for transaction in transactions:
        known = draft.operations.get(transaction.operation.id)
        if known is not None:
            outcomes.append(known)
            continue
        try:
            outcomes.append(_run(draft, transaction))
        except (CommitConflict, RequestError) as error:
            outcomes.append(error)
        else:
            accepted.append(Recorded(transaction.operation, transaction.updates))
    commit = Commit(draft.version, draft.time, server, tuple(accepted), new_commit_id())
    return Proposal(commit, Snapshot.of(draft) if accepted else base, tuple(outcomes))


def _run(draft: Draft, transaction: Transaction) -> Outcome:
    for requirement in transaction.requirements:
        requirement.check(draft)
    return draft.run(transaction.operation.id, transaction.operation.rows, transaction.updates)
