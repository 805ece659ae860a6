"""Objects in an S3 bucket, or of any server that speaks S3 and honours `If-None-Match`.

Theory of operation: `obstore` does the transport. A key is taken by a conditional put (`If-None-Match: *`), which is
the put-if-absent that everything above rests on. S3 says that an object is durable when it answers, so nothing is
synced. A writer collects its bytes in a temporary file of this machine and uploads them when it is committed: a small
object by one conditional put, a large one in parts, which S3 can't make conditional here; keys of large objects have a
ULID in them, so that no two writers share one, and a taken key is refused before.

A put whose answer was lost may have worked. obstore would repeat it and find its own object in the way, so puts are
repeated here: after a failure that leaves the question open, an object with the same bytes is taken for ours. Of a
large object the size decides, since nobody else writes its key.

The answer to a put has no time of the object, and asking for it would be a request more for each commit; so what a put
returns has the time of this machine's clock (`ObjectMeta`).

The first answer ends a server's silence (`silence.py`); requests here are made whether it is silent or not.

`S3Timeouts` bound what a server that doesn't answer costs: `retry_seconds`, and the pauses between tries. obstore looks
at the clock only when a try has failed, so tries get a length of which a whole number fits (`S3Timeouts.fitted`); the
last try of a put gets what is left. A server that fails first and hangs then can cost a read one try more.

Invariants: objects of this class hold no state but the connection pool; all methods may be called from any thread.
"""

from __future__ import annotations

import io
import logging
import random
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, BinaryIO

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PreconditionError,
)
from obstore.store import S3Store

from flightserver.errors import BackendUnavailable, FlightserverError
from flightserver.storage.environment import only_variables
from flightserver.storage.objects import ObjectMeta, absent, check_key, check_prefix, taken
from flightserver.storage.s3_errors import answer, found_nobody, is_final
from flightserver.storage.s3_files import S3File, S3Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore import ObjectMeta as FoundMeta
    from obstore import PutResult
    from obstore.store import S3Config

    from flightserver.storage.objects import ObjectWriter
    from flightserver.storage.s3_access import S3Access

_log = logging.getLogger(__name__)

_PART_BYTES = 16 * 2**20
_PARTS_AT_ONCE = 4
_BUFFER_BYTES = 1 << 20
"""What a random reader asks for at least."""
_FIRST_BACKOFF_SECONDS = 0.1
_BACKOFF_BASE = 2.0
_MAX_BACKOFF_SECONDS = 5.0


