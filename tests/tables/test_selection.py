"""Which segments compaction chooses: a function of the catalog's numbers."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightserver.catalog.entities import Dataset, Segment
from flightserver.tables.selection import SEGMENT_ROWS, Wanted, choose, live_bytes, parts_of

MIB = 1024 * 1024
WANTED = Wanted(target_bytes=64 * MIB, small_bytes=64 * MIB)


def _segment(name: str, size: int, *, rows: int = 1000, dead: int = 0, files: int = 1) -> Segment:
    return Segment(name, "primary", f"datasets/t/{name}", files, rows, size, "f", dead=dead)


def _dataset(*segments: Segment) -> Dataset:
    return Dataset("id", "primary", "t", b"", "f", datetime(2026, 1, 1, tzinfo=UTC), segments=segments)


def _chosen(wanted: Wanted, *segments: Segment) -> list[str]:
    return ["".join(segment.id for segment in run) for run in choose(_dataset(*segments), wanted)]


@pytest.mark.parametrize(
    ("segments", "chosen"),
    [
        ([], []),
        ([_segment("a", MIB)], []),
        ([_segment("a", MIB), _segment("b", MIB)], ["ab"]),
        ([_segment("a", MIB), _segment("B", 64 * MIB), _segment("c", MIB)], []),
        ([_segment("a", MIB), _segment("b", MIB), _segment("C", 64 * MIB), _segment("d", MIB, dead=1)], ["ab", "d"]),
        ([_segment("A", 640 * MIB, files=10, dead=1), _segment("b", MIB)], ["Ab"]),
        ([_segment("A", 640 * MIB, files=10)], []),
        ([_segment("A", 640 * MIB, files=40)], ["A"]),
        ([_segment("a", 60 * MIB), _segment("b", 60 * MIB), _segment("c", 60 * MIB)], []),
        ([_segment(name, 30 * MIB) for name in "abcdef"], ["abcdef"]),
    ],
    ids=[
        "nothing",
        "one small",
        "two small",
        "small ones apart",
        "two runs",
        "a large one with a dead row takes its neighbour along",
        "many files of a good size",
        "many small files",
        "no fewer files would come of it",
        "fewer files would come of it",
    ],
)
def test_what_is_chosen(segments: list[Segment], chosen: list[str]) -> None:
    assert _chosen(WANTED, *segments) == chosen


def test_a_share_of_dead_rows_can_be_required() -> None:
    patient = Wanted(target_bytes=64 * MIB, small_bytes=MIB, dead_ratio=0.1)

    chosen = _chosen(patient, _segment("a", 2 * MIB, dead=99), _segment("b", 2 * MIB, dead=100), _segment("c", 2 * MIB))

    assert chosen == ["b"]


def test_a_run_is_cut_for_its_rows_and_for_workers() -> None:
    large = (_segment("a", 100 * MIB, rows=3 * SEGMENT_ROWS, dead=SEGMENT_ROWS),)
    few = (_segment("a", 10 * MIB), _segment("b", 3 * MIB))
    many = Wanted(target_bytes=64 * MIB, small_bytes=64 * MIB, workers=64)

    assert live_bytes(large) == 100 * MIB * 2 // 3
    assert [parts_of(large, WANTED), parts_of(large, many)] == [3, 4]
    assert [parts_of(few, WANTED), parts_of(few, many)] == [1, 3]


@given(
    sizes=st.lists(st.tuples(st.integers(1, 300 * MIB), st.booleans()), max_size=12),
    workers=st.integers(1, 5),
)
def test_what_a_compaction_leaves_is_not_chosen_again(sizes: list[tuple[int, bool]], workers: int) -> None:
    wanted = Wanted(target_bytes=64 * MIB, small_bytes=64 * MIB, workers=workers)
    before = [
        _segment(f"{number}", size, dead=int(dead), files=-(-size // wanted.target_bytes))
        for number, (size, dead) in enumerate(sizes)
    ]
    after: list[Segment] = []
    chosen = {segment.id: run for run in choose(_dataset(*before), wanted) for segment in run}
    for segment in before:
        run = chosen.get(segment.id)
        if run is None:
            after.append(segment)
        elif run[0] is segment:
            parts = parts_of(run, wanted)
            size = live_bytes(run) // parts
            after += [
                _segment(f"{segment.id}-{part}", size, files=max(1, -(-size // wanted.target_bytes)))
                for part in range(parts)
            ]

    assert choose(_dataset(*after), wanted) == ()
