# SPDX-License-Identifier: Apache-2.0
"""Requests: streams that depend on nothing but scenario, seed and number, and distributions as described."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

from edgegen.envs.core.radio import path_gain
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.provisioning.curves import CurveTensors
from edgegen.envs.provisioning.draws import Episodes, draw_requests
from edgegen.envs.provisioning.scenario import ProvisioningScenario

DEFAULT, CONTENDED = "t2drl-default", "t2drl-contended"


def tensors(drawn: Episodes) -> dict[str, torch.Tensor]:
    named = {field.name: getattr(drawn, field.name) for field in fields(drawn)}
    curves = named.pop("curves")
    return named | {f"curve {number}": values for number, values in enumerate(curves.values())}


def draw(name: str, overrides: dict[str, Any] | None = None, seed: int = 5, episodes: int = 4) -> Episodes:
    return draw_requests(load_scenario(name, overrides), seed, range(episodes))


MOVES = {"mobility.kind": "redraw", "drift.start": "shuffled", "drift.swap": "adjacent", "fading": "rayleigh"}
ANEW = {"size_gb.drawn": "per_episode", "curves.drawn": "per_episode"}


@pytest.mark.parametrize(
    ("name", "overrides"),
    [(DEFAULT, {}), (CONTENDED, {}), (f"{CONTENDED}:cells3", MOVES | ANEW), (CONTENDED, {"size_gb.drawn": "per_seed"})],
)
def test_an_episode_is_the_same_alone_and_among_others(name: str, overrides: dict[str, Any]) -> None:
    scenario = load_scenario(name, overrides)
    many = tensors(draw_requests(scenario, 5, range(3, 9)))
    for at, number in enumerate(range(3, 9)):
        alone = tensors(draw_requests(scenario, 5, range(number, number + 1)))
        for key, values in many.items():
            assert torch.equal(values[at], alone[key][0]), key


def test_episodes_and_seeds_differ() -> None:
    drawn = draw(DEFAULT)
    assert not torch.equal(drawn.model[0], drawn.model[1])
    assert not torch.equal(drawn.gain[0], drawn.gain[1])
    assert not torch.equal(drawn.model, draw(DEFAULT, seed=6).model)


def test_how_users_move_does_not_change_what_they_ask_for() -> None:
    base = draw(DEFAULT)
    for overrides in ({"mobility.kind": "walk"}, {"fading": "none"}, {"uplink_mhz": 5}, {"size_gb.seed": 9}):
        other = draw(DEFAULT, overrides)
        assert torch.equal(other.model, base.model)
        assert torch.equal(other.upload_mbit, base.upload_mbit)
    assert torch.equal(draw(DEFAULT, {"drift.swaps_per_frame": 3}).gain, base.gain)


def test_shapes_and_ranges() -> None:
    drawn = draw(f"{CONTENDED}:cells3")
    assert drawn.model.shape == drawn.gain.shape == drawn.upload_mbit.shape == (4, 100, 3, 15)
    assert drawn.popularity.shape == drawn.frequency.shape == drawn.model_at_rank.shape == (4, 11, 3, 10)
    assert drawn.skewness_state.shape == (4, 11, 3)
    assert drawn.size_gb.shape == drawn.curves.a1_steps.shape == (4, 10)
    assert drawn.model.min() >= 0
    assert drawn.model.max() <= 9
    assert drawn.upload_mbit.min() >= 40
    assert drawn.upload_mbit.max() <= 80  # 5 to 10 MB of 8 Mbit
    assert drawn.result_mbit.mean() == pytest.approx(60, abs=1)
    torch.testing.assert_close(drawn.popularity.sum(-1), torch.ones(4, 11, 3))


def test_frequencies_are_counts_of_the_frame_before() -> None:
    drawn = draw(f"{CONTENDED}:cells3")
    assert (drawn.frequency[:, 0] == 0).all()
    for frame in (1, 7, 10):
        asked = drawn.model[:, (frame - 1) * 10 : frame * 10]  # [E, K, C, N]
        counts = torch.stack([(asked == m).sum((1, 3)) for m in range(10)], dim=-1)
        torch.testing.assert_close(drawn.frequency[:, frame], counts / 150)


def test_requests_follow_zipf() -> None:
    drawn = draw(f"{DEFAULT}:skewness1.0", {"users": 50}, episodes=40)
    share = torch.bincount(drawn.model.flatten(), minlength=10) / drawn.model.numel()
    np.testing.assert_allclose(share, load_scenario(f"{DEFAULT}:skewness1.0").rank_popularity()[0], atol=0.004)


def test_skewness_follows_its_chain() -> None:
    chain = [[0.6, 0.4, 0.0], [0.0, 0.5, 0.5], [0.9, 0.0, 0.1]]
    drawn = draw(DEFAULT, {"frames": 2000, "slots_per_frame": 1, "users": 1, "skewness.transition": chain}, episodes=10)
    before, after = drawn.skewness_state[:, :-1].flatten(), drawn.skewness_state[:, 1:].flatten()
    counts = torch.zeros(3, 3).index_put_((before, after), torch.ones(()), accumulate=True)
    np.testing.assert_allclose(counts / counts.sum(1, keepdim=True), chain, atol=0.025)
    first = draw(DEFAULT, {"skewness.initial": 0.5}, episodes=50).skewness_state[:, 0]
    assert (first == 1).all()
    uniform = draw(DEFAULT, {"frames": 1, "slots_per_frame": 1}, episodes=3000).skewness_state[:, 0, 0]
    np.testing.assert_allclose(torch.bincount(uniform) / 3000, [1 / 3] * 3, atol=0.035)


@pytest.mark.parametrize("swap", ["adjacent", "any"])
@pytest.mark.parametrize("start", ["ranked", "shuffled"])
def test_ranks_drift_by_swaps(swap: str, start: str) -> None:
    drawn = draw(CONTENDED, {"drift.swap": swap, "drift.start": start, "drift.swaps_per_frame": 1, "cells": 2})
    order = drawn.model_at_rank
    assert torch.equal(order.sort(-1).values, torch.arange(10).expand(order.shape))
    assert (order[:, 0] == torch.arange(10)).all() == (start == "ranked")
    changed = order[:, 1:] != order[:, :-1]
    assert (changed.sum(-1) == 2).all()
    first, last = changed.int().argmax(-1), 9 - changed.flip(-1).int().argmax(-1)
    assert ((last - first == 1).all()) == (swap == "adjacent")
    most = order[..., 0]  # the model of the first rank is the most popular one
    torch.testing.assert_close(drawn.popularity.gather(-1, most[..., None])[..., 0], drawn.popularity.max(-1).values)
    assert not torch.equal(order[:, :, 0], order[:, :, 1])  # cells drift on their own


def test_without_drift_a_model_keeps_its_rank() -> None:
    assert (draw(DEFAULT).model_at_rank == torch.arange(10)).all()
    single = {"models": 1, "size_gb": [3], "drift.swaps_per_frame": 2, "drift.start": "shuffled"}
    assert (draw(DEFAULT, single).model == 0).all()


def distances_m(scenario: ProvisioningScenario, drawn: Episodes) -> np.ndarray:
    """Distances from gains without fading, by turning the path loss around."""
    loss_db = -10 * np.log10(drawn.gain.double().numpy())
    return np.asarray(1000 * 10 ** ((loss_db - scenario.path_loss_db) / scenario.path_loss_db_per_decade))


@pytest.mark.parametrize("kind", ["redraw", "walk", "fixed"])
def test_users_stay_in_their_square(kind: str) -> None:
    scenario = load_scenario(DEFAULT, {"mobility.kind": kind, "mobility.sigma_m": 40, "fading": "none", "users": 40})
    distance = distances_m(scenario, draw_requests(scenario, 1, range(5)))
    assert distance.max() <= 125 * 2**0.5 * 1.0001
    # A uniform place in a square of side a is 0.3826 a from the middle, on average.
    assert distance.mean() == pytest.approx(0.3826 * 250, rel=0.05)
    moved = np.abs(np.diff(distance, axis=1)).mean()
    assert (moved == 0) == (kind == "fixed")


def test_a_walk_takes_normal_steps() -> None:
    scenario = load_scenario(DEFAULT, {"mobility": {"kind": "walk", "sigma_m": 2}, "fading": "none", "side_m": 5000})
    change = np.diff(distances_m(scenario, draw_requests(scenario, 1, range(20))), axis=1)
    assert change.std() == pytest.approx(2, rel=0.05)  # far from the server a step's way there is one of its directions


def test_distance_factors_and_the_least_distance() -> None:
    fixed = {"mobility.kind": "redraw", "fading": "none", "users": 3}
    near = load_scenario(DEFAULT, fixed)
    far = load_scenario(DEFAULT, fixed | {"distance_factor": {"low": 1, "high": 3}})
    ratio = distances_m(far, draw_requests(far, 1, range(2))) / distances_m(near, draw_requests(near, 1, range(2)))
    np.testing.assert_allclose(ratio.mean((0, 1, 2)), [1, 2, 3], rtol=1e-3)
    close = load_scenario(DEFAULT, fixed | {"min_distance_m": 500})
    np.testing.assert_allclose(distances_m(close, draw_requests(close, 1, range(2))), 500, rtol=1e-4)


def test_path_gain_by_hand() -> None:
    # 128.1 dB at 1 km, 37.6 dB less at 100 m.
    scenario = load_scenario(DEFAULT)
    gain = path_gain(np.array([1000.0, 100.0]), scenario.path_loss_db, scenario.path_loss_db_per_decade)
    np.testing.assert_allclose(gain, [10**-12.81, 10**-9.05])


@pytest.mark.parametrize(("fading", "mean"), [("exponential", 1.0), ("rayleigh", (np.pi / 2) ** 0.5), ("none", 1.0)])
def test_fading_means(fading: str, mean: float) -> None:
    still, faded = draw(DEFAULT, {"fading": "none"}, episodes=30), draw(DEFAULT, {"fading": fading}, episodes=30)
    assert float((faded.gain / still.gain).mean()) == pytest.approx(mean, rel=0.02)


def test_when_models_are_drawn_anew() -> None:
    def sizes(drawn: str, seed: int) -> torch.Tensor:
        return draw(DEFAULT, {"size_gb.drawn": drawn}, seed=seed, episodes=2).size_gb

    assert torch.equal(sizes("once", 1), sizes("once", 2))
    assert torch.equal(*sizes("once", 1))
    assert not torch.equal(sizes("per_seed", 1), sizes("per_seed", 2))
    assert torch.equal(*sizes("per_seed", 1))
    assert not torch.equal(*sizes("per_episode", 1))
    for drawn in ("once", "per_seed", "per_episode"):
        assert sizes(drawn, 1).min() >= 2
        assert sizes(drawn, 1).max() <= 10
    assert draw(DEFAULT, {"size_gb": [3.5] * 10}).size_gb.unique().tolist() == [3.5]


def test_drawn_curves_lie_in_their_ranges_and_are_prefix_stable() -> None:
    scenario = load_scenario(CONTENDED, {"models": 200})
    curves = draw_requests(scenario, 0, range(1)).curves
    for name in CurveTensors.__dataclass_fields__:
        span, values = getattr(scenario.curves, name), getattr(curves, name)
        assert span.low <= values.min() < span.low + 0.05 * (span.high - span.low)
        assert span.high >= values.max() > span.high - 0.05 * (span.high - span.low)
    assert (curves.a1_steps % 1 == 0).all()
    assert (curves.a3_steps % 1 == 0).all()
    few = draw(CONTENDED).curves
    assert torch.equal(few.b2_s[0], curves.b2_s[0, :10])
