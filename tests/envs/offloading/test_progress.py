# SPDX-License-Identifier: Apache-2.0
"""When work is done on servers that slow down and fail: by hand, and against a plain loop."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegen.envs.offloading.physics import Progress


def progress(capacity: list[float], share: list[list[float]], slot_s: float = 1.0) -> Progress:
    """Make one copy; ``share`` is ``[K, B]``."""
    return Progress.of(torch.tensor([capacity]), torch.tensor([share]), slot_s)


def test_by_hand() -> None:
    # 10 Gcycle/s: whole, failed, half, and whole from then on. 2 Gcycle/s: never in trouble.
    made = progress([10, 2], [[1, 1], [0, 1], [0.5, 1]])
    queue = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])
    work = torch.tensor([0, 5, 10, 11, 15, 25, 5, 8.0])
    #                    now, half a slot, its end; 1 of 5 in the third slot; its end; one more after 3 slots
    expected = [0, 0.5, 1, 2.2, 3, 4, 2.5, 4]
    assert made.time_to(queue, work).tolist() == pytest.approx(expected)
    assert progress([10], [[0], [1]], slot_s=2.0).time_to(torch.tensor([0, 0]), torch.tensor([0, 10.0])).tolist() == [
        0,
        3,
    ]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=3, max_size=3), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 2), st.one_of(st.just(0.0), st.floats(1e-3, 200))), min_size=1, max_size=12),
)
def test_it_is_a_plain_loop(share: list[list[float]], entries: list[tuple[int, float]]) -> None:
    capacity = [4.0, 9.0, 30.0]
    got = progress(capacity, share, 0.5).time_to(
        torch.tensor([q for q, _ in entries]), torch.tensor([w for _, w in entries], dtype=torch.float64)
    )
    for (queue, work), time_s in zip(entries, got.tolist(), strict=True):
        clock, left = 0.0, work
        for row in share:
            speed = capacity[queue] * row[queue]
            if left <= speed * 0.5 and (speed > 0 or left == 0):
                clock += left / speed if left else 0.0
                left = 0.0
                break
            clock, left = clock + 0.5, left - speed * 0.5
        clock += left / capacity[queue]
        assert time_s == pytest.approx(clock, abs=1e-6)
