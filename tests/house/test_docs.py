"""The documentation names what the code has."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

import flightserver.errors
from flightserver.errors import FlightserverError
from flightserver.flight.status import to_flight_error
from flightserver.ingest.options import CsvOptions, JsonOptions
from flightserver.query.system import SYSTEM_SCHEMAS
from flightserver.settings import Settings
from flightserver.telemetry import Metrics

if TYPE_CHECKING:
    from pathlib import Path

_COMMAND = re.compile(r"add_parser\(\s*\"(?P<name>[a-z-]+)\"")


def _page(root: Path, name: str) -> str:
    return (root / "docs" / name).read_text(encoding="utf-8")


def _error_classes() -> list[type[FlightserverError]]:
    return [
        value
        for value in vars(flightserver.errors).values()
        if isinstance(value, type) and issubclass(value, FlightserverError) and "code" in vars(value)
    ]


def _words_of(camel_case: str) -> str:
    """`InvalidArgument` -> `INVALID_ARGUMENT`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", camel_case).upper()


def test_every_error_code_has_its_row_in_the_table_of_errors(root: Path) -> None:
    page = _page(root, "errors.md")

    missing = [
        f"{error.code} {error.__name__}"
        for error in _error_classes()
        if error is not FlightserverError
        and not re.search(rf"^\| `{error.code}` \| {error.__name__} \|", page, re.MULTILINE)
    ]

    assert not missing, "add a row to docs/errors.md"


def test_the_table_of_errors_has_the_status_that_a_client_sees(root: Path) -> None:
    rows = re.findall(r"^\| `FS-\d{4}` \| (\w+) \| (\w+) \|", _page(root, "errors.md"), re.MULTILINE)

    sent = {
        error.__name__: _words_of(type(to_flight_error(error("a message"), "DoGet")).__name__.removesuffix("Status"))
        for error in _error_classes()
        if error is not FlightserverError
    }

    assert dict(rows) == sent


def test_the_table_of_errors_has_no_code_that_does_not_exist(root: Path) -> None:
    known = {error.code for error in _error_classes()}

    assert set(re.findall(r"FS-\d{4}", _page(root, "errors.md"))) <= known


def test_every_setting_has_its_row_with_its_default(root: Path) -> None:
    """Defaults that depend on the machine or are empty are described in words."""
    rows = dict(re.findall(r"^\| `([a-z]+\.[a-z_]+)` \| ([^|]+?) \|", _page(root, "configuration.md"), re.MULTILINE))
    settings = Settings()
    documented = {}
    expected = {}
    for section in Settings.__struct_fields__:
        for field in msgspec.structs.fields(getattr(settings, section)):
            name = f"{section}.{field.name}"
            literal = field.default is not msgspec.NODEFAULT and field.default not in {(), ""}
            expected[name] = str(field.default) if literal else ""
            documented[name] = rows.get(name, "no row") if literal or name not in rows else ""

    assert documented == expected


def test_the_configuration_page_has_no_setting_that_does_not_exist(root: Path) -> None:
    known = {name for name, _ in Settings().rows()}

    assert set(re.findall(r"^\| `([a-z]+\.[a-z_]+)` \|", _page(root, "configuration.md"), re.MULTILINE)) <= known


def test_every_system_table_is_described_with_its_columns(root: Path) -> None:
    rows = re.findall(r"^\| `system\.(\w+)` \| [^|]+ \| ([^|]+) \|$", _page(root, "sql.md"), re.MULTILINE)

    described = {table: columns.split(", ") for table, columns in rows}

    assert described == {table: schema.names for table, schema in SYSTEM_SCHEMAS.items()}


def test_every_metric_has_its_row(root: Path) -> None:
    rows = re.findall(r"^\| (`flightserver_[^|]+) \|", _page(root, "operations.md"), re.MULTILINE)

    described = {name for row in rows for name in re.findall(r"`(flightserver_\w+)`", row)}

    shown = re.findall(r"^# TYPE (flightserver_\w+) ", Metrics().exposition().decode(), re.MULTILINE)
    assert described == {name for name in shown if not name.endswith("_created")}


def test_every_option_of_ingest_is_described(root: Path) -> None:
    page = _page(root, "ingest.md")

    missing = [name for kind in (CsvOptions, JsonOptions) for name in kind.__struct_fields__ if f"`{name}`" not in page]

    assert not missing, "add these to docs/ingest.md"


def test_every_command_is_on_the_page_of_commands(root: Path) -> None:
    page = _page(root, "commands.md")
    source = "\n".join(
        path.read_text(encoding="utf-8") for path in sorted((root / "flightserver" / "cli").glob("*.py"))
    )

    missing = [name for name in _COMMAND.findall(source) if f"flightserver {name}" not in page]

    assert not missing, "add these to docs/commands.md"


def test_every_page_is_in_the_navigation(root: Path) -> None:
    pages = {path.relative_to(root / "docs").as_posix() for path in (root / "docs").rglob("*.md")}
    _, navigation = (root / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")

    listed = set(re.findall(r"[\w/-]+\.md", navigation))

    assert pages == listed


def test_every_link_of_the_top_pages_leads_to_a_file(root: Path) -> None:
    """Links within docs/ are checked by mkdocs."""
    links = [
        (page, link)
        for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", (root / page).read_text(encoding="utf-8"))
    ]

    assert links
    assert not [(page, link) for page, link in links if not (root / link).is_file()]


def test_every_python_example_of_the_docs_is_python(root: Path) -> None:
    """Those of the README are run; these are at least complete enough to be read by the compiler."""
    for page in sorted((root / "docs").glob("*.md")):
        if page.name != "architecture.md":
            for example in re.findall(
                r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
            ):
                compile(example, page.name, "exec")
