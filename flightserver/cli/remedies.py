"""What mends a bucket that can't be used: by the cause of what failed there.

An error of a bucket has its cause beside it (`__cause__`): what the operating system said of a directory, or what the
S3 server answered, to `obstore` or to boto3. Who asks, where and for which region is a matter of the settings for
`primary`, and of the catalog for every other bucket, where it can't be changed; so what mends it isn't the same.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from flightserver.catalog.entities import PRIMARY
from flightserver.errors import NotFound
from flightserver.federation.aws import failure as failure_of_boto3
from flightserver.storage import posix
from flightserver.storage.s3_errors import Answer, Unanswered, failure

if TYPE_CHECKING:
    from pathlib import Path

    from flightserver.catalog.entities import Bucket, S3Place
    from flightserver.errors import FlightserverError
    from flightserver.federation.opening import Opener
    from flightserver.federation.probing import Probe

_FULL_CODES = frozenset({"QuotaExceeded", "InsufficientCapacity", "InsufficientStorage", "XMinioStorageFull"})
_INSUFFICIENT_STORAGE = 507
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})


@dataclass(frozen=True, slots=True)
class S3Remedies:
    """What mends a bucket on S3.

    Attributes:
        place: Where it is.
        credentials: Directory of files of credentials.
        of_settings: Whether the settings say where it is, as they do of `primary`; else the catalog does.
    """

    place: S3Place
    credentials: Path
    of_settings: bool = False

    def of(self, error: FlightserverError) -> str:
        """What mends what made a request fail."""
        if isinstance(error, NotFound):
            return self.make()
        found = _failure(error)
        return self._answered(found, error) if isinstance(found, Answer) else self.find()

    def _answered(self, found: Answer, error: FlightserverError) -> str:
        """What mends what the S3 server has answered to."""
        if found.is_about_region or found.is_bare:
            return self._region(error)
        if found.is_about_clock:
            return "set the clock of this machine, as: timedatectl set-ntp true"
        if found.refuses:
            return self.identify() if found.refuses_credentials else self._rights()
        if found.code in _FULL_CODES or found.status == _INSUFFICIENT_STORAGE:
            return "free some space on the S3 server, or raise the quota of these credentials or of the S3 bucket"
        return self._look()

    def _look(self) -> str:
        if self.of_settings:
            return "set primary.region, primary.path_style and primary.endpoint to what the S3 server has"
        return f"look why the S3 server answers so: curl -sS {self._url}, and its log"

    def of_opening(self, _error: FlightserverError) -> str:
        """What mends that a bucket can't be opened: nobody is asked for that, but credentials are looked for."""
        return self.identify()

    def of_loss(self) -> str:
        """What mends that a bucket answers and has nothing."""
        return f"bring back what was in {self.place.bucket!r}, as from a backup or another version of the objects"

    def make(self) -> str:
        """What makes the S3 bucket."""
        where = f" --endpoint-url {self.place.endpoint}" if self.place.endpoint else ""
        made = f"aws s3 mb s3://{self.place.bucket} --region {self.place.region}{where}"
        return made if self.of_settings else f"bring the S3 bucket back with what it held; an empty one: {made}"

    def find(self) -> str:
        """What leads to a server that doesn't answer."""
        if self.of_settings:
            return f"curl -sS {self._url}, or set primary.endpoint to where the S3 server listens"
        return f"start the S3 server, or mend the way to it: curl -sS {self._url}"

    def identify(self) -> str:
        """What gives credentials to who refers to them so."""
        reference = self.place.credentials
        kind, _, name = reference.partition(":")
        if kind == "profile":
            return f"aws configure --profile {name}, as the user that runs the server"
        if kind == "file":
            file = self.credentials / f"{name}.json"
            return f'write {{"access_key_id": ..., "secret_access_key": ...}} into {file}, and: chmod 600 {file}'
        if kind == "anonymous":
            if self.of_settings:
                return "set primary.credentials to where credentials are found: the catalog has to be written"
            return f"let everybody list, read, write and delete objects of the S3 bucket {self.place.bucket!r}"
        prefix = name or "AWS"
        others = "" if name else ", or: aws configure"
        return f"export {prefix}_ACCESS_KEY_ID=... {prefix}_SECRET_ACCESS_KEY=..., where the server is started{others}"

    @property
    def _url(self) -> str:
        return self.place.requested or f"https://s3.{self.place.region}.amazonaws.com"

    def _region(self, error: FlightserverError) -> str:
        right = _right_region(error)
        if self.of_settings:
            return f"set primary.region to {repr(right) if right else 'the region of the S3 bucket'}"
        here = f"the catalog has this bucket in region {self.place.region!r}"
        there = f", and the S3 server has it in {right!r}" if right else ""
        return f"{here}{there}: let the S3 server have the region that was right when the bucket was created"

    def _rights(self) -> str:
        if self.place.credentials == "anonymous":
            return self.identify()
        return (
            f"let these credentials list, read, write and delete objects of the S3 bucket {self.place.bucket!r}: "
            "s3:ListBucket, s3:GetObject, s3:PutObject, s3:DeleteObject"
        )


