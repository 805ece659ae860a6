"""Identifiers that sort by time of creation: ULIDs.

48 bits of Unix time in milliseconds and 80 random bits, as 26 characters of Crockford's base 32
(https://github.com/ulid/spec). Two of the same millisecond have no order; nothing here needs one.
"""

from __future__ import annotations

import secrets
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CHARACTERS = 26
_RANDOM_BITS = 80


def new_ulid() -> str:
    """Return a ULID that nobody has had before, upper case."""
    value = time.time_ns() // 1_000_000 << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    return "".join(_ALPHABET[value >> shift & 31] for shift in range(5 * (_CHARACTERS - 1), -1, -5))
