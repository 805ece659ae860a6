"""Mutations of every message that the server knows: refused cleanly, or done; never more."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from fuzz.commands import Mutation, corpus, mutation, prepare
from fuzz.target import COUNT, Answer, Target, field, shown

from flightserver.flight.sql.protocol import FLIGHT_PACKAGE, message_class

if TYPE_CHECKING:
    from pathlib import Path

_ALIVE_FOR = 200
"""Mutations with the same handles; some close what others use."""


def _run(target: Target, mutated: Mutation) -> tuple[Answer, list[str]]:
    """Sends a message; fetches what a FlightInfo promises."""
    answer, wrong = target.checked(mutated.rpc, mutated.given, mutated.headers)
    if mutated.rpc == "GetFlightInfo" and not answer.failed:
        info = message_class(f"{FLIGHT_PACKAGE}.FlightInfo").FromString(answer.messages[0])
        for endpoint in info.endpoint[:1]:
            answer, found = target.checked("DoGet", field(1, endpoint.ticket.ticket))
            wrong += found
    return answer, wrong


@pytest.mark.timeout(3600)
def test_mutated_messages_are_refused_with_a_code_or_done(tmp_path: Path, record_testsuite_property: Any) -> None:
    wrong: list[str] = []
    figures: Counter[str] = Counter()
    with Target(tmp_path) as target:
        for number in range(COUNT):
            if number % _ALIVE_FOR == 0:
                cases = corpus(target, prepare(target))
            mutated = mutation(number, cases)
            answer, complaints = _run(target, mutated)
            figures[f"{mutated.rpc} {answer.code}"] += 1
            if complaints:
                wrong.append(shown(number, mutated.rpc, mutated.sent, answer, complaints))
            if not target.lives():
                break
        wrong += target.log_complaints()
        assert not wrong, "\n".join(wrong[:20])
        assert target.stop() == 0
    record_testsuite_property("answers to mutated messages", dict(figures))
    assert sum(figures.values()) == COUNT
