"""Grants as values: what a role's grants are after some are added or taken away.

Theory of operation: a grant has a place (a dataset, a bucket, or everything), and a role has one grant at most for each
place. What a grant of a wider place allows can't be taken away at a narrower one, because nothing says "all but this":
it is refused, rather than seem to work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flightserver.catalog.entities import DatasetKey
from flightserver.catalog.identities import Grant, Privilege
from flightserver.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flightserver.catalog.identities import Role
    from flightserver.catalog.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Place:
    """What a grant or a policy is about: a dataset or view of a bucket, all of a bucket, or everything.

    Attributes:
        bucket: Empty for everything.
        dataset: Empty for all of the bucket.
    """

    bucket: str = ""
    dataset: str = ""

    def __str__(self) -> str:
        if self.dataset:
            return str(DatasetKey(self.bucket, self.dataset))
        return f"all of bucket {self.bucket!r}" if self.bucket else "all buckets"

    def wider(self) -> tuple[Place, ...]:
        """Places that this one is part of."""
        bucket = (Place(self.bucket),) if self.dataset else ()
        return (*bucket, Place()) if self.bucket else ()

    def check(self, snapshot: Snapshot) -> Place:
        """Itself, when it is there.

        Raises:
            InvalidRequest: A dataset without its bucket.
            NotFound: There is no such bucket, dataset or view.
        """
        if self.dataset and not self.bucket:
            raise InvalidRequest(f"dataset {self.dataset!r} is named without its bucket: say which")
        if self.dataset:
            snapshot.relation(self.dataset, self.bucket)
        elif self.bucket:
            snapshot.bucket(self.bucket)
        return self


def shown(privileges: Iterable[Privilege]) -> str:
    """Privileges as SQL has them."""
    return ", ".join(one.value.upper() for one in privileges)


def possible(place: Place) -> tuple[Privilege, ...]:
    """What can be granted there: everything, but CREATE on a dataset."""
    return tuple(one for one in Privilege if one is not Privilege.CREATE or not place.dataset)


def granted(role: Role, privileges: Iterable[Privilege], place: Place) -> tuple[Grant, ...]:
    """The grants of a role with these as well.

    Raises:
        InvalidRequest: No privilege is named, or one that can't be granted there.
    """
    asked = _asked(privileges, place)
    here = _at(role, place) | asked
    others = [grant for grant in role.grants if Place(grant.bucket, grant.dataset) != place]
    return _ordered([*others, _grant(here, place)])


def revoked(role: Role, privileges: Iterable[Privilege], place: Place) -> tuple[Grant, ...]:
    """The grants of a role without these.

    Raises:
        InvalidRequest: No privilege is named, one can't be granted there, or a grant of a wider place has one.
        NotFound: The role has none of them there.
    """
    asked = _asked(privileges, place)
    for wider in place.wider():
        if common := asked & _at(role, wider):
            named = shown(_in_order(common))
            raise InvalidRequest(
                f"role {role.name!r} has {named} on {wider}, of which {place} can't be taken away alone: revoke "
                f"{named} on {wider}, and grant it on what the role keeps"
            )
    here = _at(role, place)
    if not asked & here:
        has = "; ".join(f"{shown(grant.privileges)} on {Place(grant.bucket, grant.dataset)}" for grant in role.grants)
        raise NotFound(
            f"role {role.name!r} doesn't have {shown(_in_order(asked))} on {place}; it has {has or 'no grants'}"
        )
    others = [grant for grant in role.grants if Place(grant.bucket, grant.dataset) != place]
    left = here - asked
    return _ordered([*others, _grant(left, place)] if left else others)


def _asked(privileges: Iterable[Privilege], place: Place) -> frozenset[Privilege]:
    asked = frozenset(privileges)
    if not asked:
        raise InvalidRequest(f"no privilege is named: there are {shown(possible(place))}")
    if not asked.issubset(possible(place)):
        raise InvalidRequest(
            f"CREATE is a privilege on a bucket, where datasets are made, not on the dataset {place}: name the bucket"
        )
    return asked


def _at(role: Role, place: Place) -> frozenset[Privilege]:
    """What the grants of exactly this place allow."""
    return frozenset(
        privilege
        for grant in role.grants
        if Place(grant.bucket, grant.dataset) == place
        for privilege in grant.privileges
    )


def _grant(privileges: frozenset[Privilege], place: Place) -> Grant:
    return Grant(_in_order(privileges), place.bucket, place.dataset)


def _in_order(privileges: Iterable[Privilege]) -> tuple[Privilege, ...]:
    there = set(privileges)
    return tuple(one for one in Privilege if one in there)


def _ordered(grants: list[Grant]) -> tuple[Grant, ...]:
    return tuple(sorted(grants, key=lambda grant: (grant.bucket, grant.dataset)))
