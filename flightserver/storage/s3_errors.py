"""What a failed S3 request means, as far as it may be told to a client.

`obstore` has classes for some failures, and says what the server answered, or why it didn't, only in its text, which
also holds URLs and whatever the server wrote. Of that text nothing is told but the HTTP status, the code of S3's error,
which is one word, and which of a few known reasons there was for no answer. A HEAD has no body and so no code, which is
why the most common reasons of a bare 400 are asked for.

boto3 fails otherwise (`flightserver.federation.aws`), but what either means is an `Answer` or `Unanswered`, and
`flightserver.storage.s3_access.S3Access.told` is the one place that puts it into words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from obstore.exceptions import AlreadyExistsError, PermissionDeniedError, PreconditionError, UnauthenticatedError

REFUSALS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"})
"""Codes of errors about the credentials themselves; AWS answers those about session tokens by status 400."""
_OF_RIGHTS = frozenset({"AccessDenied", "AllAccessDisabled"})
_OF_REGION = frozenset({"AuthorizationHeaderMalformed", "AuthorizationQueryParametersError", "PermanentRedirect"})
_OF_CLOCK = "RequestTimeTooSkewed"
_OK = 200
_REDIRECT = 301
_BAD_REQUEST = 400
_UNAUTHORIZED = 401
_FORBIDDEN = 403
_STATUSES = (
    (FileNotFoundError, 404),
    (AlreadyExistsError, 412),
    (PreconditionError, 412),
    (PermissionDeniedError, _FORBIDDEN),
    (UnauthenticatedError, _UNAUTHORIZED),
)
_REDIRECTED = "Received redirect without LOCATION"
_STATUS = re.compile(
    r"Server returned non-2xx status code: ([1-5]\d\d)\b[^:\n]*:?(?P<body>.*?)(?:\n\nDebug source:|\Z)", re.DOTALL
)
_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>")
_MESSAGE = re.compile(r"<Message>([^<]*)</Message>")
_REFUSED_KEY = re.compile(r"DeleteObjects request failed for key .*\(code: ([A-Za-z0-9.]{1,64})\)")
"""One of several keys in one request, which is answered as done."""
_STRANGE = re.compile(r"Unable to extract metadata from headers|Got invalid \w+ response")
_QUOTED = re.compile(r'"([^"]+)"')
_NAME = re.compile(r"\b[A-Z]\w+")
_NAMES = 2
_CAUSE_CHARACTERS = 300


class Unanswered(Enum):
    """Why a server gave no answer."""

    REFUSED = auto()
    UNKNOWN_HOST = auto()
    NO_TLS = auto()
    NO_CONNECTION = auto()
    LATE = auto()
    OTHER = auto()


_SIGNS = (
    (Unanswered.REFUSED, re.compile(r"connection ?refused", re.IGNORECASE)),
    (Unanswered.UNKNOWN_HOST, re.compile(r"\bdns error\b|failed to lookup address", re.IGNORECASE)),
    (
        Unanswered.NO_TLS,
        re.compile(r"invalid ?(?:peer )?certificate|InvalidMessage|AlertReceived|corrupt message", re.IGNORECASE),
    ),
    (Unanswered.NO_CONNECTION, re.compile(r"connect\w* ?error.*(?:timed ?out|elapsed)", re.IGNORECASE | re.DOTALL)),
    (Unanswered.LATE, re.compile(r"timed ?out", re.IGNORECASE)),
)
"""How the text of obstore lets each reason be known; it has them as its parts print themselves, for programmers."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered to a request that failed.

    Attributes:
        status: Of HTTP; 301 for each redirect, whose status isn't known; 0 where a part of a request was refused.
        code: What S3 calls the error; empty where the answer doesn't say.
        is_foreign: Whether it is known that no S3 server answers so, but some web server may.
    """

    status: int
    code: str = ""
    is_foreign: bool = False

    @property
    def said(self) -> str:
        """Status and code, as far as they are known."""
        return f"{self.status or ''} {self.code}".strip()

    @property
    def refuses(self) -> bool:
        """Whether it is about who asks: about the credentials, or about what they may do."""
        return self.refuses_credentials or self.lacks_rights or self.status == _FORBIDDEN

    @property
    def refuses_credentials(self) -> bool:
        """Whether the server doesn't take the credentials, whatever is asked by them."""
        return self.code in REFUSALS or (self.status == _UNAUTHORIZED and not self.lacks_rights)

    @property
    def lacks_rights(self) -> bool:
        """Whether the server knows who asks, and doesn't let them do this."""
        return self.code in _OF_RIGHTS

    @property
    def is_bare_refusal(self) -> bool:
        """Whether it is about the credentials or their rights, and doesn't say about which."""
        return self.status == _FORBIDDEN and not self.code

    @property
    def is_about_region(self) -> bool:
        """Whether it is what a request that was signed for another region is answered."""
        return self.redirects or self.code in _OF_REGION

    @property
    def is_about_clock(self) -> bool:
        """Whether the request says that it was made at another time than the server has."""
        return self.code == _OF_CLOCK

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
    text = str(error)
    status = _STATUS.search(text)
    if status is not None:
        return _answer(int(status[1]), status["body"].strip())
    for kind, number in _STATUSES:
        if isinstance(error, kind):
            return Answer(number)
    refused = _REFUSED_KEY.search(text)
    if refused is not None:
        return Answer(0, refused[1])
    if _REDIRECTED in text:
        return Answer(_REDIRECT)
    return Answer(_OK, is_foreign=True) if _STRANGE.search(text) else None


def failure(error: Exception) -> Answer | Unanswered:
    """What the server answered, or why it didn't as far as the text of obstore says."""
    found = answer(error)
    if found is not None:
        return found
    inner = _inner(error)
    return next((each for each, sign in _SIGNS if sign.search(inner)), Unanswered.OTHER)


def found_nobody(error: Exception) -> bool:
    """Whether the last try found nobody to connect to, which no slow server does."""
    return failure(error) in {Unanswered.REFUSED, Unanswered.UNKNOWN_HOST}


def is_final(error: Exception) -> bool:
    """Whether the same request would be answered the same again."""
    found = answer(error)
    return found is not None and (found.refuses or found.is_about_region)


def cause(error: Exception) -> str:
    """The last cause in the text of obstore, in a few words for the log."""
    text = str(error)
    status = _STATUS.search(text)
    if status is not None:
        message = _MESSAGE.search(status["body"])
        said = message[1] if message else status["body"].strip()
        return f"{status[1]} {said}".rstrip()[:_CAUSE_CHARACTERS]
    inner = _inner(error)
    if inner == text:
        return text.partition("\n\nDebug source:")[0][-_CAUSE_CHARACTERS:]
    parts = _QUOTED.findall(inner) or _NAME.findall(inner)[-_NAMES:]
    return ": ".join(reversed(parts))[:_CAUSE_CHARACTERS]


def _answer(status: int, body: str) -> Answer:
    code = _CODE.search(body)
    return Answer(status, code[1] if code else "", is_foreign=bool(body) and "<Error" not in body)


def _inner(error: Exception) -> str:
    """What is left of the text when what has URLs, and with them keys, is left out."""
    return str(error).rpartition("inner:")[2]