@dataclass(frozen=True, slots=True)
class LocalRemedies:
    """What mends a bucket in a directory.

    Attributes:
        root: The directory.
    """

    root: Path

    def of(self, error: FlightserverError) -> str:
        """What mends what made a system call fail."""
        if not posix.is_directory(self.root):
            return f"mount the disk of {self.root}, or put that directory back"
        cause = error.__cause__
        number = cause.errno if isinstance(cause, OSError) else None
        if number in _FULL:
            return f"free some space on the disk of {self.root}, or raise the quota of the user that runs the server"
        if number in _FORBIDDEN:
            return f"give {self.root} to the user that runs the server (chown -R), and run doctor as that user"
        if number == errno.EROFS:
            return f"mount the disk of {self.root} for writing; the kernel's log (dmesg) says if an error ended that"
        return self.find()

    def of_opening(self, error: FlightserverError) -> str:
        """What mends that a bucket can't be opened."""
        return self.of(error)

    def of_loss(self) -> str:
        """What mends that a bucket has nothing."""
        return f"mount the disk of {self.root}, or bring back what was there"

    def find(self) -> str:
        """What leads to a disk that doesn't answer."""
        return f"look at the disk of {self.root}: the kernel's log (dmesg) says what it has"


def remedies_of(bucket: Bucket, opener: Opener) -> S3Remedies | LocalRemedies:
    """What mends a bucket."""
    if bucket.s3 is None:
        return LocalRemedies(opener.root(bucket))
    return S3Remedies(bucket.s3, opener.credentials, of_settings=bucket.name == PRIMARY)


def where(bucket: Bucket, opener: Opener) -> str:
    """The place of a bucket, for people."""
    if bucket.s3 is None:
        return str(opener.root(bucket))
    return f"{bucket.s3.bucket!r} at {bucket.s3.endpoint or 'AWS'}"


def able(found: Probe) -> str:
    """What a bucket can do that all could be done with, for people."""
    return f"can be read and written, and answers in {found.latency_ms:,.1f} ms"


def why(error: FlightserverError, bucket: Bucket) -> str:
    """What failed. Who may read the settings and credentials may read what the S3 server says, too."""
    if bucket.s3 is None:
        return error.message
    if isinstance(error, NotFound):
        return f"the S3 server has no bucket {bucket.s3.bucket!r}"
    said = f" ({error.__cause__})" if isinstance(error.__cause__, BotoCoreError | ClientError) else ""
    return f"{error.message}{said}"


def _failure(error: FlightserverError) -> Answer | Unanswered | None:
    """What the S3 server answered to a request that failed, or why it didn't; None if nobody was asked."""
    cause = error.__cause__
    if isinstance(cause, BotoCoreError | ClientError):
        return failure_of_boto3(cause)
    return failure(cause) if isinstance(cause, Exception) else None


def _right_region(error: FlightserverError) -> str:
    """The region that the S3 server says would be right, or nothing."""
    cause = error.__cause__
    if not isinstance(cause, ClientError):
        return ""
    headers = cause.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    said = cause.response.get("Error", {}).get("Region", "")
    return str(said or headers.get("x-amz-bucket-region", ""))
