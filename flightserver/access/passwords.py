"""Passwords: how they are kept, and how they are checked without a login being able to stop the server.

Theory of operation: a password is kept as its argon2id hash in the PHC format, with the second recommended option of
RFC 9106 section 4: 64 MiB of memory and a quarter of a second of a processor (measured: 240 ms) for each check, which
is what makes a stolen hash expensive to guess. The same cost could be turned against the server, so that at most two
hashes are computed at once in this process; who has waited 10 seconds for its turn is refused. A name that no user has
is checked against a hash that no password has, so that it costs what other names cost.

Clients that send a password with each call would pay that cost each time. A password that was right is therefore
remembered for some minutes, as an HMAC under a key that only this process has; the HMAC is over the stored hash as
well, so that a changed password is never taken for the one before.

Guessing: what is counted are different wrong passwords for one name within a minute, so that a program that repeats an
old password for ever harms nobody.

    - From the fifth on, no hash is computed for the name until the first of the five is a minute old. Passwords that
      are remembered still work, so that whoever uses the server notices nothing.
    - From the sixtieth on, those aren't looked up either, because looking them up is a way of guessing too.

Somebody who guesses has thus some 60 tries a minute at most, of which 5 against a password that isn't in use. Who is
kept out by it gets in again a minute after the guessing ends, and by a token of any kind at any time.

Invariants:
    - No password is kept, logged or in a message; names that were tried are kept as HMACs.
    - What is answered doesn't depend on whether a user has the name.
    - An attempt is judged after it got its turn: of many that come at once, no more are checked than one by one.

Locking: `PasswordCheck._lock` guards `_remembered` and `_wrong`. No hash is computed while it is held.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
import unicodedata
from base64 import b64encode
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from argon2 import PasswordHasher
from argon2.exceptions import HashingError, InvalidHashError, VerificationError, VerifyMismatchError
from argon2.profiles import RFC_9106_LOW_MEMORY

from flightserver.errors import InvalidRequest, Overloaded, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIN_CHARACTERS: Final = 8
"""NIST SP 800-63B section 5.1.1.2."""

MAX_BYTES: Final = 1024
"""Longer than any passphrase, and short enough to be hashed for nothing."""

_AT_ONCE = 2
_WAIT_SECONDS = 10.0

_WINDOW_SECONDS = 60.0
_CHECKED_WRONG = 5
"""Different wrong passwords in a window after which no more are checked."""
_TRIED = 60
"""Different passwords tried in a window after which remembered ones don't count."""

_MAX_REMEMBERED = 10_000
_MAX_NAMES = 10_000
"""A name is forgotten when so many others were checked after it: some 30 a second at best, 1,800 in a window."""

_hasher = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
_turns = threading.BoundedSemaphore(_AT_ONCE)


def _unpadded(data: bytes) -> str:
    return b64encode(data).rstrip(b"=").decode()


NOBODYS_HASH: Final = (
    f"$argon2id$v=19$m={RFC_9106_LOW_MEMORY.memory_cost},t={RFC_9106_LOW_MEMORY.time_cost},"
    f"p={RFC_9106_LOW_MEMORY.parallelism}${_unpadded(secrets.token_bytes(RFC_9106_LOW_MEMORY.salt_len))}"
    f"${_unpadded(secrets.token_bytes(RFC_9106_LOW_MEMORY.hash_len))}"
)
"""Of no password: for names that no user has, and users who have no password."""


@contextmanager
def _turn() -> Iterator[None]:
    """The right to compute one hash.

    Raises:
        Overloaded: Too many others are being computed.
    """
    if not _turns.acquire(timeout=_WAIT_SECONDS):
        raise Overloaded(
            f"The server checks {_AT_ONCE} passwords at a time, and this one waited {_WAIT_SECONDS:.0f} seconds for "
            "its turn. Try again later; bearer and API tokens need no turn."
        )
    try:
        yield
    finally:
        _turns.release()


def _normal(text: str) -> bytes | None:
    """A password as it is hashed, in Unicode's form C as RFC 8265 section 4.2 has it; None if it can't be one."""
    if len(text) > MAX_BYTES:
        return None
    try:
        data = unicodedata.normalize("NFC", text).encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return None
    return data if len(data) <= MAX_BYTES else None


def hash_password(text: str) -> str:
    """Hash a new password, to be kept.

    Args:
        text: The password.

    Returns:
        Its argon2id hash with a new salt, in the PHC format.

    Raises:
        InvalidRequest: It is too short or too long.
        Overloaded: Too many hashes are being computed, or memory is short.
    """
    data = _normal(text)
    if data is None or len(text) < MIN_CHARACTERS:
        raise InvalidRequest(
            f"A password has at least {MIN_CHARACTERS} characters and at most {MAX_BYTES} bytes of UTF-8; this one has "
            f"{len(text)} characters."
        )
    with _turn():
        try:
            return _hasher.hash(data)
        except HashingError:
            raise Overloaded("There is not enough memory to hash a password. Try again later.") from None


