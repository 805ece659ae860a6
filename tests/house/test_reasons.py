"""Every check that is switched off says why, where it is switched off."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from house.conftest import SourceFile

_SWITCHED_OFF = re.compile(r"#\s*(?:noqa|type:\s*ignore|pragma:\s*no cover|ruff:|mypy:)")
_RULES = r"noqa:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*"
_CODES = r"type:\s*ignore\[[\w-]+(?:,\s*[\w-]+)*\]"
_WITH_REASON = re.compile(rf"#\s*(?:{_RULES}|{_CODES}|pragma:\s*no cover)\s+#\s*\S+ \S+")
_STRING_ITEM = re.compile(r'^\s*"[^"]+",?\s*(?P<comment>#.*)?$')


def test_every_suppression_in_code_names_its_rule_and_its_reason(everything: list[SourceFile]) -> None:
    silent = [
        f"{file.path}:{number}: {line.strip()}"
        for file in everything
        if not file.path.startswith("tests/house/")
        for number, line in enumerate(file.lines, start=1)
        if _SWITCHED_OFF.search(line) and not _WITH_REASON.search(line)
    ]

    assert not silent, "write '# noqa: RULE  # reason', '# type: ignore[code]  # reason'"


def _ignore_lists(pyproject: str) -> list[str]:
    """Lines of the lists that switch rules of ruff off: `ignore = [` and everything in per-file-ignores."""
    lines = []
    section = ""
    inside = False
    for line in pyproject.splitlines():
        if line.startswith("["):
            section, inside = line, False
        elif section.startswith("[tool.ruff.lint") and re.match(r'(ignore|"[^"]+") = \[', line):
            inside = True
            lines += re.findall(r'"[A-Z]+\d*"', line)
        elif inside and line.startswith("]"):
            inside = False
        elif inside:
            lines.append(line)
    return lines


def test_every_rule_of_ruff_that_is_ignored_has_its_reason(root: Path) -> None:
    lines = _ignore_lists((root / "pyproject.toml").read_text(encoding="utf-8"))

    silent = [line for line in lines if not (item := _STRING_ITEM.match(line)) or not item["comment"]]

    assert lines, "the lists of ignored rules were not found in pyproject.toml"
    assert not silent, "one rule a line, with its reason behind it"
