"""Doing again, in its new home, what a move has overtaken.

A name that a caller gives means a dataset when the call begins. A dataset that is moved meanwhile isn't found under
its key any more, though the name may still mean it: a bare name is looked up in all buckets. What was refused for that
has changed nothing, so it is done again. A name with the bucket means nothing any more, and the refusal stands.

What is done again is done to the same dataset. A name may mean another one by then, in another bucket, for which nobody
was asked whether it may be changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from flightserver.catalog.entities import View
from flightserver.errors import CommitConflict, InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from flightserver.catalog.entities import Dataset
    from flightserver.catalog.transaction import Commits
    from flightserver.query.language.changes import TableName
    from flightserver.query.namespace import Scope

_ATTEMPTS = 10
"""Each refusal but the last is a move of the dataset."""

Done = TypeVar("Done")


def following(target: TableName, scope: Scope, commits: Commits, act: Callable[[Dataset, Scope], Done]) -> Done:
    """Do something with the dataset that a name means; and again if that is moved meanwhile and still has the name.

    Args:
        target: The name.
        scope: What it means at first.
        commits: Knows the newest snapshot, or that of a transaction.
        act: Does it, for the dataset and the scope in which it was found. It is done once, or refused.

    Raises:
        NotFound: There is no such dataset.
        InvalidRequest: It is a view, or in several buckets.
        CommitConflict: As `act` raises; or the dataset is moved again and again.
    """
    for _ in range(_ATTEMPTS):
        dataset = scope.dataset(target.name, target.schema)
        try:
            return act(dataset, scope)
        except (CommitConflict, NotFound) as error:
            refusal = error
            scope = scope.again(commits.snapshot())
            if not _has_moved(dataset, target, scope):
                raise
    raise refusal


def means_still(one: Dataset | View, target: TableName, scope: Scope) -> bool:
    """Whether a name means what it meant when it was authorised, by whatever key; and not what has the name since.

    Args:
        one: What it meant.
        target: The name.
        scope: Where it is looked up now.
    """
    try:
        now = scope.relation(target.name, target.schema)
    except (InvalidRequest, NotFound):
        return False
    if isinstance(one, View) or isinstance(now, View):
        return type(one) is type(now) and one.key == now.key
    return one.id == now.id


def _has_moved(dataset: Dataset, target: TableName, scope: Scope) -> bool:
    """Whether a name means the same dataset, and that is called otherwise."""
    try:
        now = scope.dataset(target.name, target.schema)
    except (InvalidRequest, NotFound):
        return False
    return now.id == dataset.id and now.key != dataset.key
