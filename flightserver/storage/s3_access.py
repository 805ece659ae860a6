"""How an S3 bucket is reached: where it is, who asks, how long is waited, and whether its server answers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import msgspec

from flightserver.storage.s3_errors import Answer, answer
from flightserver.storage.silence import Silence


class S3Location(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a bucket's objects are. It is a part of the catalog's format, in `S3Place`.

    Attributes:
        bucket: The S3 bucket.
        endpoint: URL of the server; empty for AWS.
        region: Its region.
        prefix: What all keys begin with there, without a slash at its ends; empty for none.
        path_style: Whether the S3 bucket's name stands in the path of URLs rather than in their host.
        encryption: `AES256`, `aws:kms`, `aws:kms:dsse`, or empty for the S3 bucket's default.
        kms_key: Id of the key for `aws:kms`; empty for the default one.
    """

    bucket: str
    endpoint: str = ""
    region: str = "us-east-1"
    prefix: str = ""
    path_style: bool = True
    encryption: str = ""
    kms_key: str = ""

    @property
    def requested(self) -> str:
        """URL that requests go to, empty for AWS: the object stores put the S3 bucket's name into paths only."""
        if self.path_style or not self.endpoint:
            return self.endpoint
        scheme, _, host = self.endpoint.partition("://")
        return f"{scheme}://{self.bucket}.{host}"

    def full_key(self, key: str) -> str:
        """The key in the S3 bucket."""
        return f"{self.prefix}/{key}" if self.prefix else key


@dataclass(frozen=True, slots=True)
class S3Credentials:
    """Who asks; all empty means that requests aren't signed."""

    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str = ""

    def __repr__(self) -> str:
        """Never shows a secret."""
        return f"S3Credentials({self.access_key_id!r})"


@dataclass(frozen=True, slots=True)
class S3Timeouts:
    """How long is waited.

    Attributes:
        connect_seconds: For a connection.
        request_seconds: For one request, its body included.
        retry_seconds: After which a request is not tried again; all tries share it. With 0, none is tried again.
        retries: How often a request is tried again.
    """

    connect_seconds: float = 5.0
    request_seconds: float = 30.0
    retry_seconds: float = 60.0
    retries: int = 10

    @property
    def fitted(self) -> S3Timeouts:
        """The same with tries of which a whole number fits into `retry_seconds`: one that hangs ends with it."""
        request_seconds = self._fitted(self.request_seconds)
        # A request has its connection in its time where the client counts so, and behind it where it doesn't.
        return replace(
            self, connect_seconds=min(self.connect_seconds, request_seconds), request_seconds=request_seconds
        )

    @property
    def tries(self) -> int:
        """How often a server that hangs is asked, when requests are fitted."""
        return min(self.retries + 1, max(1, round(self.retry_seconds / self.request_seconds)))

    @property
    def patience(self) -> float:
        """Seconds that a server that hangs costs a request, when requests are fitted, but for pauses between tries."""
        return self.tries * self.request_seconds

    def _fitted(self, seconds: float) -> float:
        if self.retry_seconds == 0:
            return seconds
        number = math.ceil(self.retry_seconds / seconds)
        return seconds if number > self.retries + 1 else self.retry_seconds / number


@dataclass(frozen=True, slots=True)
class S3Access:
    """All that it takes to reach an S3 bucket, and what is learnt of it on the way."""

    location: S3Location
    credentials: S3Credentials
    timeouts: S3Timeouts
    silence: Silence = field(default_factory=Silence, compare=False, repr=False)

    def reason(self, error: Exception) -> str:
        """Why a request failed, for its message."""
        server = "the S3 server of this bucket"
        found = answer(error)
        if found is None:
            return f"{server} doesn't answer, or fails"
        if found.refuses:
            return f"{server} refuses the credentials"
        what = "by a redirect" if found.redirects else f"{found.status} {found.code}".rstrip()
        return f"{server} answers {what}{self.question(found)}"

    def question(self, found: Answer) -> str:
        """What stands behind an answer in a message: what to look at, where an answer lets suspect that, or nothing."""
        region = f": is the region {self.location.region!r} right?"
        if found.is_about_region:
            return region
        if found.is_bare:
            return region + (" And is the session token still valid?" if self.credentials.session_token else "")
        return ""
