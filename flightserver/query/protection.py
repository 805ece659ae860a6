"""Policies in queries: the query that stands in the place of a dataset for somebody to whom policies apply.

Theory of operation: a dataset to which policies apply is planned like a view over `__protected`, which names its rows
as they are: rows for which a filter isn't true are left out, and masks stand in the place of columns. It happens where
names become tables (`providers.py`), so that no statement, view or time travel goes around it. What policies themselves
read (a predicate may have subqueries) is read with the rights of the server.

Nothing of a statement must be computed for rows that a filter hides: an error that only a hidden row causes would tell
of it, and quote its values. The engine merges filters and moves them downwards, but never past a limit; so there is
one, higher than any number of rows. It costs that statistics of files don't help the statement's own predicates. And it
moves projections below a filter, into the scan, when each column of the filter is also one of the projection's, as it
is (datafusion 54, `FilterExec::try_swapping_with_projection`). So columns that a filter reads, and masks, are shown as
the result of a function that the engine must not see through, because it is volatile.

What fails here fails closed: a mask of a column that isn't there, a predicate that can't be planned, or an earlier
version with other columns than now can't be read at all by those to whom the policy applies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flightserver.catalog.quoting import delimited
from flightserver.errors import Forbidden, InvalidRequest
from flightserver.query.language.tokens import LITERALS, tokenize
from flightserver.tables.schema import decode, visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flightserver.access.rights import Rights
    from flightserver.catalog.entities import Dataset
    from flightserver.catalog.identities import Policy
    from flightserver.catalog.snapshot import Snapshot

PROTECTED = "__protected"
"""Bare name of a dataset's rows as they are, in the query that stands in its place; no client's statement has it."""

_NO_LIMIT = 2**63 - 1
_OPAQUE = "CASE WHEN random() >= 0 THEN {} END"
"""What it stands around, always; but the engine takes nothing for granted of a random number."""
_EXPLAINED = ("Explain", "Analyze")
_QUOTES = frozenset("\"`'")


@dataclass(frozen=True, slots=True)
class Protection:
    """What stands in the place of a dataset.

    Attributes:
        sql: A query over `__protected` that answers all columns of the dataset.
        policies: Names of the policies in it.
        masked: Columns that show something else than they hold.
        hides_rows: Whether rows may be left out.
        looks_around: Whether what is shown of a row may depend on the other rows, as by a window function: then it must
            be computed over all of them, whichever are wanted.
    """

    sql: str
    policies: tuple[str, ...]
    masked: frozenset[str] = frozenset()
    hides_rows: bool = False
    looks_around: bool = False


def protection(
    dataset: Dataset, rights: Rights, newest: Snapshot | None, *, passed: Sequence[str] = ()
) -> Protection | None:
    """What stands in the place of a dataset for these rights; None when it is read as it is.

    Args:
        dataset: At any version.
        rights: Of who reads it.
        newest: The newest snapshot, by which names and tags are judged; None for the server's own work.
        passed: Columns of `__protected` that no client has, and that the query answers too.

    Raises:
        Forbidden: Policies apply that can't be applied to this version.
    """
    if newest is None or not rights.has_policies:
        return None
    applied = rights.policies_on(dataset, newest)
    if not applied:
        return None
    key = rights.key_now(dataset, newest) or dataset.key
    now = newest.datasets.get(key, dataset)
    tags = now.column_tags if now.id == dataset.id else dataset.column_tags
    if now.id == dataset.id and now.schema_fingerprint != dataset.schema_fingerprint and not _is_newer(dataset, newest):
        raise Forbidden(
            f"policies apply to {key} for user {rights.user!r}, and the columns of this earlier version are others "
            "than those of now: only the newest can be read"
        )
    names = visible(decode(dataset.schema)).names
    masks = _masks(names, applied, tags, rights.user)
    return Protection(
        _query([*names, *passed], applied, masks, rights.user),
        tuple(one.name for one in applied),
        frozenset(masks),
        any(one.filter for one in applied),
        any(_looks_around(text) for text in (*masks.values(), *(one.filter for one in applied))),
    )


def check_explained(plan: str) -> None:
    """Return unless a plan is that of an EXPLAIN about a dataset to which policies apply.

    What the engine tells of a plan has numbers of rows and least and greatest values of what policies hide, and the
    policies themselves.

    Args:
        plan: As the engine shows it.

    Raises:
        Forbidden: It is.
    """
    if plan.startswith(_EXPLAINED) and f"SubqueryAlias: {PROTECTED}\n" in plan:
        raise Forbidden("EXPLAIN is not available for tables of which policies show you only a part: run the query")


def check_policy(policy: Policy) -> None:
    """Return when the texts of a policy are one expression each.

    Raises:
        InvalidRequest: One isn't; says which.
    """
    texts = {"filter": policy.filter} if policy.filter else {}
    texts |= {f"the mask of {name}": text for name, text in policy.masks.items()}
    texts |= {f"the mask of tag {name}": text for name, text in policy.tags.items()}
    for what, text in texts.items():
        depth = 0
        for token in tokenize(text):
            shown = token.text if token.token_type not in LITERALS else ""
            depth += {"(": 1, ")": -1}.get(shown, 0)
            if depth < 0 or (shown in {";", ","} and depth == 0):
                raise InvalidRequest(f"{what} of policy {policy.name!r} must be one SQL expression")
        if depth or not text.strip():
            raise InvalidRequest(f"{what} of policy {policy.name!r} must be one SQL expression: a bracket is left open")


def applied_to(dataset: Dataset, policy: Policy) -> str:
    """The query that stands in the place of a dataset when only this policy applies, for a user of some name.

    Raises:
        Forbidden: It masks a column that the dataset doesn't have.
    """
    names, user = visible(decode(dataset.schema)).names, "somebody"
    return _query(names, [policy], _masks(names, [policy], dataset.column_tags, user), user)


def _is_newer(dataset: Dataset, newest: Snapshot) -> bool:
    """Whether this is a version of a transaction that isn't committed."""
    return dataset.version > newest.version


