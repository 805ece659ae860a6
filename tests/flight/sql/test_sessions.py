"""Session options and the store of sessions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightserver.errors import NotFound
from flightserver.flight.sql.options import SessionOptions, changed
from flightserver.flight.sql.results import SessionOptionError
from flightserver.flight.sql.sessions import NO_SESSION, Sessions

if TYPE_CHECKING:
    from flightserver.flight.sql.messages import SessionValue


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("catalog", "lakehouse", "lakehouse"),
        ("schema", "Any Name", "Any Name"),
        ("bucket", "testing", "testing"),
        ("profile", "analyst", "analyst"),
        ("as_of", 42, 42),
        ("as_of", "42", 42),
        ("as_of", "2026-11-21T09:30:00+00:00", datetime(2026, 11, 21, 9, 30, tzinfo=UTC)),
        ("as_of", "2026-11-21 09:30", datetime(2026, 11, 21, 9, 30, tzinfo=UTC)),
        ("query_timeout", 30, 30.0),
        ("query_timeout", "0.5", 0.5),
        ("page_rows", 1000, 1000),
        ("page_rows", "1000", 1000),
        ("page_rows", 1000.0, 1000),
    ],
)
def test_an_option_is_set_by_a_value_of_its_kind(name: str, value: SessionValue, expected: object) -> None:
    options, rejected = changed(SessionOptions(), {name: value})

    assert rejected == {}
    assert getattr(options, name) == expected


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("catalog", "other", "the only catalog is 'lakehouse', found 'other'"),
        ("schema", 7, "expected text"),
        ("schema", "x" * 256, "expected text of 1 to 255"),
        ("bucket", "Testing", "can't name a bucket"),
        ("as_of", "yesterday", "expected a version or an ISO 8601 time"),
        ("as_of", -1, "expected a version"),
        ("as_of", 1.5, "expected a version"),
        ("as_of", True, "expected a version"),
        ("as_of", "9" * 5000, "expected a version"),
        ("as_of", 2**63, "expected a version"),
        ("query_timeout", 0, "greater than 0"),
        ("query_timeout", "nan", "greater than 0"),
        ("query_timeout", True, "expected a number"),
        ("query_timeout", ("1",), "expected a number"),
        ("page_rows", 0, "whole number from 1"),
        ("page_rows", 1.5, "whole number from 1"),
        ("page_rows", float("inf"), "whole number from 1"),
        ("page_rows", 10_000_000, "whole number from 1 to 1000000"),
    ],
)
def test_a_value_of_another_kind_is_rejected(name: str, value: SessionValue, reason: str) -> None:
    options, rejected = changed(SessionOptions(), {name: value})

    assert options == SessionOptions()
    assert rejected[name].error is SessionOptionError.INVALID_VALUE
    assert reason in rejected[name].reason


def test_a_rejected_option_does_not_keep_others_from_being_set() -> None:
    options, rejected = changed(SessionOptions(schema="a"), {"color": "red", "schema": "b", "page_rows": -1})

    assert options == SessionOptions(schema="b")
    assert {name: one.error.name for name, one in rejected.items()} == {
        "color": "INVALID_NAME",
        "page_rows": "INVALID_VALUE",
    }
    assert "only catalog, schema, bucket" in rejected["color"].reason


def test_none_clears_an_option() -> None:
    assert changed(SessionOptions(schema="a", page_rows=5), {"schema": None})[0] == SessionOptions(page_rows=5)


@given(
    st.dictionaries(
        st.sampled_from([*SessionOptions().__slots__, "other"]),
        st.none() | st.text() | st.booleans() | st.integers() | st.floats() | st.lists(st.text()).map(tuple),
    )
)
def test_whatever_a_client_sets_is_set_or_rejected_and_can_be_set_again(changes: dict[str, Any]) -> None:
    options, rejected = changed(SessionOptions(), changes)

    assert set(rejected) <= set(changes)
    assert changed(SessionOptions(), options.values()) == (options, {})


def test_a_session_begins_with_the_first_option_and_is_found_by_its_id() -> None:
    sessions = Sessions()

    session, _ = sessions.set_options("", {"schema": "testing"})
    again, _ = sessions.set_options(session.id, {"page_rows": 10})

    assert again.id == session.id
    assert sessions.find(session.id).options == SessionOptions(schema="testing", page_rows=10)
    assert len(sessions) == 1


def test_clients_without_a_session_have_the_defaults() -> None:
    sessions = Sessions()

    assert sessions.find("unknown") is NO_SESSION
    assert sessions.options("") == SessionOptions()
    assert len(sessions) == 0


def test_ids_are_long_and_never_chosen_by_the_client() -> None:
    sessions = Sessions()

    session, _ = sessions.set_options("chosen", {"schema": "a"})

    assert session.id != "chosen"
    assert len(session.id) == 27
    assert sessions.find("chosen") is NO_SESSION


def test_a_closed_session_is_unknown() -> None:
    sessions = Sessions()
    session, _ = sessions.set_options("", {"schema": "a"})

    sessions.close(session.id)

    with pytest.raises(NotFound, match="No session has this id"):
        sessions.options(session.id)
    with pytest.raises(NotFound, match="No session has this id"):
        sessions.close(session.id)


def test_a_session_is_forgotten_when_nobody_uses_it() -> None:
    clock = Clock()
    sessions = Sessions(idle_seconds=60, clock=clock)
    used, _ = sessions.set_options("", {"schema": "a"})
    unused, _ = sessions.set_options("", {"schema": "b"})

    for _ in range(3):
        clock.now += 40
        sessions.find(used.id)

    assert sessions.find(unused.id) is NO_SESSION
    assert sessions.find(used.id).options.schema == "a"
    clock.now += 61
    assert len(sessions) == 0


def test_of_too_many_sessions_the_least_recently_used_is_forgotten() -> None:
    sessions = Sessions(max_sessions=2)
    first, _ = sessions.set_options("", {"schema": "1"})
    second, _ = sessions.set_options("", {"schema": "2"})
    sessions.find(first.id)

    sessions.set_options("", {"schema": "3"})

    assert sessions.find(second.id) is NO_SESSION
    assert sessions.find(first.id).options.schema == "1"


def test_who_has_most_sessions_loses_own_ones_first() -> None:
    sessions = Sessions(max_sessions=4)
    ada, _ = sessions.set_options("", {"schema": "1"}, "ada")
    mine = [sessions.set_options("", {"schema": "2"}, "eve")[0] for _ in range(5)]

    assert sessions.find(ada.id, "ada") == ada
    assert [sessions.find(one.id, "eve") is NO_SESSION for one in mine] == [True, True, False, False, False]
    assert sessions.find(ada.id, "eve") is NO_SESSION


def test_threads_that_set_options_of_one_session_lose_none() -> None:
    sessions = Sessions()
    session, _ = sessions.set_options("", {"schema": "a"})
    changes: list[dict[str, SessionValue]] = [{"page_rows": 5}, {"profile": "p"}, {"as_of": 3}, {"bucket": "b"}] * 50

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda change: sessions.set_options(session.id, change), changes))

    assert sessions.find(session.id).options == SessionOptions(
        schema="a", page_rows=5, profile="p", as_of=3, bucket="b"
    )
