"""How an S3 bucket is reached: where it is, who asks, how long is waited, and whether its server answers.

What a failed request means is put into words here (`S3Access.told`), whichever library made it. The log has the cause
of a failure once in a while: a bucket that is down is asked every few seconds, and says the same each time.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass, field, replace

import msgspec

from flightserver.storage.s3_errors import Answer, Unanswered, cause, failure
from flightserver.storage.silence import Silence

_log = logging.getLogger(__name__)

_SAID_SECONDS = 600.0
"""After which the log says again why requests to a bucket fail, when they still do."""


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


class Complaints:
    """What the log says of one bucket's server: each reason once in a while. Any thread may ask.

    `_lock` guards `_said`: reason -> when the log said it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said: dict[str, float] = {}

    def is_new(self, why: str) -> bool:
        """Whether the log hasn't said this for some time; it does now."""
        now = time.monotonic()
        with self._lock:
            self._said = {each: when for each, when in self._said.items() if now - when < _SAID_SECONDS}
            if why in self._said:
                return False
            self._said[why] = now
        return True


@dataclass(frozen=True, slots=True)
class S3Access:
    """All that it takes to reach an S3 bucket, and what is learnt of it on the way."""

    location: S3Location
    credentials: S3Credentials
    timeouts: S3Timeouts
    silence: Silence = field(default_factory=Silence, compare=False, repr=False)

    complaints: Complaints = field(default_factory=Complaints, compare=False, repr=False)

    def reason(self, error: Exception) -> str:
        """Why a request of obstore failed, for its message."""
        return self.told(failure(error))

    def told(self, found: Answer | Unanswered, server: str = "the S3 server of this bucket") -> str:
        """What an answer means, or that there was none, for the message to a client.

        Args:
            found: What came of the request.
            server: What the message calls the server.
        """
        if isinstance(found, Unanswered):
            return f"{server} doesn't answer{self._silence(found)}"
        if found.is_foreign:
            return f"{server} answers {found.status}, and not as S3 does: is the endpoint that of an S3 server?"
        if found.refuses_credentials:
            return f"{server} refuses the credentials"
        if found.lacks_rights:
            who = "the credentials" if self.credentials.access_key_id else "requests without credentials"
            return f"{who} may not do this: {server} answers {found.said}"
        what = "by a redirect" if found.redirects else found.said
        return f"{server} answers {what}{self.question(found)}"

    def question(self, found: Answer) -> str:
        """What stands behind an answer in a message: what to look at, where an answer lets suspect that, or nothing."""
        region = f": is the region {self.location.region!r} right?"
        if found.is_about_region:
            return region
        if found.is_about_clock:
            return ": is the clock of this machine right?"
        if found.is_bare_refusal:
            return ": it refuses the credentials, or they may not do this"
        if found.is_bare:
            return region + (" And is the session token still valid?" if self.credentials.session_token else "")
        return ""

    def log_failure(self, why: str, error: Exception, **fields: str) -> None:
        """Log a failed request: why, once in a while, and all that is known of it for whoever looks for more.

        Args:
            why: What is told to a client.
            error: That of the library.
            fields: Of the request.
        """
        at = {"endpoint": self.location.endpoint or "AWS", "s3_bucket": self.location.bucket}
        level = logging.WARNING if self.complaints.is_new(why) else logging.DEBUG
        _log.log(level, "an S3 request failed", extra={"cause": cause(error), "why": why, **fields, **at})
        _log.debug("all that is known of a failed S3 request", extra={"error": str(error)})

    def _silence(self, found: Unanswered) -> str:
        timeouts = self.timeouts.fitted
        match found:
            case Unanswered.REFUSED:
                return ": it refuses connections"
            case Unanswered.UNKNOWN_HOST:
                return ": its host name isn't known here"
            case Unanswered.NO_TLS:
                return ": it doesn't speak TLS, or its certificate isn't trusted"
            case Unanswered.NO_CONNECTION:
                return f": it hasn't taken a connection within {round(timeouts.connect_seconds, 2):g} s"
            case Unanswered.LATE:
                return f": it hasn't answered within {round(timeouts.request_seconds, 2):g} s"
            case Unanswered.OTHER:
                return ", or fails"
