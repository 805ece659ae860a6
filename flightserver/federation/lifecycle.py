"""Lifecycle rules of a bucket: stored in the catalog, and applied by the S3 server where that can.

Theory of operation: the catalog has the rules. An S3 server gets them as lifecycle configuration of the S3 bucket,
below the bucket's prefix there, beside those of others. Ours are known by their ids,
`flightserver-<bucket>-<hash of the prefix>-<number>`, so that several lakehouses and others can share an S3 bucket.
Where the server has no such configuration, or somebody took ours out of it, `flightserver.federation.expiring` deletes
what has expired. Who does it is therefore asked whenever it matters, and never stored.

A configuration is read, changed and written as a whole, since S3 has nothing finer: two changes of one S3
bucket's configuration at the same moment may lose one, which then is honoured by the server and can be set again.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import ClientError
from msgspec.structs import replace

from flightserver.catalog.missing import no_bucket
from flightserver.catalog.requirements import BucketUnchanged
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.updates import PutBucket
from flightserver.errors import BackendUnavailable, CommitConflict, InvalidRequest
from flightserver.federation.aws import asking, code
from flightserver.federation.opening import reachable
from flightserver.federation.rules import check_rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from types_boto3_s3 import S3Client

    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.entities import Bucket, LifecycleRule
    from flightserver.catalog.log import Operation
    from flightserver.storage.buckets import OpenBucket
    from flightserver.storage.s3_access import S3Access

AppliedBy = Literal["s3", "server"]

_NOT_IMPLEMENTED = frozenset({"NotImplemented", "MethodNotAllowed"})
_ABSENT = "NoSuchLifecycleConfiguration"
_ATTEMPTS = 5
"""Others may change the bucket's description meanwhile, which is rare."""

_Rules = list[dict[str, Any]]
"""Rules as boto3 has them; those of others pass through as they are."""


def set_rules(catalog: Catalog, bucket: OpenBucket, rules: Sequence[LifecycleRule], operation: Operation) -> AppliedBy:
    """Give a bucket these rules in the place of those it has.

    Returns:
        Who applies them.

    Raises:
        InvalidRequest: They can't be had, see `check_rules`, or need what the S3 server lacks.
        BackendUnavailable: The S3 server doesn't answer or refuses; the rules are as before.
        CommitConflict: Others change the bucket all the time.
    """
    check_rules(rules, local=bucket.s3 is None)
    for attempt in range(_ATTEMPTS):
        before = described(catalog, bucket.name)
        applied_by = _apply(bucket, before, rules)
        transaction = Transaction(
            operation, (PutBucket(replace(before, lifecycle=tuple(rules))),), (BucketUnchanged(before),)
        )
        try:
            catalog.commit(transaction)
        except CommitConflict:
            if attempt + 1 == _ATTEMPTS:
                raise
        else:
            break
    return applied_by


def described(catalog: Catalog, name: str) -> Bucket:
    """What the catalog says of a bucket.

    Raises:
        NotFound: It has none of the name.
    """
    there = catalog.snapshot().buckets
    if name not in there:
        raise no_bucket(name, there)
    return there[name]


def applied_by(bucket: OpenBucket, described: Bucket) -> AppliedBy:
    """Who applies the rules of a bucket.

    Raises:
        BackendUnavailable: The S3 server doesn't answer.
    """
    access = _reached(bucket).s3
    if access is None or not described.lifecycle:
        return "server"
    with asking(access, f"read the lifecycle rules of bucket {bucket.name!r}") as s3:
        found = _read(s3, access)
    if found is None:
        return "server"
    ours = [_comparable(each) for each in found if _is_ours(each, described, access)]
    wanted = [_comparable(each) for each in _as_s3(described, described.lifecycle, access)]
    return "s3" if sorted(ours) == sorted(wanted) else "server"


