"""Actions `result.*`: paged results without a FlightInfo."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # msgspec resolves the annotations when it makes the JSON schema
from typing import TYPE_CHECKING, Any

from flightserver.flight.actions.registry import Action, ActionRequest, ActionResponse, Progress, ServerRequest
from flightserver.flight.permissions import CALLER
from flightserver.flight.plain import PlainQuery
from flightserver.flight.sql.statements import Wanted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.flight.middleware import CallContext
    from flightserver.flight.sql.statements import Statements
    from flightserver.query.results import ResultStore
    from flightserver.query.service import Queries


class ResultCreateRequest(ActionRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `result.create`."""

    sql: str
    page_rows: int | None = None
    parameters: list[Any] | dict[str, Any] | None = None
    as_of: int | datetime | None = None


class ResultCreateResponse(ActionResponse, frozen=True, kw_only=True):
    """Result of `result.create`: fetch page n with the ticket `{"query_id": ..., "page": n}`, from 0."""

    query_id: str
    rows: int
    pages: int
    page_rows: int
    expires_at: datetime


class ResultCloseRequest(ServerRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `result.close`."""

    query_id: str


class ResultCloseResponse(ActionResponse, frozen=True, kw_only=True):
    """Result of `result.close`."""


def result_actions(queries: Queries, statements: Statements, results: ResultStore, page_rows: int) -> list[Action]:
    """The family; `page_rows` is the size of pages when a request doesn't say."""

    def create(call: CallContext, request: ResultCreateRequest) -> Iterator[Progress | ActionResponse]:
        bound = PlainQuery(request.sql, parameters=request.parameters).bound()
        wanted = Wanted(sql=request.sql, parameters=bound, as_of=request.as_of)
        planned = statements.plan(call, wanted, bucket=request.bucket)
        chosen = call.session.options.page_rows if request.page_rows is None else request.page_rows
        stored = queries.store(planned, page_rows if chosen is None else chosen)
        yield ResultCreateResponse(
            query_id=stored.query_id,
            rows=stored.rows,
            pages=stored.pages,
            page_rows=stored.page_rows,
            expires_at=stored.expires_at,
        )

    def close(call: CallContext, request: ResultCloseRequest) -> Iterator[Progress | ActionResponse]:
        results.check_reader(request.query_id, call.rights)
        results.close(request.query_id)
        yield ResultCloseResponse()

    return [
        Action(
            "result.create",
            "Run a query once and keep its result, to be read by pages.",
            ResultCreateRequest,
            ResultCreateResponse,
            CALLER,
            create,
        ),
        Action("result.close", "Forget a kept result.", ResultCloseRequest, ResultCloseResponse, CALLER, close),
    ]
