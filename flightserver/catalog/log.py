"""The commit log: numbered JSON objects, each written once, that together are the catalog.

Theory of operation: commit `n` is the object `_catalog/commits/{n:020d}.json`, and it is written by put-if-absent,
so that of all processes that try the number one wins. Numbers start at 1 and have no holes; a reader goes on until
a number is missing. The log is linear because a commit is only written by who has read the one before.

A store that fails while it writes leaves the question whether the object is there. Each commit carries a random
`id`: who was told of a failure, or that the key is taken, reads the object and compares. If it is there but its
durability was never confirmed, the commit is *in doubt*, and nothing else is committed until the store confirms it.
If it isn't there, and a network may still deliver it, its number is taken by a commit of nothing before anybody is told
that nothing was changed.

Invariant: one thread at a time appends; reading needs no lock.
"""

from __future__ import annotations

import logging
import re
import secrets
from datetime import datetime  # noqa: TC003  # msgspec resolves the annotations when it decodes
from typing import TYPE_CHECKING

import msgspec

from flightserver.catalog.updates import Update
from flightserver.errors import (
    AlreadyExists,
    BackendUnavailable,
    InternalError,
    InvalidRequest,
    LimitExceeded,
    NotFound,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.storage.objects import Objects

_log = logging.getLogger(__name__)

COMMITS = "_catalog/commits/"
"""Prefix of the log in the primary bucket."""

FORMAT = 1
"""Raised when an old release must not read new commits, beyond what unknown updates already say."""

_KEY = re.compile(re.escape(COMMITS) + r"(\d{20})\.json")


class Operation(msgspec.Struct, frozen=True, omit_defaults=True):
    """What somebody did, for the audit trail and so that it happens once.

    Attributes:
        id: A ULID, new for each operation; committing the same id again changes nothing.
        kind: One word or two: `append`, `create table`, `drop bucket`.
        detail: Free text without secrets: a statement, a file name.
        user: Who did it.
        rows: How many rows it affected.
    """

    id: str
    kind: str
    detail: str = ""
    user: str = ""
    rows: int = 0


class Recorded(msgspec.Struct, frozen=True, omit_defaults=True):
    """One transaction in a commit."""

    operation: Operation
    updates: tuple[Update, ...] = ()


class Commit(msgspec.Struct, frozen=True, omit_defaults=True):
    """One object of the log.

    Attributes:
        version: Its number, which is also the version of the catalog after it.
        time: UTC, never before the time of the commit before.
        server: Which server wrote it.
        transactions: In order.
        id: Random, tells the commits of two writers apart.
        format: The format it is written in.
    """

    version: int
    time: datetime
    server: str
    transactions: tuple[Recorded, ...]
    id: str = ""
    format: int = FORMAT


class _Envelope(msgspec.Struct, frozen=True):
    """As much of a commit as any release can read."""

    format: int = FORMAT
    transactions: tuple[_LooseTransaction, ...] = ()


class _LooseTransaction(msgspec.Struct, frozen=True):
    updates: tuple[_LooseUpdate, ...] = ()


class _LooseUpdate(msgspec.Struct, frozen=True):
    type: str = ""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Commit)
_transaction_decoder = msgspec.json.Decoder(Recorded)
_envelope_decoder = msgspec.json.Decoder(_Envelope)
_TYPES = frozenset(str(kind.__struct_config__.tag) for kind in Update.__args__)


def new_commit_id() -> str:
    """A random id that no other commit has."""
    return secrets.token_hex(16)


def commit_key(version: int) -> str:
    """The key of a commit."""
    return f"{COMMITS}{version:020d}.json"


