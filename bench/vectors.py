"""Vector search: recall, time, size and memory, beside exact search, hnswlib, Lance and DuckDB."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from bench import plots, vector_server
from bench.inprocess import THREADS
from bench.measure import MB, Page, table
from bench.searches import answered
from bench.vector_peers import CONSTRUCTION, HNSW_80, HNSWLIB, LANCE_PQ, LINKS, VSS_VERSION, hnswlib, peers
from bench.vector_server import ADBC, WHOLE_ROWS
from bench.vector_sets import ALL, CLUSTERS, MORE_PERCENT, K, clustered, uniform

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.context import Context
    from bench.searches import Answered, Contestant
    from bench.vector_server import Built, Grown
    from bench.vector_sets import VectorSet

RECALL = 0.99
"""What ours must find of the true neighbours among clustered vectors, and in all cases with a predicate."""

INTRODUCTION = """{vectors:,} vectors of {dimension} float32, searched by the cosine for the {k} nearest to {searches} \
others. `clustered` is a mixture of {clusters} Gaussians of uneven weight; in `uniform` all directions are equally \
likely, so that the nearest are hardly nearer than the rest: the worst case. Truth is by brute force. `flightserver` \
answers `SELECT id, _distance FROM vector_search(...)` by Flight SQL: a server process, without its cache of rows, and \
ADBC in this process, with a prepared statement to which the vector is bound; each time is that of the whole \
statement, with the wire. "Rows in memory" is a server that has the dataset in its cache (`cache.pin`). The peers are \
libraries in this process, without a server, a wire or, but for DuckDB, a statement: "search alone" is what \
`vector_search` stands on, in this process, for a comparison like with like. Medians of {repeats} rounds, each \
contestant asked all questions in its turn, after a round that isn't counted."""

PEERS = """hnswlib and vss have {links} links and an `ef_construction` of {construction}. IVF_PQ of Lance (a byte for \
eight numbers) is asked with 20 probes, IVF_RQ (a bit for each) with 40, and both compare five times as many \
candidates exactly, from the rows; there are as many partitions as the root of the vectors, if each has 256 to be \
trained with. vss, DuckDB's extension, is on PyPI for DuckDB {vss}, which is a process of its own here and takes the \
time itself; DuckDB of this environment has none, and compares all. numpy and Lance have as many threads as there are \
cores, DuckDB {threads}, a search of hnswlib one. A size is that of the index: those of flightserver, hnswlib and vss \
have the vectors, those of Lance don't; that of vss is what it says itself. vss is asked in the quick form only: \
100,000 vectors of 768 numbers kept it building for more than a quarter of an hour. Versions: {versions}."""

FILTERS = """`clustered`, behind a predicate that leaves 10 % or 1 % of the rows. That of flightserver is the fourth \
argument of `vector_search`; "search alone" is given the rows that it leaves. Lance filters first (`prefilter`). numpy \
and DuckDB compare what is left. vss applies the predicate to what its index has found, so that rows are missing. \
hnswlib is left out: its filters are Python functions that it calls for each candidate."""

GROWTH = """What is asked of a server that has just started (median of {starts}; connecting isn't counted, and the \
system has the files in its cache), and of one to which {percent} % more rows have come: before `index.refresh` has \
taken them in, and after."""

MEMORY = """Resident memory of the server process, by samples every 20 ms; pages of the index that it has mapped into \
memory count."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found out about one set of vectors.

    Attributes:
        contestants: Who was asked.
        answers: Percent of the rows that a predicate leaves -> name -> what came of it.
        built: Our index.
        idle: Resident bytes of our server before the searches.
        peak: The most during them.
        cold: Seconds of the first search.
        grown: With more rows.
    """

    contestants: list[Contestant]
    answers: dict[int, dict[str, Answered]]
    built: Built
    idle: int
    peak: int
    cold: float
    grown: Grown


def measure(context: Context) -> Page:
    """Ask all contestants in turn about both sets, one set after the other."""
    found = {}
    for make in (clustered, uniform):
        given = make(context.effort)
        found[given.name] = _measured(context, given)
    return _page(context, found)


def _measured(context: Context, given: VectorSet) -> Measured:
    repeats = context.effort.repeats
    work = context.work / f"vectors-{given.name}"
    shutil.rmtree(work, ignore_errors=True)  # builds are what is measured: nothing of before is of use
    work.mkdir()
    data, built = vector_server.built(work, given)
    cold = vector_server.cold(work, data, given, repeats)
    with ExitStack() as stack:
        others = peers(stack, work, given)
        ours, watched = vector_server.contestants(stack, work, data, built, given)
        everyone = [*ours, *others]
        answers = {
            percent: answered(everyone, given.queries, truth, repeats, percent)
            for percent, truth in given.truth.items()
        }
    grown = vector_server.grown(work, data, given, repeats)
    shutil.rmtree(work)
    return Measured(everyone, answers, built, watched.before, watched.peak, cold, grown)


