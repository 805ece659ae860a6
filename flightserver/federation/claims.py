"""Whose place it is: an object at the top of each bucket that says which lakehouse has its files there.

Two lakehouses in one place would each collect the other's files as garbage, since neither's catalog names what the
other has written. So the first puts a claim, under a key that one writer gets, before it commits its bucket; whoever
finds the claim of another is refused. Within a lakehouse it tells that two names mean one S3 server: the claim has the
other name, by which the catalog knows a bucket.

A claim is taken back when its bucket is dropped, unless its files are kept. One that was left behind, by a process that
was killed or when the bucket couldn't be reached, is in nobody's way who calls the place the same: the catalog's own
commit decides who gets that. Who calls it otherwise is refused, for somebody may be making it at this moment: people
delete such a claim. The place of `primary` has none: that the log lies there says as much.

Whoever takes a claim back may meet who makes a bucket there again. So it stays when the catalog has a bucket in its
place by then, and who makes one claims again after the commit.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from flightserver.catalog.bucket_rules import place_of
from flightserver.errors import AlreadyExists, BackendUnavailable, FlightserverError, NotFound

if TYPE_CHECKING:
    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.entities import Bucket
    from flightserver.storage.buckets import OpenBucket

_log = logging.getLogger(__name__)

CLAIM = "_lakehouse.json"
"""The key of a claim; nothing else begins with it."""


class Claim(msgspec.Struct, frozen=True):
    """What the object says.

    Attributes:
        lakehouse: The id of the first commit of its catalog, which no other has.
        bucket: What the bucket was called, for people.
        place: Where it is, as the lakehouse knows it: its backend and, from the outside in, the parts of its path.
        time: When it was claimed, UTC.
    """

    lakehouse: str
    bucket: str
    place: tuple[str, ...]
    time: datetime


_decoder = msgspec.json.Decoder(Claim)


def claim(bucket: Bucket, opened: OpenBucket, catalog: Catalog) -> None:
    """Claim the place of a bucket that is about to be committed, or was; one that is claimed for it already is fine.

    Raises:
        AlreadyExists: Another lakehouse has claimed it, or another bucket of this one lies there by another name.
        BackendUnavailable: It doesn't answer, or what lies under the key is no claim.
    """
    mine = Claim(lakehouse_of(catalog), bucket.name, place_of(bucket), datetime.now(UTC))
    found = read_claim(opened)
    if found is not None:
        _check_mine(found, mine, catalog)
        return
    try:
        opened.objects.put(CLAIM, msgspec.json.encode(mine))
    except AlreadyExists:
        msg = (
            f"bucket {bucket.name!r} can't lie there: the place was claimed by somebody else at this moment; try again"
        )
        raise AlreadyExists(msg) from None


def release(opened: OpenBucket, catalog: Catalog) -> None:
    """Take back the claim of a bucket that was dropped, as far as it can be reached, unless it is another's by now."""
    try:
        found = read_claim(opened)
        if found is None or any(place_of(one) == found.place for one in catalog.snapshot().buckets.values()):
            return
        check_lakehouse(opened, found, lakehouse_of(catalog))
        opened.objects.delete(CLAIM)
        for one in catalog.snapshot().buckets.values():
            if place_of(one) == found.place:
                claim(one, opened, catalog)
    except FlightserverError:
        _log.warning("the claim of a dropped bucket stays", extra={"bucket": opened.name}, exc_info=True)


def check_claim(opened: OpenBucket, catalog: Catalog) -> None:
    """Return when the files in a bucket are this lakehouse's; places that were never claimed are.

    Raises:
        AlreadyExists: Another lakehouse has claimed the place meanwhile.
        BackendUnavailable: It doesn't answer, or what lies under the key is no claim.
    """
    found = read_claim(opened)
    if found is not None:
        check_lakehouse(opened, found, lakehouse_of(catalog))


def check_lakehouse(opened: OpenBucket, found: Claim, lakehouse: str) -> None:
    """Return when a claim that was found in a bucket is this lakehouse's (`lakehouse_of`). Raises as `check_claim`."""
    if found.lakehouse != lakehouse:
        raise AlreadyExists(_taken(opened.name, found))


def check_unclaimed(opened: OpenBucket) -> None:
    """Return when a catalog can lie in a place: no lakehouse has claimed it for a bucket. Raises as `check_claim`."""
    found = read_claim(opened)
    if found is not None:
        raise AlreadyExists(_taken(opened.name, found))


def _check_mine(found: Claim, mine: Claim, catalog: Catalog) -> None:
    """Return when a claim that is there is as good as the one that would be put."""
    if found.lakehouse != mine.lakehouse:
        raise AlreadyExists(_taken(mine.bucket, found))
    if found.place == mine.place:
        return
    other = next((one for one in catalog.snapshot().buckets.values() if place_of(one) == found.place), None)
    if other is not None:
        msg = f"bucket {mine.bucket!r} can't lie there: it is the place of bucket {other.name!r} by another name"
        raise AlreadyExists(msg)
    msg = (
        f"bucket {mine.bucket!r} can't lie there: the place was claimed by another name of it for bucket "
        f"{found.bucket!r}, on {found.time:%Y-%m-%d}, which is being made, or was dropped: call the place as then, or "
        f"delete the object {CLAIM!r} there if no server is making it"
    )
    raise AlreadyExists(msg)


def _taken(name: str, found: Claim) -> str:
    return (
        f"another lakehouse has its bucket {found.bucket!r} in the place of bucket {name!r}, since "
        f"{found.time:%Y-%m-%d}, and each would delete files of the other as garbage: give it a root or prefix of its "
        f"own, or, if the other lakehouse is gone, delete the object {CLAIM!r} there"
    )


def read_claim(opened: OpenBucket) -> Claim | None:
    """The claim in a place, or None when there is none.

    Raises:
        BackendUnavailable: It doesn't answer, or what lies under the key is no claim.
    """
    try:
        data = opened.objects.get(CLAIM)
    except NotFound:
        return None
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        msg = (
            f"object {CLAIM!r} of bucket {opened.name!r} should say which lakehouse has its files there, and doesn't: "
            "something else than what was written there answers"
        )
        raise BackendUnavailable(msg) from None


def lakehouse_of(catalog: Catalog) -> str:
    """What tells a lakehouse from all others. Raises when the first commit can't be read."""
    first = next(iter(catalog.commits()))
    return first.id or first.time.isoformat()
