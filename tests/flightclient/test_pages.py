"""Paged results: any page, in any order, any number of times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from flightclient.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightclient import Client, PagedResult

TEN = "SELECT value FROM generate_series(1, 10) ORDER BY value"


@pytest.fixture
def result(client: Client) -> Iterator[PagedResult]:
    """The numbers from 1 to 10 in pages of 3."""
    with client.pages(TEN, page_rows=3) as opened:
        yield opened


def numbers(page: object) -> list[int]:
    return [row["value"] for row in page.to_pylist()]  # type: ignore[attr-defined]  # a pyarrow.Table


def test_a_result_tells_its_facts(result: PagedResult) -> None:
    assert (result.rows, result.pages, result.page_rows, len(result)) == (10, 4, 3, 4)
    assert result.schema.names == ["value"]
    assert result.expires_at.tzinfo is not None


def test_pages_come_in_any_order_any_number_of_times(result: PagedResult) -> None:
    assert [numbers(result.page(n)) for n in (3, 0, 3, 1)] == [[10], [1, 2, 3], [10], [4, 5, 6]]


def test_a_result_is_a_sequence(result: PagedResult) -> None:
    assert numbers(result[-1]) == [10]
    assert [numbers(page) for page in result[1:3]] == [[4, 5, 6], [7, 8, 9]]
    assert [numbers(page) for page in result] == [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10]]
    with pytest.raises(IndexError):
        result[4]


def test_a_page_may_have_another_size(result: PagedResult) -> None:
    assert numbers(result.page(1, page_rows=7)) == [8, 9, 10]


def test_parameters_are_bound(client: Client) -> None:
    with client.pages("SELECT value FROM generate_series(1, 10) WHERE value > ?", 100, parameters=[8]) as result:
        assert numbers(result[0]) == [9, 10]


def test_a_result_without_rows_has_one_empty_page(client: Client) -> None:
    with client.pages("SELECT 1 AS one WHERE false", page_rows=3) as result:
        assert (result.rows, len(result), result[0].num_rows) == (0, 1, 0)


@pytest.mark.parametrize("number", [-1, 4])
def test_a_page_that_is_not_there_says_how_many_there_are(result: PagedResult, number: int) -> None:
    with pytest.raises(NotFound, match=f"page {number} was asked for; the result has 4 pages"):
        result.page(number)


def test_a_page_size_of_zero_is_refused(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="page_rows is 0"):
        client.pages(TEN, page_rows=0)


def test_renewing_keeps_a_result_for_longer(result: PagedResult) -> None:
    before = result.expires_at

    assert result.renew() > before
    assert result.expires_at > before


def test_a_closed_result_is_gone_and_may_be_closed_again(result: PagedResult) -> None:
    result.close()
    result.close()

    with pytest.raises(NotFound, match="was closed"):
        result.page(0)
    with pytest.raises(NotFound, match="was closed"):
        result.renew()
