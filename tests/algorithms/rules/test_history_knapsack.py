# SPDX-License-Identifier: Apache-2.0
"""Caching by past requests: expected shares and the best cache by hand, and what each of the two rules looks at."""

import itertools
from dataclasses import replace

import pytest
import torch

from edgegen.algorithms.rules.history_knapsack import Beliefs, FrameBeliefs, FrameKnapsack, HistoryKnapsack
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.provisioning.view import CACHER, CacherView
from edgegen.envs.provisioning.world import ProvisioningWorld

SCENARIO = load_scenario("t2drl-contended")


@pytest.fixture
def seen() -> CacherView:
    """The first frame, with two frames of made-up requests: model 0, then model 1, and nothing else."""
    view = ProvisioningWorld(SCENARIO).reset(seed=3)
    assert isinstance(view, CacherView)
    history = torch.zeros(1, 2, 1, SCENARIO.models)
    history[0, 0, 0, 0] = history[0, 1, 0, 1] = 1
    return replace(view, frame=2, history=history)


def best_by_hand(view: CacherView, expected: torch.Tensor, saving: torch.Tensor) -> list[bool]:
    """The cache of the highest sum among all that fit."""
    values, size = (expected * saving).tolist(), view.size_gb[0, 0].tolist()
    room = float(view.storage_gb[0, 0])
    fitting = [
        c for c in itertools.product([False, True], repeat=len(size)) if sum(itertools.compress(size, c)) <= room
    ]
    return list(max(fitting, key=lambda cache: sum(itertools.compress(values, cache))))


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("prior", [0.01, 3.0])
def test_the_cache_is_the_best_by_decayed_shares_and_savings(seen: CacherView, decay: float, prior: float) -> None:
    rule = HistoryKnapsack(SCENARIO, Beliefs(decay=decay, prior=prior))
    shares = prior * seen.static_popularity[0, 0].double()
    shares[1] += 1
    shares[0] += decay
    expected = shares / (1 + decay + prior)
    assert float(expected.sum()) == pytest.approx(1)
    cache, _ = rule.act(CACHER, seen, {})
    assert cache[0, 0].tolist() == best_by_hand(seen, expected, rule.saving(seen.curves)[0])


def test_what_a_hit_saves_by_hand(seen: CacherView) -> None:
    rule = HistoryKnapsack(SCENARIO, Beliefs(step_price=0.0))
    a1, a2, a3, a4, b1, b2 = (float(values[0, 0]) for values in seen.curves.values())
    weight = SCENARIO.delay_weight
    amount_mbit = (
        8 * (SCENARIO.upload_mb.low + SCENARIO.upload_mb.high + SCENARIO.result_mb.low + SCENARIO.result_mb.high) / 2
    )
    detour_s = amount_mbit / (SCENARIO.backhaul_mbit_s / (SCENARIO.cells * SCENARIO.users))
    miss = weight * (detour_s + SCENARIO.cloud_time_factor * (b1 * a3 + b2)) + (1 - weight) * a4

    def hit(steps: int) -> float:
        tv = a2 + (a4 - a2) * min(max((steps - a1) / (a3 - a1), 0), 1)
        return float(weight * (b1 * steps + b2) + (1 - weight) * tv)

    best = min(hit(steps) for steps in (0, int(a3), int(a3) + 1))
    assert float(rule.saving(seen.curves)[0, 0]) == pytest.approx(miss - best, rel=1e-5)
    dearer = HistoryKnapsack(SCENARIO, Beliefs(step_price=1.0)).saving(seen.curves)
    assert (dearer <= rule.saving(seen.curves) + 1e-9).all()


def test_the_other_rule_sees_the_frame_before_alone(seen: CacherView) -> None:
    beliefs = Beliefs(decay=1.0, prior=0.01)
    other = replace(seen, history=seen.history.flip(3)[:, :1].repeat(1, 2, 1, 1))
    other.history[0, 1] = seen.history[0, 1]  # the newest frame is the same, the older one is not
    frame = FrameKnapsack(SCENARIO, FrameBeliefs(prior=0.01))
    assert torch.equal(frame.act(CACHER, seen, {})[0], frame.act(CACHER, other, {})[0])
    first = replace(seen, history=seen.history[:, :0])
    for rule in (frame, HistoryKnapsack(SCENARIO, beliefs)):  # before any request there is what is known beforehand
        cache, _ = rule.act(CACHER, first, {})
        expected = seen.static_popularity[0, 0].double()
        assert cache[0, 0].tolist() == best_by_hand(seen, expected, rule.saving(seen.curves)[0])
