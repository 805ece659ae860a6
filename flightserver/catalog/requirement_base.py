"""What all requirements have in common (`flightserver.catalog.requirements`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import msgspec

from flightserver.catalog.entities import DatasetKey
from flightserver.errors import CommitConflict

if TYPE_CHECKING:
    from flightserver.catalog.draft import State
    from flightserver.errors import Hint, Sees

_ANYWHERE = DatasetKey("", "")
"""No dataset has this key: who sees it sees all."""


def what_became_of(dataset_id: str, key: DatasetKey, state: State) -> Hint:
    """Says what became of a dataset, by its id, that isn't found by its key any more: where it is, to who sees it.

    Who doesn't see every place where it may be is told the same whether it is there or was dropped.
    """
    now = next((one.key for one in state.datasets.values() if one.id == dataset_id), None)
    dropped = "it was dropped and created again" if key in state.datasets else "it was dropped"

    def hint(sees: Sees) -> str:
        if now is not None and sees(*now):
            return f"it was {'renamed' if now.bucket == key.bucket else 'moved'} and is {now} now"
        return dropped if now is None and sees(*_ANYWHERE) else "it was dropped, renamed or moved"

    return hint


class BaseRequirement(msgspec.Struct, frozen=True, tag_field="type"):
    """Base of all requirements."""

    def check(self, state: State) -> None:
        """Return when it holds in this state.

        Raises:
            CommitConflict: It doesn't hold; the message says what was required and what was found.
        """
        raise NotImplementedError

    @classmethod
    def refused(cls, error: CommitConflict) -> bool:
        """Whether the conflict is that a requirement of this class didn't hold."""
        return error.details.get("requirement") == cls.__struct_config__.tag

    def conflict(self, required: str, found: str | Hint) -> NoReturn:
        """Raise the conflict."""
        raise CommitConflict(
            f"the commit requires that {required}, but ",
            found,
            "; nothing was changed and a retry is safe",
            details={"requirement": str(self.__struct_config__.tag)},
        )


class NamedRequirement(BaseRequirement, frozen=True):
    """Base of the requirements that name one dataset."""

    bucket: str
    name: str

    @property
    def key(self) -> DatasetKey:
        """The dataset it is about."""
        return DatasetKey(self.bucket, self.name)
