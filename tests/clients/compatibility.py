"""The table of docs/compatibility.md: client x feature, made of what a run of tests/clients showed.

Theory of operation: the marker `client` says which client a test is about, `feature` what it shows. A feature with a
`reason` is one that the client hasn't: the test shows the lack. What passed is collected from the reports, which
pytest-xdist brings from its workers with the properties that were noted there. At the end of a whole run of
tests/clients, where nothing failed, the table in the page is compared with what was shown, and the run fails when they
differ; with `--write-compatibility` it is written instead.

Where a marked test was skipped, because a machine has no Java, nothing is compared but in CI, where nothing is skipped.

Invariants:
    - A cell says `yes` if a test without a reason passed, else `no` if one with a reason did, else nothing.
    - The table depends on markers and outcomes alone. Versions of the clients stand above it, and are not compared.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from dataclasses import astuple, dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from clients.connecting import CLIENTS
from clients.jdbc_program import SOURCES
from clients.sqlalchemy_environment import VERSION as FLIGHTSQL_DBAPI

if TYPE_CHECKING:
    from collections.abc import Iterable

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "compatibility.md"
BEGIN = "<!-- What follows is written by `pytest tests/clients --write-compatibility`. -->"
END = "<!-- What stands above was written by `pytest tests/clients --write-compatibility`. -->"

FEATURES = (
    "user and password",
    "token",
    "long logins",
    "TLS",
    "client certificate",
    "rights",
    "headers",
    "schema of the connection",
    "sessions",
    "queries",
    "every type",
    "large results",
    "partitions",
    "polling",
    "time travel",
    "vector search",
    "errors with their code",
    "cancel",
    "parameters",
    "prepared statements",
    "batches",
    "update counts",
    "exactly once",
    "bulk ingest",
    "temporary tables",
    "transactions",
    "savepoints",
    "Substrait",
    "tables and columns",
    "primary keys",
    "foreign keys",
)
"""All features, in the order of the table."""

_PROPERTY = "compatibility"


@dataclass(frozen=True, order=True)
class Claim:
    """What a test shows when it passes.

    Attributes:
        feature: One of `FEATURES`.
        client: One of `CLIENTS`.
        reason: Why the client hasn't the feature; empty if it has it.
    """

    feature: str
    client: str
    reason: str = ""


def claims(item: pytest.Item) -> list[Claim]:
    """What a test shows, by its markers; of several that name a client the closest counts.

    Raises:
        pytest.UsageError: A marker names nothing that there is, or a feature is without a client.
    """
    of = item.get_closest_marker("client")
    clients = () if of is None else of.args
    found = []
    for marker in item.iter_markers("feature"):
        if not clients or not {*clients} <= {*CLIENTS} or not {*marker.args} <= {*FEATURES}:
            raise pytest.UsageError(
                f"{item.nodeid} shows {marker.args} of {clients}: expected features of {FEATURES}, and clients of "
                f"{tuple(CLIENTS)}"
            )
        reason = marker.kwargs.get("reason", "")
        found += [Claim(feature, client, reason) for feature, client in product(marker.args, clients)]
    return found


def table(shown: Iterable[Claim]) -> str:
    """The table in Markdown, with its notes below."""
    shown = set(shown)
    notes: list[str] = []
    lines = [f"| | {' | '.join(CLIENTS)} |", "|---" * (len(CLIENTS) + 1) + "|"]
    for feature in FEATURES:
        cells = [_cell([claim for claim in shown if astuple(claim)[:2] == (feature, name)], notes) for name in CLIENTS]
        lines.append(f"| {feature} | {' | '.join(cells)} |")
    numbered = [f"{number}. {note}" for number, note in enumerate(notes, 1)]
    return "\n".join([*lines, "", *numbered]).rstrip()


def _cell(claimed: list[Claim], notes: list[str]) -> str:
    reasons = sorted({claim.reason for claim in claimed} - {""})
    notes += [reason for reason in reasons if reason not in notes]
    numbers = "".join(f" <sup>{notes.index(reason) + 1}</sup>" for reason in reasons)
    has_it = any(not claim.reason for claim in claimed)
    return ("yes" if has_it else "no" if claimed else "") + numbers


def versions() -> str:
    """A line that says what was tested, by major and minor release."""
    [driver] = re.findall(r"flight-sql-jdbc-driver</artifactId>\s*<version>([^<]+)", (SOURCES / "pom.xml").read_text())
    packages = {"ADBC": "adbc-driver-flightsql", "flightclient": "flightserver", "pyarrow.flight": "pyarrow"}
    fixed = {"JDBC": driver, "SQLAlchemy": FLIGHTSQL_DBAPI}
    found = {name: fixed.get(name) or version(packages.get(name, name.lower())) for name in CLIENTS}
    drivers = {"SQLAlchemy": "flightsql-dbapi"}
    short = ", ".join(f"{drivers.get(name, name)} {'.'.join(number.split('.')[:2])}" for name, number in found.items())
    return f"Shown by the tests with {short}."


def _parts(page: str) -> tuple[str, str, str]:
    """What stands before the block, in it, and behind it."""
    before, _, rest = page.partition(BEGIN)
    block, _, behind = rest.partition(END)
    return before, block, behind


def written(page: str, shown: Iterable[Claim]) -> str:
    """The page with the table of what was shown."""
    before, _, behind = _parts(page)
    return f"{before}{BEGIN}\n\n{versions()}\n\n{table(shown)}\n\n{END}{behind}"


def difference(page: str, shown: Iterable[Claim]) -> list[str]:
    """How the table of the page differs from what was shown; empty if it doesn't."""
    _, block, _ = _parts(page)
    told = block[block.find("| |") :].strip().splitlines()
    return list(difflib.unified_diff(told, table(shown).splitlines(), "the page", "the run", lineterm="", n=0))


