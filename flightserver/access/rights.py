"""What somebody may do: roles and grants turned into answers, and what of the catalog exists for them.

Theory of operation: `Rights` are made of a principal and one `AccessState`. What a user may not select doesn't exist
for that user: `visible` gives a snapshot without it, and every name, list and table of metadata comes from that
snapshot. A dataset at an earlier version is judged by what it is called now, because grants and policies follow
renames; so a former name leads nowhere that the name of today doesn't.

Grants and policies go by names, so a state means nothing but in the snapshots that have it: by that of before a
rename, a policy would hide nothing of the dataset under its new name. A call's rights are made when it arrives, and
what it looks at may be newer. Whoever judges a snapshot therefore does it by `rights.at(snapshot.access)`.

Policies narrow what is read. A dataset to which one applies for a user is read-only for that user: its rows can't be
changed by somebody who doesn't see them as they are.

Invariants: rights are immutable, and those of another version of the state are other rights. No snapshot is judged by a
state that is older than its own. Nobody has the rights of more than the roles that the state gives.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from flightserver.access.principal import LOCAL
from flightserver.catalog.entities import PRIMARY, DatasetKey, View
from flightserver.catalog.identities import ADMIN, READER, WRITER, AccessState, Grant, Policy, Privilege
from flightserver.catalog.snapshot import Snapshot
from flightserver.errors import Forbidden

if TYPE_CHECKING:
    from collections.abc import Callable

    from flightserver.access.principal import Principal
    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.entities import Dataset

_EVERYTHING: Final = Grant(tuple(Privilege))
_BUILT_IN: Final = {READER: (Grant((Privilege.SELECT,)),), WRITER: (_EVERYTHING,), ADMIN: (_EVERYTHING,)}
_VIEWS_KEPT = 2
"""The newest snapshot and one more. Each is a map of what one user sees: 1 MB for 10,000 datasets."""
_STATES_KEPT = 2
"""By which there are rights of one principal: that of a call, and a newer one that it meets."""
_RIGHTS_KEPT = 100
"""Of principals; making rights anew takes some 10 us, and filtering the catalog for them anew some ms."""
_LOOK_SECONDS = 0.5
"""A look at a catalog on S3 costs a request, which each call would wait for."""


class Rights:
    """What one principal may do.

    Args:
        principal: Who.
        access: By which state.
        states: Of the same principal by other states; None to begin with these.
    """

    def __init__(self, principal: Principal, access: AccessState, states: _States | None = None) -> None:
        self.principal = principal
        self.access = access
        self._states = _States(self) if states is None else states
        self.is_admin = ADMIN in principal.roles
        self._grants = tuple(grant for role in sorted(principal.roles) for grant in _grants(access, role))
        self._sees_all = any(_covers_all(grant, Privilege.SELECT) for grant in self._grants)
        self._policies = () if self.is_admin else tuple(one for one in access.policies.values() if self._applies(one))
        self._lock = threading.Lock()
        self._visible: OrderedDict[tuple[int, int, int], tuple[Snapshot, Snapshot, Snapshot | None, Snapshot]] = (
            OrderedDict()
        )

    @property
    def user(self) -> str:
        """Name of the principal."""
        return self.principal.name

    def at(self, access: AccessState) -> Rights:
        """What the same principal may do by the state of the snapshot that is judged, with the roles that it has there.

        These themselves when they are of that state already, or of a newer one: what was taken away doesn't come back.
        """
        if access.version <= self.access.version or self.principal is LOCAL:
            return self
        return self._states.of(self.principal, access)

    def may(self, privilege: Privilege, key: DatasetKey) -> bool:
        """Whether a grant allows this on a dataset or view of this name."""
        return any(grant.covers(privilege, key) for grant in self._grants)

    def sees(self, bucket: str, name: str | None) -> bool:
        """Whether a dataset or view of this name exists for the principal; or, of no name, the bucket."""
        if name is not None:
            return self.may(Privilege.SELECT, DatasetKey(bucket, name))
        return bucket == PRIMARY or any(grant.bucket in {"", bucket} for grant in self._grants)

    def may_create(self, bucket: str) -> bool:
        """Whether datasets and views may be made in a bucket."""
        return any(
            Privilege.CREATE in grant.privileges and grant.bucket in {"", bucket} and not grant.dataset
            for grant in self._grants
        )

    def policies(self, key: DatasetKey) -> tuple[Policy, ...]:
        """Policies that apply to a dataset of this name when this principal reads it, in the order of their names."""
        return tuple(sorted((one for one in self._policies if one.is_about(key)), key=lambda one: one.name))

    def policies_on(self, one: Dataset, newest: Snapshot) -> tuple[Policy, ...]:
        """Policies that hide something of a dataset of any version, by its name and column tags in the newest."""
        if (now := self.at(newest.access)) is not self:
            return now.policies_on(one, newest)
        if not self._policies:
            return ()
        key = self.key_now(one, newest) or one.key
        found = newest.datasets.get(key, one)
        return self._hiding(key, found if found.id == one.id else one)

    @property
    def has_policies(self) -> bool:
        """Whether any policy applies to this principal."""
        return bool(self._policies)

    def shows_as(self, other: Rights) -> bool:
        """Whether these are of the same user, and show the same as others."""
        mine, its = ((one.user, one.is_admin, one._grants, one._policies) for one in (self, other))  # noqa: SLF001  # of this class
        return mine == its

    def require_admin(self, what: str) -> None:
        """Return when this is an administrator.

        Raises:
            Forbidden: It isn't.
        """
        if not self.is_admin:
            raise Forbidden(f"{what} needs the role {ADMIN!r}, which user {self.user!r} doesn't have")

    def require_create(self, bucket: str) -> None:
        """Return when datasets may be made in a bucket.

        Raises:
            Forbidden: They may not.
        """
        if not self.may_create(bucket):
            raise Forbidden(
                f"user {self.user!r} may not make tables or views in bucket {bucket!r}: an administrator can GRANT "
                f'CREATE ON BUCKET "{bucket}" TO one of its roles'
            )

    @property
    def writes_anything(self) -> bool:
        """Whether rows may be put anywhere."""
        return any({Privilege.INSERT, Privilege.CREATE} & set(grant.privileges) for grant in self._grants)

    def require_ingest(self, mode: str, key: DatasetKey, one: Dataset | None, *, evolve: bool) -> None:
        """Return when rows may be brought into a dataset.

        Args:
            mode: `create`, `append`, `replace`, `create_append` or `upsert`.
            key: The dataset.
            one: As it is now; None if there is none. Nobody learns of it here who may not insert into it.
            evolve: Whether the rows may bring new columns.

        Raises:
            Forbidden: They may not.
        """
        if mode == "create":
            self.require_create(key.bucket)
            return
        more = {"replace": (Privilege.DELETE,), "upsert": (Privilege.UPDATE,)}.get(mode, ())
        self.require((Privilege.INSERT, *more, *((Privilege.ALTER,) if evolve or mode == "replace" else ())), key, one)
        if one is None and mode != "append":
            self.require_create(key.bucket)

    def require(self, privileges: tuple[Privilege, ...], key: DatasetKey, one: Dataset | None) -> None:
        """Return when all of these are allowed on a dataset or view.

        Args:
            privileges: What is wanted.
            key: What it is called now.
            one: The dataset as it is now; None if there is none of that name yet, or it is a view.

        Raises:
            Forbidden: One isn't, or it would change rows of which policies show this user only a part.
        """
        missing = [one.value.upper() for one in privileges if not self.may(one, key)]
        if missing:
            raise Forbidden(
                f"user {self.user!r} may not {' or '.join(missing)} on {key}: an administrator can GRANT "
                f"{', '.join(missing)} ON {key} TO one of its roles"
            )
        if privileges != (Privilege.SELECT,):
            self.require_unprotected(key, one)

    def require_unprotected(self, key: DatasetKey, one: Dataset | None) -> None:
        """Return when no policy stands between this user and the dataset; arguments as of `require`.

        Raises:
            Forbidden: One does.
        """
        if self._hiding(key, one):
            raise Forbidden(
                f"policies show user {self.user!r} only a part of {key}: it can be queried, but neither changed nor "
                "read past the policies"
            )

    def _hiding(self, key: DatasetKey, one: Dataset | None) -> tuple[Policy, ...]:
        """Policies on a name that hide something; those about tags alone don't where no column has such a tag."""
        tags = set() if one is None else {tag for each in one.column_tags.values() for tag in each}
        return tuple(each for each in self.policies(key) if each.filter or each.masks or not tags.isdisjoint(each.tags))

    def key_now(self, one: Dataset | View, newest: Snapshot) -> DatasetKey | None:
        """What a dataset of any version is called in the newest; None when it was dropped. Views go by their names."""
        found = newest.datasets.get(one.key)
        if isinstance(one, View) or (found is not None and found.id == one.id):
            return one.key
        return next((each.key for each in newest.datasets.values() if each.id == one.id), None)

    def visible(self, snapshot: Snapshot, newest: Snapshot, *, past: Snapshot | None = None) -> Snapshot:
        """A snapshot as this principal sees it.

        Args:
            snapshot: Any version, or that of a transaction.
            newest: The newest version, by which names are judged.
            past: The earlier version that it is, or that the transaction began with: what is there but not in the
                newest was dropped. None for the newest itself.
        """
        if (now := self.at(newest.access)) is not self:
            return now.visible(snapshot, newest, past=past)
        if self._sees_all and (past is None or not self._policies):
            return snapshot
        key = (id(snapshot), id(newest), id(past))
        with self._lock:
            kept = self._visible.get(key)
        if kept is None:
            kept = (snapshot, newest, past, self._filtered(snapshot, newest, past))
            with self._lock:
                self._visible[key] = kept
                while len(self._visible) > _VIEWS_KEPT:
                    self._visible.popitem(last=False)
        return kept[3]

    def _filtered(self, snapshot: Snapshot, newest: Snapshot, past: Snapshot | None) -> Snapshot:
        now = {one.id: key for key, one in newest.datasets.items()}
        datasets = {key: one for key, one in snapshot.datasets.items() if self._sees(key, now.get(one.id), past)}
        views = {key: one for key, one in snapshot.views.items() if self._sees(key, key, past)}
        ids = {one.id for one in datasets.values()}
        indexes = {key: one for key, one in snapshot.indexes.items() if one.dataset_id in ids}
        homes = {PRIMARY, *(key.bucket for key in (*datasets, *views, *indexes))}
        granted = {grant.bucket for grant in self._grants}
        every = "" in granted
        buckets = {name: one for name, one in snapshot.buckets.items() if every or name in homes or name in granted}
        return Snapshot(
            snapshot.version,
            snapshot.time,
            MappingProxyType(buckets),
            MappingProxyType(datasets),
            snapshot.operations,
            MappingProxyType(views),
            snapshot.horizon,
            snapshot.access,
            MappingProxyType(indexes),
        )

    def _sees(self, then: DatasetKey, now: DatasetKey | None, past: Snapshot | None) -> bool:
        """Whether what was called `then` and is called `now` exists; None was dropped, or isn't committed yet."""
        # What was dropped has no name any more by which a policy could find it.
        if now is None and past is not None and then in past.datasets and self._policies:
            return False
        return self.may(Privilege.SELECT, now or then)

    def _applies(self, policy: Policy) -> bool:
        roles = self.principal.roles
        return (not policy.roles or not roles.isdisjoint(policy.roles)) and roles.isdisjoint(policy.exempt)


