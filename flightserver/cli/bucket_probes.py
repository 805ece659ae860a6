"""What `flightserver doctor` looks at in buckets: in `primary`, in the catalog there, and in those that it names.

The catalog is read and never made, so that nobody's server is disturbed and none begins by a look. Each of the other
buckets is tried by a thread of its own, as `bucket.check` does, with short timeouts, and none is waited for longer
than `_SECONDS`, however many there are: a disk that hangs answers no request to end. A server works without them but
for the statements that need them; doctor is asked when one doesn't, so it fails all the same.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from flightserver.catalog.catalog import Catalog
from flightserver.catalog.entities import PRIMARY
from flightserver.catalog.log import COMMITS
from flightserver.catalog.migration import home
from flightserver.cli.primary_probes import probe_primary
from flightserver.cli.probe import Probe, State
from flightserver.cli.remedies import able, remedies_of, where, why
from flightserver.errors import AlreadyExists, FlightserverError, InternalError, InvalidRequest
from flightserver.federation.claims import CLAIM, check_claim
from flightserver.federation.configured import configured_primary, configured_timeouts
from flightserver.federation.looking import Looks
from flightserver.federation.opening import EMPTY, Opener
from flightserver.federation.places import check_s3_bucket
from flightserver.federation.probing import probe

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from flightserver.catalog.entities import Bucket
    from flightserver.settings import Settings
    from flightserver.storage.buckets import OpenBucket

_SETTINGS = "primary settings"
_CATALOG = "catalog"
_RETRY_SECONDS = 5.0
_SECONDS = 20.0
"""What all of them are waited for together. Few requests have to be made, and each has `_RETRY_SECONDS`."""


def probe_buckets(settings: Settings) -> Iterator[Probe]:
    """Probe where the catalog is, the catalog, and the buckets that it names."""
    try:
        primary = configured_primary(settings.primary)
    except InvalidRequest as error:
        yield Probe(_SETTINGS, State.FAILED, error.message, "mend the section [primary] of flightserver.toml")
        return
    data, buckets = settings.server.data, settings.buckets
    hasty = replace(buckets, retries=1, retry_seconds=min(buckets.retry_seconds, _RETRY_SECONDS))
    opener = Opener(data, data / buckets.credentials, configured_timeouts(hasty))
    if primary.s3 is not None:
        opened = yield from probe_primary(primary, primary.s3, opener)
        if opened is None:
            detail = "it can't be read in 'primary', and says which other buckets there are: they weren't looked at"
            yield Probe(_CATALOG, State.FAILED, detail, "mend 'primary' first")
            return
        catalog = yield from _catalog(lambda: opened, primary, opener)
    else:
        catalog = yield from _catalog(lambda: _opened(primary, opener), primary, opener)
    if catalog is None:
        return
    there = catalog.known.buckets
    others = [there[name] for name in sorted(there) if name != PRIMARY and home(there, name) == name]
    if others:
        looks = Looks(catalog)
        tries = [(one, _Try(one, opener, catalog, looks)) for one in others]
        yield from _in_time([_Look(_name(one), remedies_of(one, opener).find(), take) for one, take in tries])


def _opened(primary: Bucket, opener: Opener) -> OpenBucket | None:
    """The local bucket `primary`, unless there is no catalog yet: opening it would make directories."""
    return opener.open_strictly(primary) if (opener.root(primary) / COMMITS).is_dir() else None


def _catalog(
    opened: Callable[[], OpenBucket | None], primary: Bucket, opener: Opener
) -> Generator[Probe, None, Catalog | None]:
    """Read the catalog; returns it if there is one that can be read."""
    read: list[Catalog] = []
    remedies = remedies_of(primary, opener)

    def look() -> Probe:
        try:
            bucket = opened()
            catalog = None if bucket is None else Catalog.existing(bucket.objects)
        except InternalError as error:
            mend = "restore that object from a backup of `_catalog`, or upgrade flightserver if a newer one wrote it"
            return Probe(_CATALOG, State.FAILED, error.message, mend)
        except FlightserverError as error:
            return Probe(_CATALOG, State.FAILED, why(error, primary), remedies.of(error))
        if catalog is None:
            mend = "flightserver doctor --data DIR or --config FILE of the lakehouse, unless it is to be a new one"
            return Probe(_CATALOG, State.WARNING, f"there is none in {where(primary, opener)}; serve makes it", mend)
        read.append(catalog)
        known = catalog.known
        counted = f"version {known.version:,}, datasets: {len(known.datasets):,}, buckets: {len(known.buckets):,}"
        return Probe(_CATALOG, State.OK, counted)

    yield from _in_time([_Look(_CATALOG, remedies.find(), look)])
    return read[0] if read else None


@dataclass(frozen=True, slots=True)
class _Look:
    """A probe that may hang: what it is called, what mends it then, and what is done."""

    name: str
    mend: str
    take: Callable[[], Probe]


class _Try:
    """Tries one bucket.

    Args:
        bucket: What the catalog says of it.
        opener: Opens it.
        catalog: Whose it is.
        looks: Look whether it is there.
    """

    def __init__(self, bucket: Bucket, opener: Opener, catalog: Catalog, looks: Looks) -> None:
        self._bucket = bucket
        self._opener = opener
        self._catalog = catalog
        self._looks = looks
        self._remedies = remedies_of(bucket, opener)

    def __call__(self) -> Probe:
        place = where(self._bucket, self._opener)
        try:
            # Nothing is written, not even what opening a directory leaves there, where it isn't known that it is ours.
            opened = self._opener.open_mounted(self._bucket, has_files=self._looks.has_files(self._bucket.name))
        except FlightserverError as error:
            return self._unopened(error)
        try:
            if opened.s3 is not None:
                check_s3_bucket(opened.s3)
            check_claim(opened, self._catalog)
            found = probe(opened, self._looks.look)
            if found.failure is not None and found.reachable:
                raise found.failure
        except AlreadyExists as error:
            mend = (
                f"drop the bucket from one of the two and keep its contents; or, if the other is gone, delete {CLAIM!r}"
            )
            return self._failed(error.message, mend)
        except FlightserverError as error:
            return self._failed(why(error, self._bucket), self._remedies.of(error))
        if not found.reachable:
            return self._failed(f"{place}: {found.error}", self._remedies.of_loss())
        if not found.conditional_put:
            detail = f"{place} ignores If-None-Match: two writers of one key would both succeed"
            return self._failed(detail, "use an S3 server that honours conditional writes")
        return Probe(_name(self._bucket), State.OK, f"{place} {able(found)}")

    def _unopened(self, error: FlightserverError) -> Probe:
        if error.message == EMPTY:
            return self._failed(f"{where(self._bucket, self._opener)}: {EMPTY}", self._remedies.of_loss())
        return self._failed(error.message, self._remedies.of_opening(error))

    def _failed(self, detail: str, mend: str) -> Probe:
        return Probe(_name(self._bucket), State.FAILED, detail, mend)


def _name(bucket: Bucket) -> str:
    return f"bucket {bucket.name}"


def _in_time(looks: Sequence[_Look]) -> Iterator[Probe]:
    """Take all looks at once; those that are late are said to be."""
    taken = [(look, _started(look)) for look in looks]
    deadline = time.monotonic() + _SECONDS
    for look, future in taken:
        try:
            yield future.result(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            yield Probe(look.name, State.FAILED, f"no answer within {_SECONDS:g} s", look.mend)
        except OSError as error:  # of a broken disk, where nobody expects one
            yield Probe(look.name, State.FAILED, error.strerror or str(error), look.mend)


def _started(look: _Look) -> Future[Probe]:
    """A look on a thread of its own, for which nobody waits, at the end of the process neither."""
    future: Future[Probe] = Future()

    def take() -> None:
        try:
            future.set_result(look.take())
        except BaseException as error:  # noqa: BLE001  # it is raised where the answer is waited for
            future.set_exception(error)

    threading.Thread(target=take, name=f"doctor-{look.name}", daemon=True).start()
    return future
