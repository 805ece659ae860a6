"""What a failed S3 request means, as far as it may be told to a client.

`obstore` has classes for some failures, and says what the server answered only in its text, which also holds URLs and
whatever the server wrote. Of that text nothing is told but the HTTP status and the code of S3's error, which is one
word. A HEAD has no body and so no code, which is why the most common reasons of a bare 400 are asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

if TYPE_CHECKING:
    from flightserver.storage.s3 import S3Access

REFUSALS = frozenset({"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"})
"""Codes of errors about who asks; AWS answers those about session tokens by status 400."""
_OF_REGION = frozenset({"AuthorizationHeaderMalformed", "AuthorizationQueryParametersError", "PermanentRedirect"})
_REFUSED = frozenset({401, 403})
_BAD_REQUEST = 400
_REDIRECT = 301
_REDIRECTED = "Received redirect without LOCATION"
_STATUS = re.compile(r"Server returned non-2xx status code: ([1-5]\d\d)\b")
_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered to a request that failed.

    Attributes:
        status: Of HTTP; 301 for each redirect, whose status isn't known.
        code: What S3 calls the error; empty where the answer doesn't say.
    """

    status: int
    code: str = ""

    @property
    def refuses(self) -> bool:
        """Whether it is about who asks."""
        return self.status in _REFUSED or self.code in REFUSALS

    @property
    def is_about_region(self) -> bool:
        """Whether it is what a request that was signed for another region is answered."""
        return self.status == _REDIRECT or self.code in _OF_REGION


def answer(error: Exception) -> Answer | None:
    """What the server answered, or None if it is not known to have answered."""
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return Answer(403)
    text = str(error)
    if _REDIRECTED in text:
        return Answer(_REDIRECT)
    status = _STATUS.search(text)
    if status is None:
        return None
    code = _CODE.search(text, status.end())
    return Answer(int(status[1]), code[1] if code else "")


def is_final(error: Exception) -> bool:
    """Whether the same request would be answered the same again."""
    found = answer(error)
    return found is not None and (found.refuses or found.is_about_region)


def reason(error: Exception, access: S3Access) -> str:
    """Why a request failed, for its message."""
    server = "the S3 server of this bucket"
    found = answer(error)
    if found is None:
        return f"{server} doesn't answer, or fails"
    if found.refuses:
        return f"{server} refuses the credentials"
    region = f"is the region {access.location.region!r} right?"
    if found.status == _REDIRECT:
        return f"{server} answers by a redirect: {region}"
    answers = f"{server} answers {found.status}{' ' * bool(found.code)}{found.code}"
    if found.is_about_region:
        return f"{answers}: {region}"
    if found.status == _BAD_REQUEST and not found.code:
        token = " And is the session token still valid?" if access.credentials.session_token else ""
        return f"{answers}: {region}{token}"
    return answers
