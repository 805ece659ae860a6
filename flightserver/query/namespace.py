"""What names in SQL mean to one statement: a scope.

Schemas of the catalog `lakehouse`: `public` (every dataset by its bare name), one per bucket, `system` and
`information_schema`. Names are resolved lazily against one snapshot (`providers.py`). Bare names that begin with `__`
are generated: they stand for what a statement says otherwise, or for what we put into its place.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from flightserver.access.rights import UNRESTRICTED
from flightserver.catalog.entities import DatasetKey, View
from flightserver.catalog.migration import home
from flightserver.catalog.quoting import identifier
from flightserver.errors import InvalidRequest, NotFound
from flightserver.query.protection import protection

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from flightserver.access.rights import Rights
    from flightserver.catalog.entities import Dataset
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.query.language.searches import Search

CATALOG = "lakehouse"
PUBLIC = "public"
SYSTEM = "system"
INFORMATION_SCHEMA = "information_schema"
BARE = "__bare"
"""Where the engine looks for names without a schema; no client sees this name."""
TARGET = "__target"
"""Bare name of the table that a statement changes, with the ids of its rows as `_rid`; no client's statement has it."""
ADDED = "__added"
"""As `__target`, of rows that are written but not part of a dataset yet."""
CANDIDATES = "__candidates"
"""Bare name of the rows that a search may find, with their ids as `_rid`, as who asks may see them."""
VIEW = "__view"
"""Name of the query that stands in the place of a relation; `flightserver.query.columns` knows it by that."""
MAX_VIEW_DEPTH = 16
"""Views of views of views, and so on. Each is planned anew with every statement that names it."""
ADMINISTRATION = frozenset({"audit", "commits", "events", "settings"})
"""Tables of `system` that only administrators have: what others do, and the server itself."""
INPUT = "input"
"""Name under which a statement sees the stream that was sent with it."""


@dataclass(slots=True)
class Notes:
    """What the scopes of a statement and of the views that it reads share.

    Attributes:
        has_searches: Whether searches were met, so that a plan without their rows can't be run.
        cancelled: Whether the statement was stopped, and with it the searches of its views on other threads.
        reads: The plan as the engine shows it, which names each column that is read; None where that isn't known.
        id: For messages.
        said: What the names in the statement's own text meant, by schema, if any, and name; None to keep none.
    """

    has_searches: bool = False
    cancelled: bool = False
    reads: str | None = None
    id: str = "of a view's search"
    said: dict[tuple[str | None, str], Dataset | View] | None = None


class Found(NamedTuple):
    """The rows of a search, and whether policies are about what was searched."""

    rows: pa.Table
    is_protected: bool