def _page(context: Context, found: Mapping[str, Measured]) -> Page:
    effort = context.effort
    page = Page("vectors", "Vector search")
    page.add(
        INTRODUCTION.format(
            vectors=effort.vectors,
            dimension=effort.dimension,
            k=K,
            searches=effort.searches,
            clusters=CLUSTERS,
            repeats=effort.repeats,
        ),
        PEERS.format(links=LINKS, construction=CONSTRUCTION, vss=VSS_VERSION, threads=THREADS, versions=_versions()),
    )
    if hnswlib is None:
        page.add(HNSWLIB)
    for name, measured in found.items():
        page.add(f"## {name.capitalize()}", table(_HEADERS, _cells(measured)))
        if name == "clustered":
            page.add(_verdict(measured), _plot(context, measured))
    page.add("## Predicates", FILTERS, table(_FILTER_HEADERS, _filter_cells(found["clustered"])))
    page.add("## Cold, and with new rows", GROWTH.format(starts=effort.repeats, percent=MORE_PERCENT))
    page.add(table(("", *(f"{name}, {what}" for name in found for what in _WHAT)), _growth_cells(found)))
    page.add("## Memory", MEMORY, table(("", *(f"{name} MB" for name in found)), _memory_cells(found)))
    return page


def _versions() -> str:
    names = ("numpy", "pylance", "hnswlib")
    return ", ".join(f"{name} {version(name)}" for name in names if name != "hnswlib" or hnswlib is not None)


_HEADERS = (
    "",
    f"recall@{K}",
    "p50 ms",
    "p95 ms",
    f"p50 over {HNSW_80}",
    f"p50 over {LANCE_PQ}",
    "build s",
    "index MB",
)


def _cells(measured: Measured) -> list[tuple[str, ...]]:
    answers = measured.answers[ALL]
    return [
        (
            one.name,
            f"{answers[one.name].recall:.3f}",
            *_milliseconds(answers[one.name]),
            _over(answers, one.name, HNSW_80),
            _over(answers, one.name, LANCE_PQ),
            "" if one.build_seconds is None else f"{one.build_seconds:.1f}",
            "" if one.bytes is None else f"{one.bytes / MB:,.1f}",
        )
        for one in measured.contestants
    ]


_FILTER_HEADERS = (
    "",
    *(
        f"{percent} %, {what}"
        for percent in (10, 1)
        for what in (f"recall@{K}", "p50 ms", "p95 ms", f"over {LANCE_PQ}")
    ),
)


def _filter_cells(measured: Measured) -> list[tuple[str, ...]]:
    few = [measured.answers[percent] for percent in (10, 1)]
    return [
        (
            name,
            *(
                cell
                for answers in few
                for cell in (
                    f"{answers[name].recall:.3f}",
                    *_milliseconds(answers[name]),
                    _over(answers, name, LANCE_PQ),
                )
            ),
        )
        for name in few[0]
    ]


_WHAT = (f"recall@{K}", "p50 ms", "p95 ms", "p50 over that of all indexed")


def _growth_cells(found: Mapping[str, Measured]) -> list[tuple[str, ...]]:
    rows: dict[str, list[str]] = {}
    for measured in found.values():
        whole, grown = measured.answers[ALL], measured.grown
        lines = {
            "all indexed": _compared(whole[ADBC], whole[ADBC]),
            "the same, SELECT *": _compared(whole[WHOLE_ROWS], whole[ADBC]),
            "first search of a server": _once(measured.cold),
            f"{MORE_PERCENT} % not indexed, first": _once(grown.first),
            f"{MORE_PERCENT} % not indexed": _compared(grown.lacking, whole[ADBC]),
            "index.refresh": _once(grown.refresh),
            "after it": _compared(grown.refreshed, whole[ADBC]),
        }
        for name, cells in lines.items():
            rows.setdefault(name, []).extend(cells)
    return [(name, *cells) for name, cells in rows.items()]


def _memory_cells(found: Mapping[str, Measured]) -> list[tuple[str, ...]]:
    lines = {
        "before index.create": [measured.built.before for measured in found.values()],
        "peak of index.create": [measured.built.peak for measured in found.values()],
        "before searches": [measured.idle for measured in found.values()],
        "peak of searches": [measured.peak for measured in found.values()],
    }
    return [(name, *(f"{size / MB:,.0f}" for size in sizes)) for name, sizes in lines.items()]


def _milliseconds(answers: Answered) -> tuple[str, str]:
    return (f"{answers.p50 * 1000:.2f}", f"{answers.p95 * 1000:.2f}")


def _compared(answers: Answered, whole: Answered) -> tuple[str, ...]:
    return (f"{answers.recall:.3f}", *_milliseconds(answers), f"{answers.p50 / whole.p50:.2f}")


def _once(seconds: float) -> tuple[str, ...]:
    return ("", f"{seconds * 1000:.1f}", "", "")


def _over(answers: Mapping[str, Answered], name: str, peer: str) -> str:
    return f"{answers[name].p50 / answers[peer].p50:.2f}" if peer in answers else ""


def _verdict(measured: Measured) -> str:
    recalls = {percent: answers[ADBC].recall for percent, answers in measured.answers.items()}
    worst = min(recalls, key=lambda percent: recalls[percent])
    verdict = "holds" if recalls[worst] >= RECALL else "DOES NOT HOLD"
    return f"A recall of at least {RECALL} of flightserver, with predicates too: {verdict} ({recalls[worst]:.3f})."


def _plot(context: Context, measured: Measured) -> str:
    values = {
        f"{name} ({one.recall:.3f})": one.p50 * 1000
        for name, one in measured.answers[ALL].items()
        if name != WHOLE_ROWS
    }
    title = f"The {K} nearest of {context.effort.vectors:,} clustered vectors (recall)"
    return plots.bars(context.results / "vectors.png", title, "ms (median)", values)