def withdraw(bucket: OpenBucket, described: Bucket) -> None:
    """Take the rules of a bucket out of the configuration of its S3 bucket; it is going to be dropped or renamed.

    Raises:
        BackendUnavailable: The S3 server doesn't answer or refuses.
    """
    _apply(bucket, described, ())


def _apply(bucket: OpenBucket, described: Bucket, rules: Sequence[LifecycleRule]) -> AppliedBy:
    access = _reached(bucket).s3
    if access is None:
        return "server"
    with asking(access, f"set the lifecycle rules of bucket {bucket.name!r}") as s3:
        found = _read(s3, access)
        if found is None:
            return _left_to_us(bucket, rules)
        others = [each for each in found if not _is_ours(each, described, access)]
        wanted: Any = others + _as_s3(described, rules, access)
        if found and not wanted:
            s3.delete_bucket_lifecycle(Bucket=access.location.bucket)
        elif wanted != found:
            s3.put_bucket_lifecycle_configuration(
                Bucket=access.location.bucket, LifecycleConfiguration={"Rules": wanted}
            )
    return "s3"


def _left_to_us(bucket: OpenBucket, rules: Sequence[LifecycleRule]) -> AppliedBy:
    if any(rule.transition_days is not None for rule in rules):
        msg = (
            f"the S3 server of bucket {bucket.name!r} has no lifecycle configuration, and nothing else can change the "
            "storage class of objects: leave transition_days out"
        )
        raise InvalidRequest(msg)
    return "server"


def _reached(bucket: OpenBucket) -> OpenBucket:
    reason = reachable(bucket.objects)
    if reason is not None:
        raise BackendUnavailable(f"bucket {bucket.name!r} can't be reached: {reason}")
    return bucket


def _read(s3: S3Client, access: S3Access) -> _Rules | None:
    """The rules of an S3 bucket; None when the server has no such thing."""
    try:
        answer: Any = s3.get_bucket_lifecycle_configuration(Bucket=access.location.bucket)
    except ClientError as error:
        if code(error) == _ABSENT:
            return []
        if code(error) in _NOT_IMPLEMENTED:
            return None
        raise
    return list(answer.get("Rules", ()))


def _id_start(name: str, access: S3Access) -> str:
    return f"flightserver-{name}-{hashlib.sha256(access.location.prefix.encode()).hexdigest()[:8]}-"


def _is_ours(rule: dict[str, Any], described: Bucket, access: S3Access) -> bool:
    """Whether a rule of the S3 bucket was made for the bucket, under any name that it has had."""
    names = (described.name, *described.former)
    return any(re.fullmatch(re.escape(_id_start(name, access)) + r"\d+", rule.get("ID", "")) for name in names)


def _as_s3(described: Bucket, rules: Sequence[LifecycleRule], access: S3Access) -> _Rules:
    start = _id_start(described.name, access)
    return [_rule_as_s3(f"{start}{number}", rule, access) for number, rule in enumerate(rules)]


def _rule_as_s3(rule_id: str, rule: LifecycleRule, access: S3Access) -> dict[str, Any]:
    made: dict[str, Any] = {
        "ID": rule_id,
        "Filter": {"Prefix": access.location.full_key(rule.prefix)},
        "Status": "Enabled",
    }
    if rule.expire_days is not None:
        made["Expiration"] = {"Days": rule.expire_days}
    if rule.abort_upload_days is not None:
        made["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": rule.abort_upload_days}
    if rule.transition_days is not None:
        made["Transitions"] = [{"Days": rule.transition_days, "StorageClass": rule.storage_class}]
    return made


def _comparable(rule: dict[str, Any]) -> tuple[str, ...]:
    """What a rule does; servers answer it with more or fewer words."""
    prefix = rule.get("Filter", {}).get("Prefix", rule.get("Prefix", ""))
    transitions = [(each.get("Days"), each.get("StorageClass")) for each in rule.get("Transitions", ())]
    return (
        str(prefix),
        str(rule.get("Status")),
        str(rule.get("Expiration", {}).get("Days")),
        str(rule.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation")),
        str(transitions),
    )
