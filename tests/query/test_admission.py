"""Admission: how many run, who waits, who is refused, and in which order slots are handed on."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from flightserver.errors import Cancelled, Overloaded
from flightserver.query.admission import Admission

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENT = 60.0
"""Longer than any test waits."""


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.001)


def test_slots_are_given_at_once_up_to_the_limit() -> None:
    admission = Admission(max_running=2, max_waiting=0, wait_seconds=PATIENT)
    with admission.slot(), admission.slot():
        assert admission.counts().running == 2
    assert admission.counts().running == 0


def test_whoever_comes_when_the_queue_is_full_is_refused_at_once_and_told_why() -> None:
    admission = Admission(max_running=1, max_waiting=0, wait_seconds=PATIENT)
    with admission.slot(), pytest.raises(Overloaded, match="1 statements are running and 0 are waiting; at most 0 may"):
        admission.slot()
    assert admission.counts().refused == 1
    admission.slot().release()


def test_whoever_waits_too_long_is_refused_and_leaves_the_queue() -> None:
    admission = Admission(max_running=1, max_waiting=1, wait_seconds=0.05)
    with admission.slot():
        with pytest.raises(Overloaded, match=r"this one has waited 0\.05 seconds\. Try again later"):
            admission.slot()
        assert (admission.counts().waiting, admission.counts().refused) == (0, 1)


def test_a_wait_ends_when_the_statement_is_cancelled() -> None:
    admission = Admission(max_running=1, max_waiting=1, wait_seconds=PATIENT)
    cancelled = threading.Event()
    caught: list[Cancelled] = []

    def wait() -> None:
        with pytest.raises(Cancelled, match="cancelled while it waited to run") as raised:
            admission.slot(cancelled.is_set)
        caught.append(raised.value)

    with admission.slot():
        thread = in_thread(wait)
        until(lambda: admission.counts().waiting == 1)
        cancelled.set()
        thread.join()
    assert len(caught) == 1
    assert (admission.counts().cancelled, admission.counts().waiting, admission.counts().running) == (1, 0, 0)


def test_slots_are_handed_on_in_the_order_of_arrival() -> None:
    admission = Admission(max_running=1, max_waiting=20, wait_seconds=PATIENT)
    order: list[int] = []

    def run(number: int) -> None:
        with admission.slot():
            order.append(number)

    with admission.slot():
        threads = []
        for number in range(20):
            threads.append(in_thread(lambda number=number: run(number)))  # type: ignore[misc]  # the default binds it
            until(lambda number=number: admission.counts().waiting == number + 1)  # type: ignore[misc]  # as above
    for thread in threads:
        thread.join()
    assert order == list(range(20))


def test_a_slot_may_be_released_by_any_thread_and_counts_once() -> None:
    admission = Admission(max_running=1, max_waiting=0, wait_seconds=PATIENT)
    slot = admission.slot()
    threads = [in_thread(slot.release) for _ in range(10)]
    for thread in threads:
        thread.join()
    assert admission.counts().running == 0
    with admission.slot(), pytest.raises(Overloaded):
        admission.slot()


def test_a_slot_is_released_when_its_statement_fails() -> None:
    admission = Admission(max_running=1, max_waiting=0, wait_seconds=PATIENT)
    with pytest.raises(ZeroDivisionError), admission.slot():
        _ = 1 / 0
    assert admission.counts().running == 0


def test_never_more_run_than_may_and_every_slot_comes_back() -> None:
    admission = Admission(max_running=3, max_waiting=4, wait_seconds=0.002)
    running: list[int] = []
    most: list[int] = []
    refused: list[int] = []

    def work(number: int) -> None:
        for _ in range(100):
            try:
                with admission.slot(lambda: False):
                    running.append(number)
                    most.append(len(running))
                    time.sleep(0.0005)
                    running.remove(number)
            except Overloaded:
                refused.append(number)

    threads = [in_thread(lambda number=number: work(number)) for number in range(12)]  # type: ignore[misc]  # as above
    for thread in threads:
        thread.join()
    counts = admission.counts()
    assert max(most) == 3
    assert (counts.running, counts.waiting) == (0, 0)
    assert (counts.admitted, counts.refused) == (len(most), len(refused))
    assert counts.admitted + counts.refused == 1200


def test_one_user_runs_half_of_what_all_may_and_others_find_room() -> None:
    admission = Admission(max_running=4, max_waiting=0, wait_seconds=PATIENT)
    with admission.slot(user="ann"), admission.slot(user="ann"):
        with pytest.raises(Overloaded):
            admission.slot(user="ann")
        with admission.slot(user="bob"), admission.slot(user="bob"):
            assert admission.counts().running == 4


def test_nobody_in_particular_may_use_everything() -> None:
    admission = Admission(max_running=2, max_waiting=0, wait_seconds=PATIENT)
    with admission.slot(), admission.slot():
        assert admission.counts().running == 2


def test_the_limit_of_a_user_is_named_where_it_is_the_reason() -> None:
    admission = Admission(max_running=4, max_waiting=2, wait_seconds=0.2, max_per_user=1)

    def refused() -> None:
        with pytest.raises(Overloaded):
            admission.slot(user="ann")

    with admission.slot(user="ann"):
        with pytest.raises(
            Overloaded, match="1 of them of user 'ann', which is the most of one user; this one has wai"
        ):
            admission.slot(user="ann")
        waiting = in_thread(refused)
        until(lambda: admission.counts().waiting == 1)
        with pytest.raises(
            Overloaded, match="1 statements of user 'ann' are running and 1 are waiting; at most 1 of one"
        ):
            admission.slot(user="ann")
        waiting.join()


def test_users_take_turns_however_many_statements_one_has_waiting() -> None:
    admission = Admission(max_running=1, max_waiting=40, wait_seconds=PATIENT)
    order: list[str] = []

    def run(user: str) -> None:
        with admission.slot(user=user):
            order.append(user)

    threads = []
    with admission.slot():
        for number, user in enumerate(["ann"] * 20 + ["bob"] * 3):
            threads.append(in_thread(lambda user=user: run(user)))  # type: ignore[misc]  # as above
            until(lambda number=number: admission.counts().waiting == number + 1)  # type: ignore[misc]  # as above
    for thread in threads:
        thread.join()
    assert order == ["ann", "bob"] * 3 + ["ann"] * 17


def test_no_user_runs_more_than_one_may_and_everybody_gets_through() -> None:
    admission = Admission(max_running=3, max_waiting=64, wait_seconds=PATIENT, max_per_user=2)
    lock = threading.Lock()
    running: list[str] = []
    most = {"ann": 0, "bob": 0, "cid": 0, "all": 0}

    def work(user: str) -> None:
        for _ in range(60):
            with admission.slot(user=user) as slot:
                with lock:
                    running.append(user)
                    most[user] = max(most[user], running.count(user))
                    most["all"] = max(most["all"], len(running))
                time.sleep(0.0002)
                with lock:
                    running.remove(user)
                slot.pause()
                slot.resume()

    threads = [in_thread(lambda user=user: work(user)) for user in ["ann"] * 6 + ["bob"] * 3 + ["cid"]]  # type: ignore[misc]  # as above
    for thread in threads:
        thread.join()
    assert most == {"ann": 2, "bob": 2, "cid": 1, "all": 3}
    counts = admission.counts()
    assert (counts.running, counts.waiting, counts.admitted, counts.refused) == (0, 0, 600, 0)
