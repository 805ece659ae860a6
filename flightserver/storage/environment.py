"""The `AWS_...` variables of this process, which every client of S3 reads when it is made.

Theory of operation: a bucket is reached by three libraries, one for objects, one in the engine, one for S3 buckets
themselves. Each takes what it isn't told from `AWS_...` variables, and each takes others: one of them goes to
`AWS_ENDPOINT_URL_S3` even when it is told an endpoint, and sends the token of `AWS_SESSION_TOKEN` along with keys of
somebody else. Were they not shielded, a write could go to one server and its read to another. So clients are made
inside `only_variables`, and what belongs to a bucket is said in `S3Access` alone. Credentials are the exception, where
a bucket's reference says that they are in these variables (`flightserver.storage.credentials`); they are looked up
before, under the same lock.

Invariants: variables are changed under `environment_lock` only, and put back before it is let go. Where there is
nothing to hide and nothing to say, none is touched, since native code may read the environment at any moment.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

_PREFIX = "AWS_"

environment_lock = threading.Lock()
"""Held by who reads `AWS_...` variables, and by who changes them for a moment."""


@contextmanager
def only_variables(variables: Mapping[str, str] | None = None, *, keep: Collection[str] = ()) -> Iterator[None]:
    """These `AWS_...` variables and no others, for a block in which a client is made.

    Args:
        variables: Name -> value; none if left out.
        keep: Names of those that stay as they are.
    """
    with environment_lock:
        hidden = {name: value for name, value in os.environ.items() if name.startswith(_PREFIX) and name not in keep}
        said = variables or {}
        try:
            for name in hidden:
                del os.environ[name]
            os.environ.update(said)
            yield
        finally:
            # An interruption of the thread may arrive in the middle of it, and of one of the two at most.
            try:
                _put_back(said, hidden)
            finally:
                _put_back(said, hidden)


def _put_back(said: Iterable[str], hidden: Mapping[str, str]) -> None:
    for name in said:
        os.environ.pop(name, None)
    os.environ.update(hidden)