@dataclass(frozen=True, slots=True)
class Scope:
    """What names mean to one statement.

    Attributes:
        snapshot: The catalog as the whole statement sees it.
        bucket: Where bare names are looked up first; None for primary.
        schema: The session's schema, where bare names are looked up before `public`.
        given: Tables that came with the statement, by bare name: a schema and its batches.
        named: Relations of other versions, by the bare names that stand for them in the statement.
        target: What the bare name `__target` means.
        added: What the bare name `__added` means.
        depth: How many views this scope is inside of.
        rights: Of who asks; the snapshot has only what they may see.
        newest: The newest snapshot as it is, by which rights are judged; None for the server's own work.
        past: The earlier version that the snapshot is, or that its transaction began with; None for the newest.
        protected: What the bare name `__protected` means.
        numbered: Whether it has the ids of its rows as `_rid`.
        candidates: What the bare name `__candidates` means.
        searches: Searches of the statement, by the bare names that stand for them.
        searching: Whether searches are done; without, their names mean tables without rows.
        found: Rows of searches that were done, by the same names.
        notes: Shared by all scopes that are made of this one.
        meanings: Of names in the text of the view whose scope this is, by schema, if any, and name.
    """

    snapshot: Snapshot
    bucket: str | None = None
    schema: str = PUBLIC
    given: Mapping[str, tuple[pa.Schema, list[pa.RecordBatch]]] = field(default_factory=dict)
    named: Mapping[str, Dataset | PastView] = field(default_factory=dict)
    target: Dataset | None = None
    added: Dataset | None = None
    depth: int = 0
    rights: Rights = UNRESTRICTED
    newest: Snapshot | None = None
    past: Snapshot | None = None
    protected: Dataset | None = None
    numbered: bool = False
    candidates: Dataset | None = None
    searches: Mapping[str, Search] = field(default_factory=dict)
    searching: bool = False
    found: Mapping[str, Found] = field(default_factory=dict)
    notes: Notes = field(default_factory=Notes)
    meanings: Mapping[tuple[str | None, str], DatasetKey] = field(default_factory=dict)

    def dataset(self, name: str, schema: str | None = None) -> Dataset:
        """The dataset that a name means.

        Raises:
            NotFound: There is none; the message suggests near names.
            InvalidRequest: A bare name is ambiguous, or it is a view.
        """
        key = self.relation(name, schema).key
        return self.snapshot.dataset(key.name, key.bucket)

    def relation(self, name: str, schema: str | None = None) -> Dataset | View:
        """As `dataset`, for datasets and views."""
        written = (None if schema == BARE else schema, name)
        found = self._meant(written, schema, name)
        if self.notes.said is not None and not self.depth:
            self.notes.said[written] = found
        return found

    def _meant(self, written: tuple[str | None, str], schema: str | None, name: str) -> Dataset | View:
        meant = self.meanings.get(written)
        if meant is not None:
            if not self.has(*meant):  # where it is now isn't for everyone to know
                said = identifier(name) if written[0] is None else DatasetKey(written[0], name)
                raise NotFound(f"what the view reads as {said} doesn't exist, or you may not see it")
            return self.snapshot.relation(meant.name, bucket=meant.bucket)
        if schema in {None, BARE}:
            if self.has(self.schema, name):
                return self.snapshot.relation(name, bucket=self.schema)
            schema = PUBLIC
        if schema == PUBLIC:
            return self.snapshot.relation(name, bucket=self.bucket if self.has(self.bucket, name) else None)
        bucket = self.bucket_of(schema)
        if bucket is not None:
            return self.snapshot.relation(name, bucket=bucket)
        raise NotFound(self.missing(CATALOG, schema, name))

    def bucket_of(self, schema: str | None) -> str | None:
        """The bucket that a schema means, or None. The text of a view may have a name that a bucket had before."""
        known = self.snapshot.buckets
        meant = home(known, schema) if schema is not None and self.depth else schema
        return meant if meant in known else None

    def has_schema(self, schema: str) -> bool:
        """Whether a table may be named in a schema. The text of a view may have one whose bucket was dropped."""
        return (
            schema in self.schemas()
            or self.bucket_of(schema) is not None
            or any(schema == known for known, _ in self.meanings)
        )

    def has(self, bucket: str | None, name: str) -> bool:
        """Whether the snapshot has a dataset or view of this key."""
        if bucket is None:
            return False
        key = DatasetKey(bucket, name)
        return key in self.snapshot.datasets or key in self.snapshot.views

    def inside(self, view: View) -> Scope:
        """What names mean in the query of a view.

        Raises:
            InvalidRequest: Views are nested too deeply, or read each other.
        """
        if self.depth >= MAX_VIEW_DEPTH:
            msg = f"view {view.key} is inside of {MAX_VIEW_DEPTH} others, or reads itself: replace one of them"
            raise InvalidRequest(msg)
        return Scope(
            self.snapshot,
            view.default_bucket,
            view.default_schema,
            depth=self.depth + 1,
            rights=self.rights,
            newest=self.newest,
            past=self.past,
            searching=self.searching,
            notes=self.notes,
            meanings={(one.schema, one.name): one.means for one in view.meanings},
        )

    def behind(self, dataset: Dataset) -> Scope:
        """What names mean in the query that stands in the place of a dataset: its rows, and all of the lakehouse.

        Raises:
            InvalidRequest: Predicates of policies read what policies protect, again and again.
        """
        if self.depth >= MAX_VIEW_DEPTH:
            raise InvalidRequest(f"what reads {dataset.key} is inside of {MAX_VIEW_DEPTH} views: make it simpler")
        return Scope(
            self.newest or self.snapshot,
            depth=self.depth + 1,
            protected=dataset,
            searching=self.searching,
            notes=self.notes,
        )

    def at(self, snapshot: Snapshot) -> Scope:
        """The same names in a transaction as it is now, or one of this statement's own: what may be seen of it."""
        seen = snapshot if self.newest is None else self.rights.visible(snapshot, self.newest, past=self.past)
        return replace(self, snapshot=seen)

    def renewed(self, newest: Snapshot) -> Scope:
        """The same names, judged by a newer version and its rights; in it, unless this is about the past."""
        if self.newest is None:
            return replace(self, snapshot=newest)
        rights = self.rights.at(newest.access)
        seen = rights.visible(newest if self.past is None else self.snapshot, newest, past=self.past)
        return replace(self, snapshot=seen, newest=newest, rights=rights)

    def again(self, snapshot: Snapshot) -> Scope:
        """The same names for a statement that is tried again: in the newest version, or in its transaction as it is."""
        return self.renewed(snapshot) if self.past is None else self.at(snapshot)

    def has_fixed(self, schema: str, name: str) -> bool:
        """Whether a table of `system` or `information_schema` exists for who asks."""
        return self.rights.is_admin or schema != SYSTEM or name not in ADMINISTRATION

    def hides(self, dataset: Dataset) -> bool:
        """Whether policies are about a dataset of this scope, so that its numbers of rows aren't told."""
        return self.newest is not None and bool(self.rights.policies_on(dataset, self.newest))

    def key_now(self, found: Dataset | View) -> DatasetKey:
        """What a relation of this scope is called now, which grants and policies go by."""
        return found.key if self.newest is None else self.rights.key_now(found, self.newest) or found.key

    def now(self, found: Dataset | View) -> Dataset | None:
        """A dataset of this scope as it is now, or as it was when it was dropped; None for a view."""
        if isinstance(found, View):
            return None
        newest = None if self.newest is None else self.newest.datasets.get(self.key_now(found))
        return newest if newest is not None and newest.id == found.id else found

    def is_protected(self, dataset: Dataset) -> bool:
        """Whether rows or values of a dataset are hidden from who asks."""
        return protection(dataset, self.rights, self.newest) is not None

    def missing(self, catalog: str, schema: str, name: str) -> str:
        """Says that a table does not exist, and which near names do."""
        schema = PUBLIC if schema == BARE else schema
        if catalog != CATALOG:
            return f"catalog {catalog!r} doesn't exist: there is one, {CATALOG!r}"
        known = self.schemas()
        if schema not in known:
            return f"table {name!r} in schema {schema!r} doesn't exist: the schemas are {', '.join(sorted(known))}"
        near = self.snapshot.similar(name, None if schema == PUBLIC else schema)
        tail = f"did you mean {', '.join(near)}?" if near else "system.datasets lists the tables"
        return f"table {name!r} doesn't exist in schema {schema!r}: {tail}"

    def schemas(self) -> list[str]:
        """Names of all schemas."""
        return [PUBLIC, *self.snapshot.buckets, SYSTEM, INFORMATION_SCHEMA]


@dataclass(frozen=True, slots=True)
class PastView:
    """A view at another version, and what it reads there."""

    view: View
    snapshot: Snapshot

    @property
    def version(self) -> int:
        """The version of the catalog."""
        return self.snapshot.version
