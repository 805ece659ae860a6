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

import logging
import os
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from flightserver.errors import BackendUnavailable
from flightserver.storage.environment import only_variables
from flightserver.storage.s3_errors import REFUSALS, Answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from types_boto3_s3 import S3Client

    from flightserver.storage.s3_access import S3Access

_log = logging.getLogger(__name__)

_REFUSALS = REFUSALS | {"403"}
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
    return code(error) in _REFUSALS


def translated(error: BotoCoreError | ClientError, action: str, access: S3Access) -> BackendUnavailable:
    """What a failed request means to a caller. The text of the server goes to the log: it has URLs."""
    _log.warning("an S3 request failed", extra={"action": action, "error": str(error)[:2000]})
    if isinstance(error, ClientError):
        if refuses(error):
            return BackendUnavailable(f"can't {action}: the S3 server refuses the credentials")
        asked = access.question(_answer(error))
        return BackendUnavailable(f"can't {action}: the S3 server answers {code(error) or 'an error'}{asked}")
    return BackendUnavailable(f"can't {action}: the S3 server doesn't answer")


def _answer(error: ClientError) -> Answer:
    """What the server answered. Where that has no code, boto3 takes the status for one."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return Answer(status, "" if code(error) == str(status) else code(error))
