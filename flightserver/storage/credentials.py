"""Who asks an S3 server: found by a reference, so that the catalog never holds a secret.

| reference | found in |
|---|---|
| `environment` | where AWS's own tools look: `AWS_ACCESS_KEY_ID`, ..., the default profile, the role of the machine |
| `environment:NAME` | `NAME_ACCESS_KEY_ID`, `NAME_SECRET_ACCESS_KEY` and, if set, `NAME_SESSION_TOKEN` |
| `profile:NAME` | a profile of the AWS configuration of the server's user |
| `file:NAME` | `NAME.json` in the server's directory of credentials, of mode 0600, with the fields of `S3Credentials` |
| `anonymous` | nowhere: requests aren't signed |
"""

from __future__ import annotations

import logging
import os
import re
import stat
from typing import TYPE_CHECKING

import boto3
import msgspec
from botocore.exceptions import BotoCoreError, ProfileNotFound

from flightserver.errors import BackendUnavailable, InvalidRequest
from flightserver.storage.environment import environment_lock
from flightserver.storage.s3_access import S3Credentials

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)

_REFERENCE = re.compile(r"anonymous|environment(:[A-Z][A-Z0-9_]{0,62})?|(profile|file):[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    access_key_id: str
    secret_access_key: str
    session_token: str = ""


_file_decoder = msgspec.json.Decoder(_File)


def check_reference(reference: str, called: str = "`credentials`") -> str:
    """Return `reference` when it names credentials.

    Args:
        reference: See above.
        called: What it is called where it was given, for the message.

    Raises:
        InvalidRequest: It has none of the forms; it isn't repeated, since somebody may have given the secret itself.
    """
    if not _REFERENCE.fullmatch(reference):
        msg = (
            f"{called} says where credentials are found, not what they are: expected 'environment', "
            "'environment:NAME', 'profile:NAME', 'file:NAME' or 'anonymous'"
        )
        raise InvalidRequest(msg)
    return reference


def find_credentials(reference: str, directory: Path) -> S3Credentials:
    """The credentials that a reference names.

    Args:
        reference: See above.
        directory: Where files of credentials lie.

    Raises:
        InvalidRequest: It is no reference.
        BackendUnavailable: They aren't there; the message says what is missing, and no secret.
    """
    kind, _, name = check_reference(reference).partition(":")
    if kind == "anonymous":
        return S3Credentials()
    with environment_lock:
        return _find(reference, kind, name, directory)


def _find(reference: str, kind: str, name: str, directory: Path) -> S3Credentials:
    if kind == "file":
        return _from_file(name, directory)
    if kind == "environment" and name:
        return _from_variables(name)
    return _from_aws(reference, name)


def _from_variables(name: str) -> S3Credentials:
    key, secret = f"{name}_ACCESS_KEY_ID", f"{name}_SECRET_ACCESS_KEY"
    missing = [each for each in (key, secret) if not os.environ.get(each)]
    if missing:
        raise BackendUnavailable(f"the environment of the server lacks {' and '.join(missing)}")
    return S3Credentials(os.environ[key], os.environ[secret], os.environ.get(f"{name}_SESSION_TOKEN", ""))


def _from_file(name: str, directory: Path) -> S3Credentials:
    path = directory / f"{name}.json"
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            msg = f"credentials 'file:{name}' can be read by others (mode {mode:04o}): give the file mode 0600"
            raise BackendUnavailable(msg)
        found = _file_decoder.decode(path.read_bytes())
    except OSError as error:
        msg = f"credentials 'file:{name}' can't be read from the server's directory of credentials ({error.strerror})"
        raise BackendUnavailable(msg) from None
    except msgspec.DecodeError:
        msg = f"credentials 'file:{name}' are no JSON object with access_key_id and secret_access_key"
        raise BackendUnavailable(msg) from None
    return S3Credentials(found.access_key_id, found.secret_access_key, found.session_token)


def _from_aws(reference: str, profile: str) -> S3Credentials:
    try:
        found = boto3.Session(profile_name=profile or None).get_credentials()
        frozen = found and found.get_frozen_credentials()
    except ProfileNotFound:
        msg = f"credentials {reference!r} aren't there: the AWS configuration of the server has no such profile"
        raise BackendUnavailable(msg) from None
    except BotoCoreError as error:
        # Its text has paths of this machine.
        _log.warning("the AWS configuration can't be used", extra={"credentials": reference, "error": str(error)})
        msg = f"credentials {reference!r} can't be had: the AWS configuration can't be read or used"
        raise BackendUnavailable(msg) from None
    if not frozen or not frozen.access_key or not frozen.secret_key:
        msg = f"credentials {reference!r} aren't there: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
        raise BackendUnavailable(msg)
    return S3Credentials(frozen.access_key, frozen.secret_key, frozen.token or "")