def verify(stored: str, text: str) -> bool:
    """Whether a password is the one that was hashed. It takes as long when it isn't.

    Args:
        stored: What `hash_password` returned. What it never returned is the hash of no password.
        text: The password that was given.

    Raises:
        Overloaded: Too many hashes are being computed, or memory is short.
    """
    data = _normal(text)
    if data is None:
        return False
    with _turn():
        return _matches(stored, data)


def _matches(stored: str, data: bytes) -> bool:
    try:
        return _hasher.verify(stored, data)
    except (VerifyMismatchError, InvalidHashError):
        return False
    except VerificationError:
        raise Overloaded("There is not enough memory to check a password. Try again later.") from None


@dataclass(slots=True)
class _Tries:
    """Passwords that were given for one name and not accepted, oldest first: HMAC -> when it was.

    Attributes:
        wrong: Those that were checked.
        unchecked: Those that came while none were checked.
    """

    wrong: dict[bytes, float] = field(default_factory=dict)
    unchecked: dict[bytes, float] = field(default_factory=dict)

    def forget(self, before: float) -> None:
        """Forget what is older."""
        for tries in (self.wrong, self.unchecked):
            while tries and (first := next(iter(tries))) and tries[first] <= before:
                del tries[first]

    @property
    def is_flood(self) -> bool:
        """Whether so many were tried that remembered passwords don't count."""
        return len(self.wrong) + len(self.unchecked) >= _TRIED


class PasswordCheck:
    """Checks passwords of users, remembers those that were right, and slows down who guesses.

    Args:
        remember_seconds: How long a right password is remembered; 0 checks each.
        ticks: Seconds of a clock that is never set.
    """

    def __init__(self, remember_seconds: float, *, ticks: Callable[[], float] = time.monotonic) -> None:
        self._remember_seconds = remember_seconds
        self._ticks = ticks
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._remembered: OrderedDict[bytes, float] = OrderedDict()
        self._wrong: OrderedDict[bytes, _Tries] = OrderedDict()

    def is_right(self, name: str, stored: str, text: str) -> bool:
        """Whether this is the password of a user.

        Args:
            name: The name that was given, of a user or not.
            stored: The user's hash; empty if there is none.
            text: The password that was given.

        Raises:
            Unauthenticated: Too many wrong ones were given for this name; the message says when to try again.
            Overloaded: Too many passwords are being checked.
        """
        data = _normal(text)
        if data is None:
            return False
        stored = stored or NOBODYS_HASH
        given = name.encode(errors="surrogatepass")
        who, attempt = self._mac(given), self._mac(given, stored.encode(), data)
        known = self._known(who, attempt)
        if known is not None:
            return known
        with _turn():
            # Meanwhile the same password may have been found right or wrong for somebody else.
            known = self._known(who, attempt)
            if known is not None:
                return known
            is_right = _matches(stored, data)
            self._note(who, attempt, is_right=is_right)
        return is_right

    def _mac(self, *parts: bytes) -> bytes:
        message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hmac.digest(self._key, message, hashlib.sha256)

    def _known(self, who: bytes, attempt: bytes) -> bool | None:
        """What needs no hash to be answered; None for the rest.

        Raises:
            Unauthenticated: No hash may be computed for this name now.
        """
        now = self._ticks()
        with self._lock:
            tries = self._wrong.get(who)
            if tries is None:
                return self._is_remembered(attempt, now)
            tries.forget(now - _WINDOW_SECONDS)
            if attempt in tries.wrong:
                return False
            if not tries.is_flood and self._is_remembered(attempt, now):
                return True
            if len(tries.wrong) < _CHECKED_WRONG:
                return None
            if not tries.is_flood:
                tries.unchecked.setdefault(attempt, now)
            until = list(tries.wrong.values())[-_CHECKED_WRONG] + _WINDOW_SECONDS
        raise Unauthenticated(
            f"Too many different passwords that were wrong were given for this user name. Try again in "
            f"{max(1, round(until - now))} seconds, or use a bearer or API token, which work meanwhile."
        )

    def _is_remembered(self, attempt: bytes, now: float) -> bool | None:
        """True, or None for what isn't remembered."""
        until = self._remembered.get(attempt)
        if until is None:
            return None
        if until <= now:
            del self._remembered[attempt]
            return None
        return True

    def _note(self, who: bytes, attempt: bytes, *, is_right: bool) -> None:
        now = self._ticks()
        with self._lock:
            if is_right:
                if self._remember_seconds > 0:
                    self._remembered[attempt] = now + self._remember_seconds
                    self._remembered.move_to_end(attempt)
                    _limit(self._remembered, _MAX_REMEMBERED)
                return
            tries = self._wrong.setdefault(who, _Tries())
            self._wrong.move_to_end(who)
            tries.unchecked.pop(attempt, None)
            tries.wrong[attempt] = now
            _limit(self._wrong, _MAX_NAMES)


def _limit(entries: OrderedDict[bytes, float] | OrderedDict[bytes, _Tries], size: int) -> None:
    while len(entries) > size:
        entries.popitem(last=False)