class S3Objects:
    """`Objects` in an S3 bucket. Making one connects to nothing.

    Args:
        access: Where the bucket is, who asks, and how long is waited.
    """

    may_write_late = True

    def __init__(self, access: S3Access) -> None:
        self._timeouts = access.timeouts.fitted
        self._access = replace(access, timeouts=self._timeouts)
        # Made here and not when they are needed: making one may wait for those who look for credentials.
        self.store = self._once = self._hurried = _store(self._access, retries=0)
        if self._timeouts.retries:
            self.store = _store(self._access, retries=self._timeouts.retries)
            hurried = replace(self._timeouts, request_seconds=self._timeouts.request_seconds / 2)
            self._hurried = _store(replace(access, timeouts=hurried), retries=0)

    def get(self, key: str) -> bytes:
        """Return all bytes of an object."""
        check_key(key)
        try:
            with self._access.silence.asking(self._timeouts.patience):  # its beginning tells as much as a HEAD
                found = obstore.get(self.store, key)
            with self._access.silence.asking():
                return bytes(found.bytes())
        except (FileNotFoundError, BaseError) as error:
            raise self._translated(error, "read", key) from error

    def head(self, key: str) -> ObjectMeta | None:
        """Return what is known of an object, or None."""
        check_key(key)
        try:
            with self._access.silence.asking(self._timeouts.patience):
                return _meta(obstore.head(self.store, key))
        except FileNotFoundError:
            return None
        except BaseError as error:
            raise self._translated(error, "look at", key) from error

    def put(self, key: str, data: bytes) -> ObjectMeta:
        """Write an object under a free key."""
        check_key(key)
        deadline = time.monotonic() + self._timeouts.retry_seconds
        pause = _FIRST_BACKOFF_SECONDS
        in_doubt = found_one = False
        for attempt in range(self._timeouts.retries + 1):
            try:
                is_last = attempt and time.monotonic() + self._timeouts.request_seconds > deadline
                return self._put_once(self._hurried if is_last else self._once, key, data)
            except (AlreadyExistsError, PreconditionError):
                found = self.head(key)
                if found is not None:
                    if in_doubt and found.size == len(data) and self.get(key) == data:
                        return found
                    raise taken(key) from None
                # Another's put of the key failed while ours was refused for it: the key is free.
            except FileNotFoundError as error:
                raise self._no_bucket(key, error) from error
            except BaseError as error:
                in_doubt, found_one = True, not found_nobody(error)
                is_late = time.monotonic() + pause + self._timeouts.request_seconds / 2 > deadline
                if is_late or attempt == self._timeouts.retries or is_final(error):
                    raise self._translated(error, "write", key) from error
                _log.info("put repeated", extra={"key": key, "attempt": attempt + 1})
            time.sleep(pause)
            pause = _next(pause, patiently=found_one)
        raise _given_up("write", key)

    def _put_once(self, store: S3Store, key: str, data: bytes) -> ObjectMeta:
        with self._access.silence.asking():
            result = obstore.put(store, key, data, mode="create", use_multipart=False)
        return self._put_meta(key, len(data), result)

    def _put_meta(self, key: str, size: int, result: PutResult) -> ObjectMeta:
        """What is known of an object that was just put; some servers, as Ceph's of large ones, don't tell its etag."""
        etag = _etag(result["e_tag"])
        return (self.head(key) if not etag else None) or ObjectMeta(key, size, etag, datetime.now(UTC))

    def put_parts(self, key: str, file: BinaryIO, size: int) -> ObjectMeta:
        """Upload a large object in parts, from a file at its beginning."""
        if self.head(key) is not None:
            raise taken(key)
        deadline = time.monotonic() + self._timeouts.retry_seconds
        try:
            with self._access.silence.asking():
                result = obstore.put(
                    self.store, key, file, use_multipart=True, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE
                )
        except (FileNotFoundError, BaseError) as error:
            # When the answer that completes an upload is lost, asking again is answered by "no such upload".
            if answer(error) is not None or time.monotonic() < deadline:
                found = self.head(key)
                if found is not None and found.size == size:
                    return found
            if isinstance(error, FileNotFoundError):
                raise self._no_bucket(key, error) from error
            raise self._translated(error, "write", key) from error
        return self._put_meta(key, size, result)

    def writer(self, key: str) -> ObjectWriter:
        """Start an object of unknown size."""
        return S3Writer(self, check_key(key))

    def open(self, key: str) -> BinaryIO:
        """Open an object for random access."""
        found = self.head(key)
        if found is None:
            raise absent(key)
        return io.BufferedReader(S3File(self, key, found.size), _BUFFER_BYTES)

    def get_range(self, key: str, start: int, length: int) -> memoryview:
        """Bytes of an object from `start`; there must be so many."""
        try:
            with self._access.silence.asking():
                return memoryview(obstore.get_range(self.store, key, start=start, length=length)).cast("B")
        except (FileNotFoundError, BaseError) as error:
            raise self._translated(error, "read", key) from error

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """Yield the objects under a prefix, in key order."""
        check_prefix(prefix)
        # The store lists below whole parts of keys.
        directory = prefix.rpartition("/")[0]
        try:
            with self._access.silence.asking():
                for found in obstore.list(self.store, directory or None, offset=after or None):
                    self._access.silence.answered()
                    for each in found:
                        if each["path"].startswith(prefix) and each["path"] > after:
                            yield _meta(each)
        except BaseError as error:
            raise self._translated(error, "list", prefix) from error

    def delete(self, key: str) -> None:
        """Delete an object, if there is one."""
        check_key(key)
        try:
            with self._access.silence.asking():
                obstore.delete(self.store, key)
        except FileNotFoundError:
            return
        except BaseError as error:
            raise self._translated(error, "delete", key) from error

    def presign(self, method: str, key: str, expires: timedelta) -> str:
        """A URL by which whoever has it may `GET` or `PUT` the object until it expires."""
        check_key(key)
        try:
            return obstore.sign(self.store, "PUT" if method == "PUT" else "GET", key, expires)
        except BaseError as error:
            raise self._translated(error, "sign a URL of", key) from error

    def _no_bucket(self, key: str, error: Exception) -> BackendUnavailable:
        """The error of a write that the server answers by 404: it isn't about the key."""
        found = answer(error)
        why = "the S3 bucket isn't there"
        if found is not None and found.is_foreign:
            why = self._access.reason(error)
        elif found is not None and found.code == "NoSuchUpload":
            why = "the upload was ended by somebody else, such as a lifecycle rule"
        self._access.log_failure(why, error, action="write", key=key)
        return BackendUnavailable(f"can't write {key!r}: {why}")

    def _translated(self, error: Exception, action: str, key: str) -> FlightserverError:
        """What a failed request means to a caller. The text of the server goes to the log: it has URLs."""
        if isinstance(error, FileNotFoundError):
            return absent(key)
        if isinstance(error, AlreadyExistsError | PreconditionError):
            return taken(key)
        why = self._access.reason(error)
        self._access.log_failure(why, error, action=action, key=key)
        what = f"{action} {key!r}" if key else f"{action} the objects of the bucket"
        return BackendUnavailable(f"can't {what}: {why}")


