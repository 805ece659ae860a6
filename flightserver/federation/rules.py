"""Which lifecycle rules a bucket can have.

A rule may not delete what the catalog names: files of a dataset are as old as their rows, and still needed. For the
same reason such files may change to a cheaper storage class, but not to an archive, where they can't be read at once.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from flightserver.errors import InvalidRequest
from flightserver.federation.prefixes import meets_named
from flightserver.storage.objects import TEMPORARY, check_prefix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flightserver.catalog.entities import LifecycleRule

MOST_RULES = 100
"""S3 has a thousand for a whole S3 bucket, which others may share."""

MOST_DAYS = 36_500

_ARCHIVES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""Classes whose objects have to be restored, for hours, before they can be read."""

_STORAGE_CLASS = re.compile(r"[A-Z][A-Z0-9_-]{0,62}")


def check_rules(rules: Sequence[LifecycleRule], *, local: bool) -> None:
    """Return when a bucket can have the rules.

    Raises:
        InvalidRequest: One could delete or hide what the catalog names, or says nothing, or is malformed; the message
            says which one and why.
    """
    if len(rules) > MOST_RULES:
        raise InvalidRequest(f"{len(rules)} lifecycle rules were given: a bucket has {MOST_RULES} at most")
    prefixes = [rule.prefix for rule in rules]
    for number, rule in enumerate(rules):
        problem = _problem(rule, local=local)
        if problem is None and prefixes.index(rule.prefix) < number:
            problem = "another rule has the same prefix: say all of it in one"
        if problem is not None:
            raise InvalidRequest(f"lifecycle rule {number + 1}, of prefix {rule.prefix!r}: {problem}")


def _problem(rule: LifecycleRule, *, local: bool) -> str | None:
    try:
        check_prefix(rule.prefix)
    except InvalidRequest as error:
        return error.message
    if rule.prefix.startswith(TEMPORARY):
        return "no object has such a key: unfinished writes are kept there"
    periods = (rule.expire_days, rule.abort_upload_days, rule.transition_days)
    named = meets_named(rule.prefix)
    if periods == (None, None, None):
        return "it has none of expire_days, abort_upload_days and transition_days"
    if any(period is not None and not 1 <= period <= MOST_DAYS for period in periods):
        return f"days are 1 to {MOST_DAYS}"
    if rule.expire_days is not None and named is not None:
        return (
            f"it would delete by age what lies below {named!r}, which the catalog needs at any age; bucket.collect "
            "deletes what no version names"
        )
    return _transition_problem(rule, named, local=local)


def _transition_problem(rule: LifecycleRule, named: str | None, *, local: bool) -> str | None:
    if (rule.transition_days is None) != (not rule.storage_class):
        return "transition_days and storage_class go together"
    if rule.transition_days is None:
        return None
    problems = {
        "a local bucket has no storage classes": local,
        f"{rule.storage_class!r} is no storage class, such as 'STANDARD_IA'": (
            not _STORAGE_CLASS.fullmatch(rule.storage_class)
        ),
        f"objects of class {rule.storage_class} can't be read until they are restored, and what lies below {named!r} "
        "is read at any time": rule.storage_class in _ARCHIVES and named is not None,
        "objects would expire before they change their storage class": (
            rule.expire_days is not None and rule.expire_days <= rule.transition_days
        ),
    }
    return next((problem for problem, found in problems.items() if found), None)
