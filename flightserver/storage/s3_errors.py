"""What a failed S3 request means, as far as it may be told to a client.

`obstore` has classes for some failures, and says what the server answered only in its text, which also holds URLs and
whatever the server wrote. Of that text nothing is told but the HTTP status and the code of S3's error, which is one
word. A HEAD has no body and so no code, which is why the most common reasons of a bare 400 are asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from obstore.exceptions import AlreadyExistsError, PermissionDeniedError, PreconditionError, UnauthenticatedError

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
        return self.redirects or self.code in _OF_REGION

    @property
    def redirects(self) -> bool:
        """Whether the server names another place."""
        return self.status == _REDIRECT

    @property
    def is_bare(self) -> bool:
        """Whether it is one that S3 gives for several reasons, and says not for which."""
        return self.status == _BAD_REQUEST and not self.code


def answer(error: Exception) -> Answer | None:
    """What the server answered, or None if it is not known to have answered.

    Whoever wants to know whether a failed request was answered asks here, and nowhere else.
    """
    if isinstance(error, FileNotFoundError):
        return Answer(404)
    if isinstance(error, AlreadyExistsError | PreconditionError):
        return Answer(412)
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
