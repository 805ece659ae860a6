"""Whatever an administrator changes about who may do what: users (`Accounts`), roles, grants, policies and tags.

Who may call is not asked here. What is about a dataset is given with its bucket; names are resolved by callers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
from msgspec.structs import replace

from flightserver.access.accounts import Accounts
from flightserver.access.committing import check_roles, find_role, once
from flightserver.access.granting import Place, granted, possible, revoked, shown
from flightserver.catalog.identities import ADMIN, BUILT_IN_ROLES, Role, check_identity_name
from flightserver.catalog.identity_updates import DropPolicy, DropRole, PutPolicy, PutRole, TagColumns
from flightserver.catalog.requirements import DatasetUnchangedSchema
from flightserver.errors import AlreadyExists, InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from flightserver.access.committing import Author
    from flightserver.catalog.identities import Policy, Privilege
    from flightserver.catalog.requirements import Requirement
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.catalog.updates import Update


class Administration(Accounts):
    """Changes users, roles, grants, policies and tags.

    Every method makes one commit or, when there is nothing to change, none. All raise CommitConflict when others are
    always faster, and BackendUnavailable when storage fails.
    """

    def create_role(self, by: Author, name: str, *, comment: str = "", exists_ok: bool = False) -> None:
        """Make a role without grants.

        Raises:
            AlreadyExists: The name is taken.
            InvalidRequest: It can't name a role, or is that of a built-in one.
        """
        _refuse_built_in(check_identity_name(name, "role"), "created")

        def plan(snapshot: Snapshot) -> list[Update]:
            if name not in snapshot.access.roles:
                return [PutRole(Role(name, comment=comment))]
            if exists_ok:
                return []
            raise AlreadyExists(f"there is a role {name!r} already: choose another name")

        self.change(by, "create role", name, plan)

    def drop_role(self, by: Author, name: str, *, exists_ok: bool = False) -> None:
        """Forget a role, also of users who have it. Policies that name it stay as they are.

        Raises:
            NotFound: There is none, unless `exists_ok`.
            InvalidRequest: It is built in.
        """
        _refuse_built_in(name, "dropped")

        def plan(snapshot: Snapshot) -> list[Update]:
            if exists_ok and name not in snapshot.access.roles:
                return []
            return [DropRole(find_role(snapshot.access, name).name)]

        self.change(by, "drop role", name, plan)

    def grant(self, by: Author, role: str, privileges: Iterable[Privilege] | None, place: Place) -> None:
        """Allow users of a role more; None for the privileges means all that there are for the place.

        Raises:
            NotFound: There is no such role, bucket, dataset or view.
            InvalidRequest: The role is built in, or a privilege can't be granted there.
        """
        _refuse_built_in(role, "granted anything")
        asked = possible(place) if privileges is None else tuple(privileges)

        def plan(snapshot: Snapshot) -> list[Update]:
            there = find_role(snapshot.access, role)
            grants = granted(there, asked, place.check(snapshot))
            return [] if grants == there.grants else [PutRole(replace(there, grants=grants))]

        self.change(by, "grant", f"{shown(asked)} on {place} to {role}", plan)

    def revoke(self, by: Author, role: str, privileges: Iterable[Privilege] | None, place: Place) -> None:
        """Take back what was granted for exactly this place, which needn't exist any more; None means all of it.

        Raises:
            NotFound: There is no such role, or it has none of these privileges there.
            InvalidRequest: The role is built in, or a grant of a wider place has one of the privileges.
        """
        _refuse_built_in(role, "deprived of anything")
        asked = possible(place) if privileges is None else tuple(privileges)

        def plan(snapshot: Snapshot) -> list[Update]:
            there = find_role(snapshot.access, role)
            return [PutRole(replace(there, grants=revoked(there, asked, place)))]

        self.change(by, "revoke", f"{shown(asked)} on {place} from {role}", plan)

    def create_policy(self, by: Author, policy: Policy, *, replace_it: bool = False) -> None:
        """Make a policy, or put it in the place of the one of its name. Its SQL isn't looked at here.

        Raises:
            AlreadyExists: The name is taken and `replace_it` isn't set.
            NotFound: It is about a bucket, dataset, column or role that doesn't exist.
            InvalidRequest: It says nothing, is about a view, or is to apply to administrators.
        """
        check_identity_name(policy.name, "policy")
        if not (policy.filter or policy.masks or policy.tags):
            raise InvalidRequest(f"policy {policy.name!r} hides nothing: give it a filter, masks or tags")
        if ADMIN in policy.roles:
            raise InvalidRequest(f"policy {policy.name!r} names the role {ADMIN!r}, to which no policy ever applies")

        def plan(snapshot: Snapshot) -> list[Update]:
            if policy.name in snapshot.access.policies and not replace_it:
                raise AlreadyExists(f"there is a policy {policy.name!r} already: choose another name, or replace it")
            check_roles(snapshot.access, (*policy.roles, *policy.exempt))
            place = Place(policy.bucket, policy.dataset).check(snapshot)
            if place.dataset:
                _check_columns(snapshot, place, policy.masks)
            return [PutPolicy(policy)]

        self.change(by, "create policy", policy.name, plan)

    def drop_policy(self, by: Author, name: str) -> None:
        """Forget a policy.

        Raises:
            NotFound: There is none.
        """
        self.change(by, "drop policy", name, lambda _: [DropPolicy(name)])

    def tag_columns(self, by: Author, bucket: str, dataset: str, columns: Mapping[str, Sequence[str]]) -> None:
        """Say which tags columns have; one that is named with none loses those that it had.

        Raises:
            NotFound: There is no such dataset or column.
            InvalidRequest: A tag can't be one, or it is a view.
        """
        tags = {name: once(check_identity_name(tag, "tag") for tag in given) for name, given in columns.items()}
        place = Place(bucket, dataset)

        def plan(snapshot: Snapshot) -> list[Update]:
            _check_columns(snapshot, place, tags)
            return [TagColumns(bucket, dataset, columns=tags)]

        def required(snapshot: Snapshot) -> Requirement:
            found = snapshot.dataset(dataset, bucket)
            return DatasetUnchangedSchema(bucket, dataset, found.id, found.schema_fingerprint)

        self.change(by, "tag columns", str(place), plan, required)


def _refuse_built_in(name: str, verb: str) -> None:
    if name in BUILT_IN_ROLES:
        raise InvalidRequest(f"role {name!r} is built in and can't be {verb}: make a role of your own")


def _check_columns(snapshot: Snapshot, place: Place, columns: Iterable[str]) -> None:
    dataset = snapshot.dataset(place.dataset, place.bucket)
    names = pa.ipc.read_schema(pa.BufferReader(dataset.schema)).names
    for name in columns:
        if name not in names:
            raise NotFound(f"{dataset.key} has no column {name!r}; it has: {', '.join(names)}")
