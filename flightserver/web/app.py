"""Health, metrics and a status page over HTTP, for probes, Prometheus and people.

`/healthz` says that the process lives and asks nothing else; `/readyz` runs the checks, and tells which buckets can't
be reached, which doesn't make a server unready; `/metrics` is the text format of Prometheus; `/` is a page without
scripts or external assets. None takes a slot of the admission. Everything that may block runs on threads, never on the
event loop.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

    from flightserver.web.readiness import Readiness

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{name}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem; }}
td, th {{ text-align: left; padding: 0.1rem 2rem 0.1rem 0; font-weight: normal; }}
td {{ font-variant-numeric: tabular-nums; }}
</style>
</head>
<body>
<h1>{name}</h1>
<table>
{rows}
</table>
<p><a href="/healthz">health</a> <a href="/readyz">readiness</a> <a href="/metrics">metrics</a></p>
</body>
</html>
"""

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What the status page shows.

    Attributes:
        name: Heading of the page.
        version: Version of the software.
        address: Where Flight clients connect, such as `grpc://127.0.0.1:31337`.
        counts: Label -> number, such as datasets, rows, running statements.
    """

    name: str
    version: str
    address: str
    counts: Mapping[str, int]


def _none() -> Mapping[str, str]:
    return {}


def create_app(
    status: Callable[[], ServerStatus],
    readiness: Readiness,
    metrics: Callable[[], bytes],
    unreachable: Callable[[], Mapping[str, str]] = _none,
) -> Starlette:
    """The web application.

    Args:
        status: What the status page shows now; called on a worker thread.
        readiness: Answers `/readyz`.
        metrics: All metrics in the text format of Prometheus; called on a worker thread.
        unreachable: Buckets that can't be reached, and why: the server serves the others, and is ready. It asks nobody.
    """

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n", headers=_HEADERS)

    async def readyz(_: Request) -> Response:
        results = await readiness.results()
        ready = all(result.ready for result in results)
        body: dict[str, object] = {"ready": ready, "checks": {result.name: result.detail for result in results}}
        lost = dict(unreachable())
        if lost:
            body["unreachable_buckets"] = lost
        return JSONResponse(body, status_code=200 if ready else 503, headers=_HEADERS)

    # Starlette runs functions that aren't coroutines on worker threads.
    def exposition(_: Request) -> Response:
        return Response(metrics(), headers=_HEADERS, media_type=METRICS_TYPE)

    def page(_: Request) -> Response:
        return HTMLResponse(render(status()), headers=_HEADERS)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", exposition),
        ]
    )


def render(status: ServerStatus) -> str:
    """The status page as HTML."""
    facts = {"version": status.version, "Flight": status.address}
    facts |= {label: f"{count:,}" for label, count in status.counts.items()}
    rows = "\n".join(
        f"<tr><th>{html.escape(label)}</th><td>{html.escape(value)}</td></tr>" for label, value in facts.items()
    )
    return _PAGE.format(name=html.escape(status.name), rows=rows)
