"""What `obstore` can't do on an S3 server: buckets themselves, lifecycle configurations, uploads that weren't finished.

Theory of operation: a client is made for each use, from the same `S3Access` as the bucket's objects, of a session of
its own: nothing is shared between threads, and nothing but the access decides who asks whom. The timeouts are those of
the bucket, so that a server that doesn't answer costs no more here than elsewhere: boto3 can't be told for how long to
repeat a request, only how often, so that is how many tries fit into `retry_seconds`.

A client is told everything: `AWS_...` variables (`flightserver.storage.environment`) and the files of AWS's own tools
change nothing of whom it asks and how, and are hidden while it is made. Only `AWS_CA_BUNDLE` stays, which says whom to
trust. Credentials that are found there are a part of the access already. Nor does it follow a server to another region
than the bucket's, as boto3 would by itself: objects couldn't be read there, so that it is an error here too.

Invariant: `translated` is the only place where errors of boto3 become errors of ours. What the server says goes to the
log, since it may hold URLs and names of accounts.
"""

from __future__ import annotations

import os
import socket
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, ReadTimeoutError, SSLError

from flightserver.errors import BackendUnavailable
from flightserver.storage.environment import only_variables
from flightserver.storage.s3_errors import Answer, Unanswered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from types_boto3_s3 import S3Client

    from flightserver.storage.s3_access import S3Access

_NO_CONFIGURATION = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",  # without credentials it would look for those of this machine
}
_MOST_ATTEMPTS = 3
"""A boto3 request is part of an action that somebody waits for: it is repeated less often than those of objects."""


def client(access: S3Access) -> S3Client:
    """A boto3 client that reaches the server as the bucket's objects do. Nothing is sent yet; close it after use."""
    location, credentials, timeouts = access.location, access.credentials, access.timeouts.fitted
    config = Config(
        connect_timeout=timeouts.connect_seconds,
        read_timeout=timeouts.request_seconds,
        retries={"total_max_attempts": min(timeouts.tries, _MOST_ATTEMPTS), "mode": "standard"},
        s3={"addressing_style": "path" if location.path_style else "virtual"},
    )
    if not credentials.access_key_id:
        config = config.merge(Config(signature_version=UNSIGNED))
    with only_variables(_NO_CONFIGURATION, keep=("AWS_CA_BUNDLE",)):
        made = boto3.session.Session().client(
            "s3",
            region_name=location.region,
            endpoint_url=location.endpoint or None,
            aws_access_key_id=credentials.access_key_id or None,
            aws_secret_access_key=credentials.secret_access_key or None,
            aws_session_token=credentials.session_token or None,
            config=config,
        )
    made.meta.events.register_last("before-parameter-build.s3", _ask_nobody_else)
    return made


def _ask_nobody_else(context: dict[str, Any], **_: object) -> None:
    """Let a request count as one that was sent to another region already, which boto3 doesn't do twice."""
    context.setdefault("s3_redirect", {})["redirected"] = True


@contextmanager
def asking(access: S3Access, action: str) -> Iterator[S3Client]:
    """A client for a block, whose errors become ours.

    Args:
        access: Whom to ask.
        action: What is asked, for the message: `can't <action>: ...`.

    Raises:
        BackendUnavailable: The server doesn't answer, fails, or refuses; the cause is the error of boto3.
    """
    try:
        with closing(client(access)) as s3:
            yield s3
    except (BotoCoreError, ClientError) as error:
        raise translated(error, action, access) from error


def code(error: ClientError) -> str:
    """What the server calls the error: `NoSuchBucket`, `NotImplemented`, ..."""
    return error.response.get("Error", {}).get("Code", "")


def refuses(error: ClientError) -> bool:
    """Whether the server doesn't take the credentials, or not for this."""
    return _answer(error).refuses


def translated(error: BotoCoreError | ClientError, action: str, access: S3Access) -> BackendUnavailable:
    """What a failed request means to a caller. The text of the server goes to the log: it has URLs."""
    why = access.told(failure(error), "the S3 server")
    access.log_failure(why, error, action=action)
    return BackendUnavailable(f"can't {action}: {why}")


def failure(error: BotoCoreError | ClientError) -> Answer | Unanswered:
    """What the server answered to a request that failed, or why it didn't."""
    if isinstance(error, ClientError):
        return _answer(error)
    if isinstance(error, SSLError):
        return Unanswered.NO_TLS
    if isinstance(error, ConnectTimeoutError):
        return Unanswered.NO_CONNECTION
    if isinstance(error, ReadTimeoutError):
        return Unanswered.LATE
    inner = error.kwargs.get("error")  # what urllib3 raised, because of an error of the operating system
    from_system = inner.__cause__ if isinstance(inner, Exception) else None
    if isinstance(from_system, socket.gaierror):
        return Unanswered.UNKNOWN_HOST
    return Unanswered.REFUSED if isinstance(from_system, ConnectionRefusedError) else Unanswered.OTHER


def _answer(error: ClientError) -> Answer:
    """What the server answered. Where that has no code, boto3 takes the status for one."""
    metadata = error.response.get("ResponseMetadata", {})
    status = metadata.get("HTTPStatusCode", 0)
    if code(error) not in {"", str(status)}:
        return Answer(status, code(error))
    length = metadata.get("HTTPHeaders", {}).get("content-length", "0")
    return Answer(status, is_foreign=length != "0" and not error.operation_name.startswith("Head"))