def _store(access: S3Access, *, retries: int) -> S3Store:
    location, credentials, timeouts = access.location, access.credentials, access.timeouts
    config: S3Config = {
        "virtual_hosted_style_request": not location.path_style,
        "skip_signature": not credentials.access_key_id,
    }
    if location.requested:
        config["endpoint"] = location.requested
    if location.encryption:
        config["server_side_encryption"] = location.encryption
    if location.kms_key:
        config["sse_kms_key_id"] = location.kms_key
    if credentials.access_key_id:
        config["access_key_id"] = credentials.access_key_id
        config["secret_access_key"] = credentials.secret_access_key
        if credentials.session_token:
            config["session_token"] = credentials.session_token
    with only_variables():
        return S3Store(
            location.bucket,
            prefix=location.prefix or None,
            config=config,
            region=location.region,
            client_options={
                "connect_timeout": timedelta(seconds=timeouts.connect_seconds),
                "timeout": timedelta(seconds=timeouts.request_seconds),
                "allow_http": location.endpoint.startswith("http://"),
            },
            retry_config={
                "max_retries": retries,
                "retry_timeout": timedelta(seconds=timeouts.retry_seconds),
                "backoff": {
                    "init_backoff": timedelta(seconds=_FIRST_BACKOFF_SECONDS),
                    "base": _BACKOFF_BASE,
                    "max_backoff": timedelta(seconds=_MAX_BACKOFF_SECONDS),
                },
            },
        )


def _next(pause: float, *, patiently: bool) -> float:
    """Seconds before the next try. A server that is overloaded is given more time from try to try.

    Where nobody is found to connect to they are drawn as obstore draws them: so a write is given up when a read is.
    """
    longest = _BACKOFF_BASE * pause
    drawn = random.uniform(0.75 * longest if patiently else _FIRST_BACKOFF_SECONDS, longest)  # noqa: S311  # no secret: it spreads requests
    return min(_MAX_BACKOFF_SECONDS, drawn)


def _meta(found: FoundMeta) -> ObjectMeta:
    return ObjectMeta(found["path"], found["size"], _etag(found["e_tag"]), found["last_modified"])


def _etag(tag: str | None) -> str:
    """An etag without its quotes, which some servers leave out in listings."""
    return "" if tag is None else tag.strip('"')


def _given_up(action: str, key: str) -> BackendUnavailable:
    return BackendUnavailable(f"can't {action} {key!r}: the S3 server of this bucket fails again and again")
