"""Merge-on-read: reading a table that was changed, beside one with the same rows that was written whole."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bench import plots, shop
from bench.comparing import assert_same
from bench.formulations import compared, stepped
from bench.inprocess import load, opened, rows, run
from bench.measure import Page, Taken, in_turn, table
from bench.merging_questions import Question, questions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.context import Context
    from flightserver.lakehouse import Lakehouse

PERCENTS = (1, 10)
AIMS = {1: 1.2, 10: 1.6}
"""Times base-only, of a scan."""

INTRODUCTION = """{rows:,} orders of eight columns, of which {percents} % at random were changed by one UPDATE: their \
old rows are dead by a delta, their new ones are in a segment of their own. The peer is a dataset of the same rows \
that CREATE TABLE AS wrote whole. Both are asked in this process through the whole path of a statement, without the \
wire and without the cache; files are in the page cache of the system. Medians of {repeats} rounds, contestants in \
turn; the peer's results are compared with ours, row by row, before."""

COUNTS = """`count(*)` alone is answered without reading rows: see `flightserver/query/counting.py`. Among the \
formulations below it reads row ids, where the peer reads the footers of its files."""

FORMULATIONS = """Ways to leave dead rows out, over the same files and by the same engine, without a server; the new \
rows are in memory for all. The figure is the time over that of reading the peer's files. The first is in use \
(`flightserver/query/scan.py`). The joins and NOT IN have the dead ids, or the changed keys, as a table in memory. \
The function is called for each batch of row ids, which are a run without gaps, so that a slice of a bitmap is its \
answer (`bench/rowmasks.py`); it holds the interpreter meanwhile, and the engine can't know how many rows pass it."""

STEPS = """`SELECT *` over the files of the old rows, and what a merge adds, part by part: the time, and the CPU \
time, over those of the first line. Decoding `_rid` is the first part: its deltas take few bytes, but are a ninth \
column. A join hashes every id and gathers all columns of the rows that stay by their indices, also of batches in \
which nothing is dead. The function's answer goes to the filter kernel, which lets a batch pass untouched when all \
its rows stay, and else copies runs of rows. New rows come from memory, and are cheaper than those of files."""


def measure(context: Context) -> Page:
    """Ask both, then compare formulations."""
    effort = context.effort
    asked = questions(effort.rows)
    page = Page("merging", "Reading what was changed")
    page.add(
        INTRODUCTION.format(rows=effort.rows, percents=" and ".join(map(str, PERCENTS)), repeats=max(effort.repeats, 3))
    )
    with opened(_lake(context.work / "merging", effort.rows)) as lakehouse:
        seconds = {percent: _both(lakehouse, percent, asked, effort.repeats) for percent in PERCENTS}
        page.add(table(_HEADERS, _cells(seconds, asked)), _verdict(seconds), COUNTS)
        page.add(_plot(context, seconds))
        page.add("## Formulations", FORMULATIONS)
        for percent in PERCENTS:
            ratios = compared(lakehouse, percent, asked, effort.repeats)
            cells = [(name, *(f"{ratio[one.title]:.2f}" for one in asked)) for name, ratio in ratios.items()]
            page.add(table((f"{percent} % changed", *(one.title for one in asked)), cells))
        page.add("## Where the time goes", STEPS)
        page.add(_steps(lakehouse, asked[0], effort.repeats))
    return page


def _steps(lakehouse: Lakehouse, scan: Question, repeats: int) -> str:
    steps = [stepped(lakehouse, percent, scan, repeats) for percent in PERCENTS]
    cells = [(name, *(f"{ratio:.2f}" for step in steps for ratio in step[name])) for name in steps[0]]
    return table(("", *(f"{percent} %, {what}" for percent in PERCENTS for what in ("time", "CPU"))), cells)


def _lake(data: Path, count: int) -> Path:
    """A lakehouse with a changed dataset and its peer for each share."""
    if data.exists():
        return data
    orders = shop.orders(count)
    with opened(data) as lakehouse:
        for percent in PERCENTS:
            picked = shop.picked(count, percent / 100)
            load(lakehouse, f"orders_{percent}", orders)
            load(lakehouse, f"picked_{percent}", picked)
            changed = run(
                lakehouse,
                f"UPDATE orders_{percent} SET amount = amount + 1, status = 'changed' "
                f"WHERE order_id IN (SELECT order_id FROM picked_{percent})",
            )
            assert changed == picked.num_rows
            run(lakehouse, f"CREATE TABLE whole_{percent} AS SELECT * FROM orders_{percent} ORDER BY order_id")
    return data


def _both(lakehouse: Lakehouse, percent: int, asked: list[Question], repeats: int) -> dict[str, tuple[Taken, Taken]]:
    """What the peer and ours took, for each question."""
    found = {}
    for one in asked:
        merged, whole = one.over(f"orders_{percent}"), one.over(f"whole_{percent}")
        assert_same(one.title, rows(lakehouse, merged), rows(lakehouse, whole))
        ways: dict[str, Callable[[], object]] = {
            "whole": partial(rows, lakehouse, whole),
            "merged": partial(rows, lakehouse, merged),
        }
        taken = in_turn(ways, repeats, one.times)
        found[one.title] = (taken["whole"], taken["merged"])
    return found


_HEADERS = ("", "changed", "whole ms", "merged ms", "over the peer's", "more ms", "CPU over the peer's")


def _cells(seconds: dict[int, dict[str, tuple[Taken, Taken]]], asked: list[Question]) -> list[tuple[object, ...]]:
    return [
        (
            one.title,
            f"{percent} %",
            f"{whole.seconds * 1000:.1f}",
            f"{merged.seconds * 1000:.1f}",
            f"{merged.seconds / whole.seconds:.2f}",
            f"{(merged.seconds - whole.seconds) * 1000:.1f}",
            f"{merged.cpu / whole.cpu:.2f}",
        )
        for percent, found in seconds.items()
        for one in asked
        for whole, merged in [found[one.title]]
    ]


def _verdict(seconds: dict[int, dict[str, tuple[Taken, Taken]]]) -> str:
    lines = []
    for percent, found in seconds.items():
        ratios = {title: merged.seconds / whole.seconds for title, (whole, merged) in found.items()}
        worst = max(ratios, key=lambda title: ratios[title])
        verdict = "holds" if ratios[worst] <= AIMS[percent] else "DOES NOT HOLD"
        aim = f"At {percent} %, at most {AIMS[percent]:g} times the peer"
        lines.append(f"{aim}: {verdict} (worst: {worst}, {ratios[worst]:.2f}).")
    return " ".join(lines)


def _plot(context: Context, seconds: dict[int, dict[str, tuple[Taken, Taken]]]) -> str:
    values = {
        f"{title}, {percent} %": merged.seconds / whole.seconds
        for percent, found in seconds.items()
        for title, (whole, merged) in found.items()
    }
    return plots.bars(context.results / "merging.png", "Time over that of the peer", "times", values)
