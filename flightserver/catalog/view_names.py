"""Names in the texts of views, which go on meaning what they meant when it gets another name.

Theory of operation: the text of a view is kept as it was written. When a dataset is moved or renamed, each name in the
text that would mean something else from then on, or nothing, becomes a `Meaning` of the view: the dataset itself, and
one that the moved dataset would hide from now on. Meanings are looked at before the catalog is, and follow as well.
When what they mean is dropped they are forgotten: the name means what the catalog has by it, as it did when it was
written, and no later dataset that happens to get the dropped one's key.

The text isn't parsed: a name counts as said where its letters stand as a word. A meaning of a name that isn't a
table there, such as an alias, is never asked for.

Invariants: this is part of replaying the log, so for a state and a commit it answers the same in every release.
`natural` answers what `flightserver.query.namespace.Scope.relation` finds in a view without meanings.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

from msgspec.structs import replace

from flightserver.catalog.entities import OLD_PRIMARY, PRIMARY, DatasetKey, Meaning
from flightserver.catalog.migration import home
from flightserver.catalog.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from flightserver.catalog.draft import Draft, State
    from flightserver.catalog.entities import View

_PUBLIC = "public"


class NamesInViews:
    """What names mean in all views before a dataset gets another key.

    Args:
        draft: The state before.
        old: The key that the dataset has.
        new: The key that it gets.
    """

    def __init__(self, draft: Draft, old: DatasetKey, new: DatasetKey) -> None:
        self._old = old
        self._new = new
        self._names = [(name, _Word(name)) for name in dict.fromkeys((old.name, new.name))]
        self._schemas = [(schema, None if schema is None else _Word(schema)) for schema in _schemas(draft)]
        self._before = [(view, dict(self._meant(draft, view))) for view in draft.views.values()]

    def keep(self, draft: Draft, version: int) -> None:
        """Make them mean the same in the state after; views that change by that get this version."""
        for view, before in self._before:
            meanings = []
            for (schema, name), meant in before.items():
                means = self._new if meant == self._old else meant
                if natural(draft, view, schema, name) != means:
                    meanings.append(Meaning(schema, name, means))
            if tuple(meanings) != view.meanings:
                draft.put_view(replace(view, meanings=tuple(meanings), version=version))

    def _meant(self, state: State, view: View) -> Iterator[tuple[tuple[str | None, str], DatasetKey]]:
        known = {(one.schema, one.name): one.means for one in view.meanings}
        yield from known.items()
        text = view.sql.casefold()
        for name, word in self._names:
            if not word.is_in(text):
                continue
            for schema, before_dot in self._schemas:
                if (schema, name) not in known and (before_dot is None or before_dot.is_in(text)):
                    meant = natural(state, view, schema, name)
                    if meant is not None:
                        yield (schema, name), meant


def forget(draft: Draft, dropped: Collection[DatasetKey], version: int) -> None:
    """Let names that meant dropped datasets or views mean something by themselves again.

    Views that change by that get this version.
    """
    for view in tuple(draft.views.values()):
        kept = tuple(one for one in view.meanings if one.means not in dropped)
        if len(kept) < len(view.meanings):
            draft.put_view(replace(view, meanings=kept, version=version))


def natural(state: State, view: View, schema: str | None, name: str) -> DatasetKey | None:
    """What a name in a view means by what the catalog has: None for nothing, and where it is ambiguous.

    Args:
        state: The catalog.
        view: Where bare names are looked up first is said by it.
        schema: What stands before the dot; None for a bare name.
        name: What stands behind it.
    """

    def has(bucket: str | None) -> bool:
        return bucket is not None and ((bucket, name) in state.datasets or (bucket, name) in state.views)

    if schema is None and has(view.default_schema):
        return DatasetKey(view.default_schema, name)
    if schema not in {None, _PUBLIC}:
        bucket = home(state.buckets, schema or "")
        return DatasetKey(bucket, name) if has(bucket) else None
    for first in (view.default_bucket, PRIMARY):
        if first is not None and has(first):
            return DatasetKey(first, name)
    there = [bucket for bucket in state.buckets if has(bucket)]
    return DatasetKey(there[0], name) if len(there) == 1 else None


def _schemas(state: State) -> list[str | None]:
    """All that may stand before the dot, and nothing."""
    former = (name for bucket in state.buckets.values() for name in bucket.former)
    return list(dict.fromkeys((None, _PUBLIC, *state.buckets, *former, *sorted(OLD_PRIMARY))))


class _Word:
    """A name as SQL writes it, made ready once for the texts of all views."""

    def __init__(self, name: str) -> None:
        self._written = quoted(name).casefold() or '""'

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """Made when a text has the letters: there may be thousands of schemas, of which texts say few."""
        letters = re.escape(self._written)  # they come first, as `re` is fast only at patterns that begin with letters
        return re.compile(rf"{letters}(?!\w)(?<!\w{letters})")

    def is_in(self, text: str) -> bool:
        """Whether a text, with its case folded, may have the name."""
        return self._written in text and self._pattern.search(text) is not None
