"""Updates that remove, rewrite or bring back rows of a dataset."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # msgspec resolves the annotations when it decodes
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from flightserver.catalog.entities import Dataset, Delta, Lineage, Segment  # noqa: TC001  # msgspec resolves them
from flightserver.catalog.update_base import DatasetUpdate
from flightserver.errors import InvalidRequest

if TYPE_CHECKING:
    from flightserver.catalog.draft import Draft


class RemoveRows(DatasetUpdate, frozen=True, tag="remove_rows"):
    """Remove the rows that a delta names. That they are alive is for the transaction to require."""

    delta: Delta

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Count the rows as dead, and let go of segments that have no other."""
        dataset = self.find(draft)
        removed = self.delta.removed
        unknown = removed.keys() - {segment.id for segment in dataset.segments}
        if unknown:
            msg = f"dataset {dataset.key} has no segment {', '.join(sorted(unknown))} of which rows could be removed"
            raise InvalidRequest(msg)
        segments = []
        for segment in dataset.segments:
            dead = segment.dead + removed.get(segment.id, 0)
            if dead > segment.rows:
                msg = f"segment {segment.id} of dataset {dataset.key} has {segment.rows} rows, not {dead} to remove"
                raise InvalidRequest(msg)
            segments.append(replace(segment, dead=dead))
        draft.put_dataset(_settled(replace(dataset, version=version), segments, (*dataset.deltas, self.delta)))


class RewriteSegments(DatasetUpdate, frozen=True, tag="rewrite_segments"):
    """Put other segments, with the same live rows, in the place of some: compaction.

    Deltas that are about the old segments alone end with them. `deltas` remove rows of the new ones that somebody
    removed while they were written; `dead` of the new ones counts them already.
    """

    removed: tuple[str, ...]
    segments: tuple[Segment, ...]
    deltas: tuple[Delta, ...] = ()

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Put the new segments where the first of the old ones was."""
        dataset = self.find(draft)
        old = [segment for segment in dataset.segments if segment.id in self.removed]
        if len(old) != len(self.removed):
            msg = f"dataset {dataset.key} has {len(old)} of the {len(self.removed)} segments that were rewritten"
            raise InvalidRequest(msg)
        live, rows = sum(segment.live for segment in old), sum(segment.live for segment in self.segments)
        if live != rows:
            msg = f"{live} rows of dataset {dataset.key} were to be rewritten, the new segments have {rows}"
            raise InvalidRequest(msg)
        # `next_row_id` stays: it counts rows that were added, by which a writer sees that there were none.
        added = [replace(segment, first_row_id=old[0].first_row_id) for segment in self.segments]
        segments = []
        for segment in dataset.segments:
            if segment.id not in self.removed:
                segments.append(segment)
            else:
                segments += added
                added = []
        draft.put_dataset(_settled(replace(dataset, version=version), segments, (*dataset.deltas, *self.deltas)))


class RestoreDataset(DatasetUpdate, frozen=True, tag="restore_dataset"):
    """Give a dataset the rows, schema and key that it had at an earlier version; its files must still be there.

    `column_tags` are those of the columns of that version: a column that was renamed since is the same column, and must
    not come back without what policies go by. Tags of other names stay, for who goes back again.
    """

    restored: int
    segments: tuple[Segment, ...]
    deltas: tuple[Delta, ...]
    schema: bytes
    schema_fingerprint: str
    primary_key: tuple[str, ...] = ()
    lineage: tuple[Lineage, ...] = ()
    column_tags: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Put the earlier contents in the place of those now."""
        found = self.find(draft)
        changed = replace(
            found,
            version=version,
            # Rows that are back are new to whoever requires that none were added.
            next_row_id=found.next_row_id + sum(segment.live for segment in self.segments),
            schema=self.schema,
            schema_fingerprint=self.schema_fingerprint,
            primary_key=self.primary_key,
            lineage=self.lineage,
            column_tags={**found.column_tags, **self.column_tags},
        )
        draft.put_dataset(_settled(changed, self.segments, self.deltas))


def _settled(dataset: Dataset, segments: list[Segment] | tuple[Segment, ...], deltas: tuple[Delta, ...]) -> Dataset:
    """The dataset with these segments as far as they have live rows, and of the deltas what is about them."""
    kept = tuple(segment for segment in segments if segment.live or not segment.rows)
    ids = {segment.id for segment in kept}
    left = [
        replace(delta, removed={key: rows for key, rows in delta.removed.items() if key in ids}) for delta in deltas
    ]
    about = tuple(delta for delta in left if delta.removed)
    return replace(
        dataset,
        segments=kept,
        deltas=about,
        rows=sum(segment.live for segment in kept),
        bytes=sum(segment.bytes for segment in kept) + sum(delta.bytes for delta in about),
    )
