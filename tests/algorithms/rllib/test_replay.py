# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgegen.algorithms.rllib.replay import TensorReplay
from edgegen.envs.core.errors import InputError


def rows(values):
    return {"x": torch.tensor(values, dtype=torch.float32)}


def test_only_valid_rows_are_kept_in_order():
    replay = TensorReplay(groups=2, capacity=4)
    replay.add(rows([[1, 2, 3], [4, 5, 6]]), torch.tensor([[True, False, True], [False, False, True]]))
    assert replay.sizes.tolist() == [2, 1]
    assert replay.columns["x"].tolist() == [[1, 3, 0, 0], [6, 0, 0, 0]]


@given(
    capacity=st.integers(1, 7),
    chunks=st.lists(st.lists(st.booleans(), max_size=12), min_size=1, max_size=6),
)
def test_ring_holds_what_a_bounded_queue_would(capacity, chunks):
    replay, expected, counter = TensorReplay(1, capacity), [], 0
    for chunk in chunks:
        values = list(range(counter, counter + len(chunk)))
        counter += len(chunk)
        replay.add(rows([values]), torch.tensor([chunk], dtype=torch.bool))
        expected += [value for value, keep in zip(values, chunk, strict=True) if keep]
    held = replay.columns["x"][0, : int(replay.sizes[0])].tolist()
    assert sorted(held) == sorted(float(v) for v in expected[-capacity:])


def test_sampling_is_uniform_over_each_ring():
    replay = TensorReplay(2, 8, seed=1)
    replay.add(rows([[0, 1, 2, 3], [4, 5, 6, 7]]), torch.tensor([[True] * 4, [True, True, False, False]]))
    drawn = replay.sample(8_000)["x"]
    assert drawn.shape == (8_000, 2)
    assert torch.bincount(drawn[:, 0].long(), minlength=4).div(8_000).tolist() == pytest.approx([0.25] * 4, abs=0.03)
    assert set(drawn[:, 1].tolist()) == {4.0, 5.0}


def test_state_round_trip_continues_the_same_samples():
    replay = TensorReplay(2, 5, seed=3)
    generator = torch.Generator().manual_seed(0)
    replay.add({"x": torch.rand(2, 9, 3, generator=generator)}, torch.ones(2, 9, dtype=torch.bool))
    replay.sample(4)
    twin = TensorReplay(2, 5, seed=99)
    twin.set_state(replay.get_state())
    more = {"x": torch.rand(2, 3, 3, generator=generator)}
    for each in (replay, twin):
        each.add(more, torch.ones(2, 3, dtype=torch.bool))
    assert torch.equal(replay.sample(16)["x"], twin.sample(16)["x"])


def test_state_of_another_shape_is_refused():
    state = TensorReplay(3, 5).get_state()
    with pytest.raises(ValueError, match="2 rings, the saved one 3"):
        TensorReplay(2, 5).set_state(state)


def test_more_than_the_memory_holds_is_refused_before_it_is_taken():
    replay = TensorReplay(2, 10**12)
    said = r"1000000000000 transitions for each of 2 learners takes 2.4e\+04 GB, .* choose a smaller replay_capacity"
    with pytest.raises(InputError, match=said):
        replay.add({"x": torch.zeros(2, 3, 3)}, torch.ones(2, 3, dtype=torch.bool))