def _masks(
    names: Sequence[str], policies: Sequence[Policy], tags: Mapping[str, Sequence[str]], user: str
) -> dict[str, str]:
    """Column -> the expression that is shown in its place.

    Raises:
        Forbidden: A policy masks a column that isn't among the names.
    """
    masks: dict[str, str] = {}
    for policy in policies:
        absent = sorted(policy.masks.keys() - set(names))
        if absent:
            raise Forbidden(
                f"policy {policy.name!r} masks column {absent[0]!r}, which this version doesn't have: an administrator "
                "must change the policy before it can be read"
            )
        for name in names:
            text = policy.masks.get(name)
            if text is None:
                text = next((policy.tags[tag] for tag in tags.get(name, ()) if tag in policy.tags), None)
                text = None if text is None else _replaced(text, {"value": delimited(name)})
            if text is not None:
                masks.setdefault(name, _bound(text, user))
    return masks


def _query(names: Sequence[str], policies: Sequence[Policy], masks: Mapping[str, str], user: str) -> str:
    filters = " AND ".join(f"({_bound(policy.filter, user)})" for policy in policies if policy.filter)
    shown = {one: f"({masks[one]})" if one in masks else delimited(one) for one in names}
    if filters:
        opaque = {*masks, *_named(filters, names)}
        shown = {one: _OPAQUE.format(text) if one in opaque else text for one, text in shown.items()}
    columns = ", ".join(f"{text} AS {delimited(one)}" for one, text in shown.items())
    if not filters:
        return f"SELECT {columns} FROM {PROTECTED}"  # noqa: S608  # names are quoted, masks are an administrator's
    rows = f"SELECT * FROM {PROTECTED} WHERE {filters} LIMIT {_NO_LIMIT}"  # noqa: S608  # filters are an administrator's
    return f"SELECT {columns} FROM ({rows}) AS {PROTECTED}"  # noqa: S608  # as above


def _looks_around(text: str) -> bool:
    """Whether an expression may read other rows of what is protected; rather too often than not often enough."""
    return any(token.text.lower() in {"over", PROTECTED} for token in tokenize(text))


def _named(text: str, names: Sequence[str]) -> list[str]:
    """The columns whose names occur in a SQL text in any spelling; more than it reads, perhaps."""
    words = {text[token.start : token.end + 1].strip('"`').replace('""', '"').lower() for token in tokenize(text)}
    return [name for name in names if name.lower() in words]


def _bound(text: str, user: str) -> str:
    return _replaced(text, {"current_user": "'" + user.replace("'", "''") + "'"})


def _replaced(text: str, words: Mapping[str, str]) -> str:
    """A SQL text with other text in the place of unquoted words."""
    parts = []
    position = 0
    for token in tokenize(text):
        written = text[token.start : token.end + 1]
        replacement = words.get(written.lower())
        if replacement is not None and token.token_type not in LITERALS and written[0] not in _QUOTES:
            parts += [text[position : token.start], replacement]
            position = token.end + 1
    return "".join([*parts, text[position:]])
