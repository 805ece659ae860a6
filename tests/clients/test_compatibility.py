"""The table of docs/compatibility.md: how it is made of what tests showed, and that the page has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clients.compatibility import BEGIN, END, PAGE, Claim, difference, table, written
from clients.connecting import CLIENTS

from clients import compatibility

if TYPE_CHECKING:
    import pytest

SHOWN = [
    Claim("queries", "ADBC"),
    Claim("queries", "JDBC"),
    Claim("every type", "JDBC", "one type is another"),
    Claim("every type", "JDBC"),
    Claim("savepoints", "JDBC", "it has none"),
    Claim("transactions", "JDBC", "it has none"),
]


def cells(feature: str, shown: list[Claim]) -> list[str]:
    """A row of the table, without those clients that nothing was shown of."""
    [row] = [line for line in table(shown).splitlines() if line.startswith(f"| {feature} |")]
    assert row.count("|") == len(CLIENTS) + 2
    return [cell for cell in row.split("|")[2:-1] if cell.strip()]


def test_a_cell_says_what_was_shown_and_a_note_says_why_not() -> None:
    assert cells("queries", SHOWN) == [" yes ", " yes "]
    assert cells("every type", SHOWN) == [" yes <sup>1</sup> "]
    assert cells("transactions", SHOWN) == cells("savepoints", SHOWN) == [" no <sup>2</sup> "]
    assert cells("Substrait", SHOWN) == []
    assert table(SHOWN).splitlines()[-2:] == ["1. one type is another", "2. it has none"]


def test_the_order_in_which_tests_ran_does_not_matter() -> None:
    assert table(SHOWN) == table(SHOWN[::-1] + SHOWN)


def test_what_was_written_is_what_ran_whatever_the_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    page = written(f"# Before\n\n{BEGIN}\n{END}\n\nbehind\n", SHOWN)
    monkeypatch.setattr(compatibility, "versions", lambda: "Shown by others.")

    assert page.startswith("# Before\n")
    assert page.endswith("\nbehind\n")
    assert difference(page, SHOWN) == []
    rewritten = written(page, SHOWN)
    assert "Shown by others." in rewritten
    assert difference(rewritten, SHOWN) == []


def test_a_cell_that_changed_is_a_difference() -> None:
    page = written(f"{BEGIN}\n{END}\n", SHOWN)

    found = [line for line in difference(page, SHOWN[1:]) if line.startswith(("-|", "+|"))]

    assert [line.split("|")[1:4] for line in found] == [[" queries ", " yes ", " yes "], [" queries ", "  ", " yes "]]


def test_the_page_has_one_place_for_the_table() -> None:
    page = PAGE.read_text()

    assert (page.count(BEGIN), page.count(END)) == (1, 1)
    assert page.index(BEGIN) < page.index(END)