class Compatibility:
    """Collects, compares and writes; a plugin of pytest.

    Args:
        config: Of the run, or of one of its workers.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._shown: set[Claim] = set()
        self._was_skipped = False
        self._told: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note what each test shows, for its reports."""
        for item in items:
            if found := claims(item):
                item.user_properties.append((_PROPERTY, json.dumps([astuple(claim) for claim in found])))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count what passed."""
        noted = [
            Claim(*claim)
            for name, text in report.user_properties
            if name == _PROPERTY
            for claim in json.loads(str(text))
        ]
        if report.when == "call" and report.passed:
            self._shown.update(noted)
        self._was_skipped |= bool(noted) and report.skipped

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Compare or write, at the end of a whole run that found nothing wrong."""
        must_write = self._config.getoption("--write-compatibility", default=False)
        if hasattr(self._config, "workerinput"):
            return
        if exitstatus != pytest.ExitCode.OK or not self._is_whole():
            self._told = [f"{PAGE.name} was not written: not all tests ran and passed."] if must_write else []
            return
        if self._was_skipped and not os.environ.get("CI"):
            self._told = [f"{PAGE.name} was neither compared nor written: tests of clients were skipped."]
            return
        page = PAGE.read_text()
        if must_write:
            PAGE.write_text(written(page, self._shown))
            self._told = [f"{PAGE.name} was written."]
        elif found := difference(page, self._shown):
            self._told = [f"{PAGE.name} isn't what ran: pytest tests/clients --write-compatibility writes it.", *found]
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say what was found."""
        if self._told:
            terminalreporter.section("compatibility of clients")
            terminalreporter.write_line("\n".join(self._told))

    def _is_whole(self) -> bool:
        narrowed = ("keyword", "markexpr", "deselect", "ignore", "ignore_glob", "lf", "collectonly")
        asked = {(self._config.invocation_params.dir / argument).resolve() for argument in self._config.args}
        has_all = not asked.isdisjoint({HERE, *HERE.parents})
        return has_all and not any(self._config.getoption(name, default=None) for name in narrowed)
