"""What an action is: a request type, a response type and a handler.

Bodies and results are JSON objects. A request type is a msgspec struct that forbids unknown fields, so a wrong body is
refused with the name of the field; its JSON schema and that of the response are the action's description
in `list_actions`. A handler returns its response, or yields `Progress` first when it takes long.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from flightserver.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from flightserver.flight.middleware import CallContext
    from flightserver.flight.permissions import Permission


_NO_CHOICE = re.compile(r"Invalid enum value .* - at `\$\.(\w+)`$", re.DOTALL)

_NAMES = ("bucket", "dataset", "index", "name", "role", "user", "to")
"""Fields of requests that name what an action is about."""


BucketName = Annotated[str, msgspec.Meta(min_length=1)]
"""An empty one is a mistake, such as a variable that isn't set; it must not choose `primary`."""


class ActionRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all request types: every request may say its bucket, as the header does."""

    bucket: BucketName | None = None


class ServerRequest(ActionRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of requests about no bucket, or about one that they name otherwise: header and `bucket` mean nothing."""


class ActionResponse(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all response types."""


class Progress(msgspec.Struct, frozen=True):
    """How far a long action is: `done` of `total`, in bytes or rows as `stage` says; total 0 means unknown."""

    stage: str
    done: int
    total: int


Handler = Callable[["CallContext", Any], Iterator[Progress | ActionResponse]]


@dataclass(frozen=True, slots=True)
class Action:
    """One action.

    Attributes:
        name: `family.verb`, the type of the Flight action.
        summary: One sentence for people.
        needs: What a caller must be allowed.
        handler: Yields any number of `Progress` and, last, the response.
    """

    name: str
    summary: str
    request: type[ActionRequest]
    response: type[ActionResponse]
    needs: Permission
    handler: Handler
    _decoder: msgspec.json.Decoder[Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Prepare to read requests, now: two threads that are the first to need a type at once crash msgspec 0.22."""
        object.__setattr__(self, "_decoder", msgspec.json.Decoder(self.request))

    def _choices(self, error: msgspec.ValidationError) -> str:
        """What would be right where a field has another value than the few that it may have; msgspec doesn't say."""
        found = _NO_CHOICE.match(str(error))
        if found is None:
            return ""
        type_of = get_type_hints(self.request)[found[1]]
        values = [
            value for one in (type_of, *get_args(type_of)) if get_origin(one) is Literal for value in get_args(one)
        ]
        return f"; it must be one of {', '.join(values)}" if values else ""

    @property
    def is_in_bucket(self) -> bool:
        """Whether the bucket of the call's header, or session, means something."""
        return not issubclass(self.request, ServerRequest)

    def description(self) -> str:
        """Summary and JSON schemas, as `list_actions` gives them."""
        schemas = {"request": msgspec.json.schema(self.request), "response": msgspec.json.schema(self.response)}
        return f"{self.summary} {json.dumps(schemas)}"

    def run(self, call: CallContext, body: bytes) -> Iterator[bytes]:
        """Decode the body, run the handler, encode what it yields.

        Raises:
            InvalidRequest: The body is not a JSON object of the request type; names the field.
            Forbidden: The caller may not.
        """
        try:
            request = self._decoder.decode(body or b"{}")
        except msgspec.ValidationError as error:
            raise InvalidRequest(
                f"the body of action {self.name} is not valid: {error}{self._choices(error)}"
            ) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequest(f"the body of action {self.name} must be a JSON object: {error}") from None
        call.note.about = _named(request)
        self.needs.check(call, f"action {self.name}", request)
        for answer in self.handler(call, request):
            kind = "progress" if isinstance(answer, Progress) else "result"
            yield msgspec.json.encode({kind: answer})


def _named(request: ActionRequest) -> str:
    """What a request is about, for the audit trail: names only, because other fields may hold secrets."""
    named = ((name, getattr(request, name, None)) for name in _NAMES)
    return " ".join(f"{name}={value}" for name, value in named if isinstance(value, str) and value)


class Registry:
    """All actions by type."""

    def __init__(self, actions: list[Action]) -> None:
        self._actions = {action.name: action for action in actions}

    def get(self, action_type: str) -> Action:
        """The action of that type.

        Raises:
            NotFound: There is none; lists those that exist.
        """
        action = self._actions.get(action_type)
        if action is None:
            raise NotFound(f"action {action_type!r} doesn't exist: there are {', '.join(sorted(self._actions))}")
        return action

    def __iter__(self) -> Iterator[Action]:
        return iter(self._actions.values())
