"""Doing again, in its new home, what a move has overtaken.

A name that a caller gives means a dataset when the call begins. A dataset that is moved meanwhile isn't found under its
key any more, though the name may still mean it: a bare name is looked up in all buckets. What was refused for that has
changed nothing, so it is done again; also when another move has brought the dataset home before it is looked for: then
the refusal itself says that it was away, since what it missed is there again. A name with the bucket means nothing any
more, and the refusal stands.

What is done again is done to the same dataset. A name may mean another one by then, in another bucket, for which nobody
was asked whether it may be changed.

A view keeps its text, and whatever the text means by the commit is what it reads. So it requires that the names in it
mean what they meant when its query was planned (`requirements_of`), or is planned again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from flightserver.catalog.entities import View
from flightserver.catalog.missing import may_miss
from flightserver.catalog.requirements import DatasetUnchangedSchema, NameMeans, SameDataset, ViewAt
from flightserver.catalog.view_names import natural
from flightserver.errors import CommitConflict, InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flightserver.catalog.entities import Dataset, DatasetKey
    from flightserver.catalog.requirements import Requirement
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.catalog.transaction import Commits
    from flightserver.query.language.changes import TableName
    from flightserver.query.namespace import Scope

_ATTEMPTS = 10
"""Each refusal but the last is a move of the dataset."""

READING: Final = (NameMeans, SameDataset, ViewAt)
"""What a view requires of what it reads."""

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
            if not _has_moved(dataset, refusal, target, scope):
                raise
    raise refusal


def requirements_of(
    view: View, said: Mapping[tuple[str | None, str], Dataset | View], planned: Snapshot
) -> tuple[Requirement, ...]:
    """What a view that is made requires, so that its text means by then what its query was planned with.

    Args:
        view: As it is going to be.
        said: What the names in its text meant to who makes it, by schema, if any, and name.
        planned: The version, or the state of the transaction, in which they did.
    """
    reads: dict[DatasetKey, Requirement] = {}
    for one in said.values():  # of an earlier version it may read what is dropped
        if isinstance(one, View):
            if planned.views.get(one.key) == one:
                reads[one.key] = ViewAt(one.bucket, one.name, one.version)
        elif (found := planned.datasets.get(one.key)) is not None and found.id == one.id:
            reads[one.key] = SameDataset(one.bucket, one.name, one.id)
    names = (NameMeans(view, schema, name, natural(planned, view, schema, name)) for schema, name in said)
    return (*reads.values(), *names)


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


def _has_moved(dataset: Dataset, refusal: CommitConflict | NotFound, target: TableName, scope: Scope) -> bool:
    """Whether a name means the same dataset, and that is called otherwise, or was when something was refused."""
    try:
        now = scope.dataset(target.name, target.schema)
    except (InvalidRequest, NotFound):
        return False
    return now.id == dataset.id and (now.key != dataset.key or _was_away(refusal, dataset, now))


def _was_away(refusal: CommitConflict | NotFound, then: Dataset, now: Dataset) -> bool:
    """Whether something was refused since a dataset wasn't where it was before, and is again."""
    if now.version == then.version:
        return False
    if isinstance(refusal, NotFound):
        return may_miss(refusal, then.key)
    missed_its_schema = DatasetUnchangedSchema.refused(refusal) and now.schema_fingerprint == then.schema_fingerprint
    return missed_its_schema or SameDataset.refused(refusal)
