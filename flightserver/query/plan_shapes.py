"""What a logical plan of the engine tells of how it is to be run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from flightserver.query.failures import translate

if TYPE_CHECKING:
    from datafusion import DataFrame, LogicalPlan

_SHUFFLES = re.compile(r"Join|Subquery:|^ *(Aggregate|Distinct|WindowAggr|RecursiveQuery)", re.MULTILINE)
"""Nodes of a logical plan for which the engine brings rows of one partition into another."""

_LIMIT = re.compile(r"Limit: skip=(?P<skip>\d+), fetch=(?P<fetch>\d+)\n")

INLINED = "TableScan: ?table?"
"""How a plan shows a table that was made from a plan."""


def first_rows(plan: LogicalPlan) -> range | None:
    """Which rows a plan wants whose last step is a limit, without an order; None for any other plan."""
    shown = plan.display_indent()
    found = _LIMIT.match(shown)
    if found is None or "Sort:" in shown:
        return None
    skip = int(found["skip"])
    return range(skip, skip + int(found["fetch"]))


def reads(frame: DataFrame) -> str | None:
    """The plan as it is optimized, which names each column that a scan reads; None where it names only the tables."""
    try:
        plan = frame.optimized_logical_plan().display_indent()
    except Exception:  # noqa: BLE001  # the binding raises bare Exception; the run says it, or plans otherwise
        return None
    scans = plan.count("TableScan: ")
    return plan if 0 < scans == plan.count(" projection=[") else None


def shuffles(frame: DataFrame) -> bool:
    """Whether a plan brings rows of one partition into another: all its partitions have to be read at once.

    Others are read one partition after the other (`flightserver.query.inorder`). That gives rows in the order of the
    files, as people expect them who ask for none. But a shuffle would pile up all rows for the partitions whose
    turn has not come, and a hash join tells its probe side about its build side only when all its partitions have
    begun (datafusion 54), so that it would wait for ever.
    """
    plan = frame.logical_plan().display_indent()
    if INLINED in plan and not _SHUFFLES.search(plan):
        # Tables that are plans themselves, such as views, are seen in the optimized plan only.
        try:
            plan = frame.optimized_logical_plan().display_indent()
        except Exception as error:  # the binding raises bare Exception; `translate` sorts
            raise translate(error) from error
    return _SHUFFLES.search(plan) is not None