class CommitLog:
    """Reads and appends commits.

    Args:
        objects: The primary bucket.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._doubtful: Commit | None = None

    def has(self, version: int) -> bool:
        """Whether the commit exists."""
        return self._objects.head(commit_key(version)) is not None

    def read(self, version: int) -> Commit | None:
        """Return the commit, or None when there is none of this number.

        Raises:
            InternalError: It can't be understood; the message says which one and why.
        """
        try:
            data = self._objects.get(commit_key(version))
        except NotFound:
            return None
        return decode(version, data)

    def check_reaches(self, version: int) -> None:
        """Return when the log has the commit.

        Raises:
            InternalError: It doesn't.
        """
        if not self.has(version):
            msg = f"commit {version} is missing from the catalog's log, but was there once: restore it"
            raise InternalError(msg)

    def after(self, version: int) -> Iterator[Commit]:
        """Yield the commits behind `version`, by a listing, which unlike reading on finds a hole.

        Raises:
            InternalError: A commit is missing or can't be understood; the message says which one.
        """
        listed = (_KEY.fullmatch(meta.key) for meta in self._objects.list(COMMITS, after=commit_key(version)))
        for found in (int(matched[1]) for matched in listed if matched):
            # A listing may miss a commit that is written while it runs, and show the next one: reading it decides.
            while version < found:
                version += 1
                commit = self.read(version)
                if commit is None:
                    msg = f"commit {version} is missing from the catalog's log, but commit {found} exists: restore it"
                    raise InternalError(msg)
                yield commit

    def append(self, commit: Commit) -> None:
        """Write a commit durably.

        Raises:
            AlreadyExists: Another writer's commit has the number.
            BackendUnavailable: The store failed. Unless the message says otherwise nothing was changed.
            LimitExceeded: The store is full; nothing was changed.
            InternalError: The log has lost the commit before.
        """
        if commit.version > 1 and not self.has(commit.version - 1):
            msg = f"commit {commit.version - 1} has vanished from the catalog's log: is its bucket still mounted?"
            raise InternalError(msg)
        self._doubtful = commit
        try:
            self._objects.put(commit_key(commit.version), _encoder.encode(commit))
        except AlreadyExists:
            if not self._is_ours(commit):
                self._doubtful = None
                raise
        except (BackendUnavailable, LimitExceeded):
            _log.warning("commit in doubt", extra={"version": commit.version}, exc_info=True)
            if not self.confirm():
                raise
        self._doubtful = None

    def confirm(self) -> bool:
        """Find out what became of the commit in doubt, if there is one; False when it isn't in the log.

        Raises:
            AlreadyExists: Another writer's commit has the number.
            BackendUnavailable: The store still doesn't say.
        """
        commit = self._doubtful
        if commit is None:
            return True
        try:
            if not self.has(commit.version) and self._will_never_be(commit):
                self._doubtful = None
                return False
            if not self._is_ours(commit):
                self._doubtful = None
                raise AlreadyExists(commit_key(commit.version))
            self._make_durable(commit)
        except (BackendUnavailable, LimitExceeded) as error:
            msg = (
                f"storage failed while commit {commit.version} was written, and doesn't confirm yet that it will last: "
                f"ask again with the same operation id ({error})"
            )
            raise BackendUnavailable(msg) from error
        self._doubtful = None
        return True

    def _will_never_be(self, commit: Commit) -> bool:
        """Whether a commit that isn't there can't come any more.

        Where a network may deliver a write late its number is taken, by a commit of nothing. The first commit isn't
        kept away so: it is the same whoever writes it, and a catalog can't begin with nothing.
        """
        if not self._objects.may_write_late or commit.version == 1:
            return True
        nothing = Commit(commit.version, commit.time, commit.server, (), new_commit_id())
        try:
            self._objects.put(commit_key(commit.version), _encoder.encode(nothing))
        except AlreadyExists:
            return False
        return True

    def _make_durable(self, commit: Commit) -> None:
        """Put it once more: the answer that it exists is given of durable objects only."""
        try:
            self._objects.put(commit_key(commit.version), _encoder.encode(commit))
        except AlreadyExists:
            return

    def _is_ours(self, commit: Commit) -> bool:
        found = self.read(commit.version)
        return found is not None and found.id == commit.id


def readable(transaction: Recorded) -> Recorded:
    """Return a transaction as it will be read from the log, so that no commit is ever written that can't be read.

    Raises:
        InvalidRequest: A value can't be written, or not be read again; the message says which.
    """
    try:
        return _transaction_decoder.decode(_encoder.encode(transaction))
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        msg = f"operation {transaction.operation.id!r} can't be written to the catalog's log: {error}"
        raise InvalidRequest(msg) from error


def decode(version: int, data: bytes) -> Commit:
    """Read the bytes of a commit.

    Raises:
        InternalError: They aren't the commit of this number in a format that this release knows.
    """
    try:
        commit = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        _refuse_newer(version, data)
        msg = f"commit {version} of the catalog can't be read and must be restored: {error}"
        raise InternalError(msg) from error
    if commit.format > FORMAT:
        _refuse_newer(version, data)
    if commit.version != version:
        msg = f"the object of commit {version} holds commit {commit.version}: the catalog's log was tampered with"
        raise InternalError(msg)
    return commit


def _refuse_newer(version: int, data: bytes) -> None:
    """Raise when a newer release wrote the commit."""
    try:
        envelope = _envelope_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    types = {update.type for transaction in envelope.transactions for update in transaction.updates}
    unknown = ", ".join(sorted(types - _TYPES))
    if envelope.format > FORMAT or unknown:
        what = f"updates that this release doesn't know ({unknown})" if unknown else f"format {envelope.format}"
        msg = f"a newer version of flightserver wrote commit {version} of the catalog, with {what}: upgrade this server"
        raise InternalError(msg)