class _States:
    """Rights of one principal by the states that were met last, so that what is kept with them is kept."""

    def __init__(self, first: Rights) -> None:
        self._lock = threading.Lock()
        self._kept = OrderedDict([(first.access.version, first)])

    def of(self, principal: Principal, access: AccessState) -> Rights:
        with self._lock:
            found = self._kept.get(access.version)
            if found is None:
                found = self._kept[access.version] = Rights(principal.at(access), access, self)
                while len(self._kept) > _STATES_KEPT:
                    self._kept.popitem(last=False)
            return found


def _grants(access: AccessState, role: str) -> tuple[Grant, ...]:
    if role in _BUILT_IN:
        return _BUILT_IN[role]
    found = access.roles.get(role)
    return () if found is None else found.grants


def _covers_all(grant: Grant, privilege: Privilege) -> bool:
    return privilege in grant.privileges and not grant.bucket and not grant.dataset


UNRESTRICTED: Final = Rights(LOCAL, AccessState())
"""For what the server does by itself, and for programs that use a lakehouse without a server."""


class AccessControl:
    """Gives principals their rights by the newest state.

    What this process commits counts at once; what other servers commit, after `_LOOK_SECONDS` at most.

    Args:
        catalog: Holds the state.
        clock: Monotonic seconds.
    """

    def __init__(self, catalog: Catalog, clock: Callable[[], float] = time.monotonic) -> None:
        self._catalog = catalog
        self._clock = clock
        self._looked = clock()
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str, frozenset[str]], Rights] = OrderedDict()

    def state(self) -> AccessState:
        """Users, roles and policies as they are now."""
        now = self._clock()
        if now - self._looked < _LOOK_SECONDS:
            return self._catalog.known.access
        state = self._catalog.snapshot().access
        self._looked = now
        return state

    def rights(self, principal: Principal) -> Rights:
        """What a principal may do now."""
        access = self.state()
        key = (principal.name, principal.method, principal.roles if principal.claimed is None else principal.claimed)
        with self._lock:
            found = self._kept.get(key)
            # Its roles may be those of an older state than this one.
            found = Rights(principal.at(access), access) if found is None else found.at(access)
            self._kept[key] = found
            self._kept.move_to_end(key)
            while len(self._kept) > _RIGHTS_KEPT:
                self._kept.popitem(last=False)
        return found
