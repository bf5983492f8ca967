# SPDX-License-Identifier: Apache-2.0
"""The provisioning simulator: phases, rewards, determinism, resuming, and the levels its description promises."""

import itertools
import pickle
from dataclasses import fields
from typing import Any

import pytest
import torch

from edgegen.algorithms.rules.caching import make_provisioning_rule
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.provisioning.physics import SlotOutcome
from edgegen.envs.provisioning.world import CacheOutcome, ProvisioningWorld

DEFAULT = "t2drl-default"
SMALL = {"frames": 3, "slots_per_frame": 2}


def play(simulator: ProvisioningWorld, policy: str = "popular-random", slots: int | None = None) -> list[SlotOutcome]:
    """Play on, to the end or some slots."""
    rule, outcomes = make_provisioning_rule(policy, seed=1), list[SlotOutcome]()
    while not simulator.done and (slots is None or len(outcomes) < slots):
        if simulator.caching:
            simulator.cache(rule.act("cacher", simulator.observe_frame(), {})[0])
        outcomes.append(simulator.allocate(*rule.act("allocator", simulator.observe_slot(), {})[0].unbind(-1)))
    return outcomes


def costs(outcomes: list[SlotOutcome]) -> torch.Tensor:
    return torch.stack([outcome.cost for outcome in outcomes], dim=1)


def equal_shares(simulator: ProvisioningWorld) -> torch.Tensor:
    return torch.full((simulator.copies, simulator.scenario.cells, simulator.scenario.users), 0.1)


def test_phases_come_in_order() -> None:
    simulator = ProvisioningWorld(load_scenario(DEFAULT, SMALL), 2)
    shares, bits = equal_shares(simulator), torch.zeros(2, 1, 10)
    for frame in range(3):
        assert simulator.caching
        assert simulator.observe_frame().frame == frame
        with pytest.raises(ValueError, match=r"no frame is cached; call cache\(\)"):
            simulator.allocate(shares, shares)
        simulator.cache(bits)
        with pytest.raises(ValueError, match=r"the frame is cached; call allocate\(\)"):
            simulator.cache(bits)
        with pytest.raises(ValueError, match="no frame has just been finished"):
            simulator.frame_reward()
        for slot in range(2):
            assert simulator.turn == "allocator"
            seen = simulator.observe_slot()
            assert (seen.frame, seen.slot) == (frame, slot)
            simulator.allocate(shares, shares)
    assert simulator.done
    assert not simulator.caching
    assert simulator.observe_frame().frame == 3  # what would follow
    for call in (lambda: simulator.cache(bits), lambda: simulator.allocate(shares, shares), simulator.observe_slot):
        with pytest.raises(ValueError, match="over"):
            call()
    simulator.reset()
    with pytest.raises(ValueError, match="no frame has just been finished"):
        simulator.frame_reward()


@pytest.mark.parametrize(
    ("bits", "complaint"),
    [
        (torch.zeros(2, 10), "shape"),
        (torch.zeros(2, 1, 9), "shape"),
        (torch.full((2, 1, 10), 0.5), "0 or 1"),
        (torch.full((2, 1, 10), torch.nan), "0 or 1"),
    ],
)
def test_impossible_caching_decisions_are_refused(bits: torch.Tensor, complaint: str) -> None:
    simulator = ProvisioningWorld(load_scenario(DEFAULT, SMALL), 2)
    with pytest.raises(ValueError, match=complaint):
        simulator.cache(bits)
    assert simulator.caching


@pytest.mark.parametrize("broken", [torch.zeros(2, 10), torch.zeros(2, 1, 9), torch.full((2, 1, 10), torch.nan)])
def test_impossible_allocations_are_refused_and_change_nothing(broken: torch.Tensor) -> None:
    simulator = ProvisioningWorld(load_scenario(DEFAULT, SMALL), 2)
    simulator.cache(torch.zeros(2, 1, 10))
    for pair in ((broken, equal_shares(simulator)), (equal_shares(simulator), broken)):
        with pytest.raises(ValueError, match=r"shape|finite"):
            simulator.allocate(*pair)
    assert simulator.state.slot == 0


def frame_of(simulator: ProvisioningWorld, bits: list[int]) -> tuple[CacheOutcome, torch.Tensor, torch.Tensor]:
    """Play a frame of a single copy; returns what caching did, the mean of the slots' rewards, and the frame's."""
    cached = simulator.cache(torch.tensor([[bits]]))
    shares = equal_shares(simulator)
    rewards = [simulator.allocate(shares, shares).reward for _ in range(simulator.scenario.slots_per_frame)]
    return cached, torch.stack(rewards).mean(0), simulator.frame_reward()


def test_storage_overflow_is_dropped_or_kept_and_charged() -> None:
    world: dict[str, Any] = SMALL | {"models": 3, "size_gb": [5, 7, 4], "storage_gb": 10}
    dropping = ProvisioningWorld(load_scenario(DEFAULT, world))
    cached, mean, reward = frame_of(dropping, [1, 1, 1])
    # 16 GB are wanted. Nothing was asked for before, so the highest numbers go: 4 GB, then 7 GB.
    assert cached.cache.tolist() == [[[True, False, False]]]
    assert cached.overflow_gb.tolist() == [[6]]
    torch.testing.assert_close(reward, mean - 6)
    cached, mean, reward = frame_of(dropping, [1, 0, 1])
    assert cached.overflow_gb.tolist() == [[0]]
    torch.testing.assert_close(reward, mean)
    free = ProvisioningWorld(load_scenario(DEFAULT, world | {"overflow_penalty_per_gb": 0}))
    _, mean, reward = frame_of(free, [1, 1, 1])
    torch.testing.assert_close(reward, mean)
    keeping = ProvisioningWorld(load_scenario(DEFAULT, world | {"caching_amender": "penalty"}))
    cached, mean, reward = frame_of(keeping, [1, 1, 1])
    assert cached.cache.all()
    assert simulator_hits(keeping)
    torch.testing.assert_close(reward, mean - 6)


def simulator_hits(simulator: ProvisioningWorld) -> bool:
    simulator.cache(torch.ones(1, 1, simulator.scenario.models))
    return bool(simulator.observe_slot().hit.all())


def test_fetching_models_takes_the_backhaul() -> None:
    world = SMALL | {"models": 3, "size_gb": [5, 7, 4], "switching_weight": 0.01}
    simulator = ProvisioningWorld(load_scenario(DEFAULT, world))
    # 5 GB are 40,000 Mbit, 400 s at 100 Mbit/s. In the next frame only the third model is new.
    for bits, fetch_s in (([1, 0, 0], 400), ([1, 0, 1], 320), ([0, 0, 1], 0)):
        cached, mean, reward = frame_of(simulator, bits)
        assert cached.fetch_s.tolist() == [[fetch_s]]
        torch.testing.assert_close(reward, mean - 0.01 * fetch_s)


def test_the_amender_sees_the_requests_of_the_frame_before() -> None:
    world = SMALL | {"models": 2, "size_gb": [6, 6], "storage_gb": 6, "users": 50}
    simulator = ProvisioningWorld(load_scenario(DEFAULT, world | {"drift.start": "shuffled"}), 40)
    play(simulator, "never-cache", 2)
    seen = simulator.observe_frame()
    kept = simulator.cache(torch.ones(40, 1, 2)).cache
    first_is_popular = seen.frequency[..., 0] >= seen.frequency[..., 1]
    assert torch.equal(kept[..., 0], first_is_popular)
    assert torch.equal(kept[..., 1], ~first_is_popular)
    assert 0 < int(first_is_popular.sum()) < 40


def test_another_amender_can_be_given() -> None:
    def nothing_ever(wanted: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(wanted)

    simulator = ProvisioningWorld(load_scenario(DEFAULT), caching_amender=nothing_ever)  # type: ignore[arg-type]
    assert not simulator.cache(torch.ones(1, 1, 10)).cache.any()


def test_copies_are_the_episodes_of_a_single_simulator() -> None:
    scenario = load_scenario("t2drl-contended", SMALL)
    many = ProvisioningWorld(scenario, 4)
    many.reset(seed=11)
    rule = "popular-first-come"  # draws no numbers of its own
    together = costs(play(many, rule))
    one = ProvisioningWorld(scenario)
    for e in range(4):
        one.reset(seed=11) if e == 0 else one.reset()
        torch.testing.assert_close(costs(play(one, rule))[0], together[e], rtol=1e-6, atol=0)
    assert torch.equal(many.reset().frequency[0], one.reset().frequency[0])  # both go on with episode 4
    assert torch.equal(many.future.gain[0], one.future.gain[0])
    one.reset(seed=11, first_episode=3)
    torch.testing.assert_close(costs(play(one, rule))[0], together[3], rtol=1e-6, atol=0)


def test_the_same_seed_gives_the_same_episode() -> None:
    simulator = ProvisioningWorld(load_scenario(DEFAULT, SMALL), 2)
    runs = []
    for seed in (4, 4, 5):
        simulator.reset(seed=seed)
        runs.append(costs(play(simulator)))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_what_happens_from_outside_does_not_depend_on_the_policy() -> None:
    seen = []
    for policy in ("never-cache", "popular-random"):
        simulator = ProvisioningWorld(load_scenario("t2drl-contended", SMALL), 3)
        simulator.reset(seed=6)
        play(simulator, policy, slots=3)
        frame, slot = simulator.observe_frame(), simulator.observe_slot()
        seen.append((frame.frequency, frame.popularity, slot.model, slot.gain, slot.upload_mbit))
    assert all(torch.equal(*pair) for pair in zip(*seen, strict=True))


@pytest.mark.parametrize("slots", [0, 3, 4])  # at the beginning, within a frame, between frames
def test_state_survives_a_round_trip(slots: int) -> None:
    scenario = load_scenario("t2drl-contended:cells3", SMALL | {"switching_weight": 0.001})
    simulator = ProvisioningWorld(scenario, 2)
    simulator.reset(seed=2)
    simulator.reset()
    play(simulator, slots=slots)
    state = pickle.loads(pickle.dumps(simulator.state_dict()))
    rest, reward = costs(play(simulator)), simulator.frame_reward()
    restored = ProvisioningWorld(scenario, 2)
    restored.load_state_dict(state)
    assert restored.caching == (slots % 2 == 0)
    assert torch.equal(costs(play(restored)), rest)
    assert torch.equal(restored.frame_reward(), reward)
    restored.load_state_dict(state)  # playing on has not changed what was saved
    assert torch.equal(costs(play(restored)), rest)
    with pytest.raises(ValueError, match="copies, cells and models"):
        ProvisioningWorld(scenario, 3).load_state_dict(state)


def test_single_precision_is_precise_enough() -> None:
    means = []
    for dtype in (torch.float32, torch.float64):
        simulator = ProvisioningWorld(load_scenario(DEFAULT), 8, dtype=dtype)
        simulator.reset(seed=3)
        means.append(float(costs(play(simulator, "popular-static")).double().mean()))
        assert all(getattr(simulator.observe_frame(), f).dtype == dtype for f in ("frequency", "popularity"))
    assert means[0] == pytest.approx(means[1], rel=1e-6)


@pytest.mark.parametrize(
    ("variant", "policy", "cost", "delay_s", "tv", "hit"),
    [
        ("", "never-cache", 44.4, 51.5, 28.0, 0.0),
        ("", "rcars", 41.7, 47.0, 29.2, 0.3),
        ("", "popular-static", 40.7, 42.7, 36.3, 0.6),
        ("", "popular-first-come", 40.0, 42.7, 33.6, 0.6),
        ("", "popular-random", 41.4, 40.0, 44.7, 0.6),
        (":alpha0.3", "never-cache", 35.0, 51.5, 28.0, 0.0),
        (":alpha0.3", "rcars", 34.5, 47.0, 29.2, 0.3),
        (":alpha0.3", "popular-static", 38.2, 42.7, 36.3, 0.6),
        (":backhaul50", "never-cache", 52.8, None, 28.0, 0.0),
        (":backhaul50", "rcars", 47.1, None, 29.2, 0.3),
        (":backhaul50", "popular-static", 44.4, None, 36.3, 0.6),
    ],
)
def test_known_levels_of_the_default_world(
    variant: str, policy: str, cost: float, delay_s: float | None, tv: float, hit: float
) -> None:
    """An independent sketch of this world, with other draws of sizes and requests, gave these means of 30 episodes."""
    simulator = ProvisioningWorld(load_scenario(DEFAULT + variant), 30)
    simulator.reset(seed=0)
    outcomes = play(simulator, policy)

    def mean(values: list[torch.Tensor]) -> float:
        return float(torch.stack(values).double().mean())

    assert mean([outcome.cost for outcome in outcomes]) == pytest.approx(cost, abs=0.3)
    assert mean([outcome.tv for outcome in outcomes]) == pytest.approx(tv, abs=1)
    assert mean([outcome.hit for outcome in outcomes]) == pytest.approx(hit, abs=0.06)
    if delay_s is not None:
        assert mean([outcome.delays.total_s for outcome in outcomes]) == pytest.approx(delay_s, abs=0.4)


def test_in_the_contended_world_knowing_the_popularity_and_choosing_steps_pay() -> None:
    means = {}
    for policy in ("never-cache", "rcars", "popular-static", "popular-recent", "popular-current", "popular-first-come"):
        simulator = ProvisioningWorld(load_scenario("t2drl-contended"), 64)
        simulator.reset(seed=0)
        means[policy] = float(costs(play(simulator, policy)).double().mean())
    order = ["never-cache", "popular-static", "popular-recent", "popular-current"]
    for worse, better in itertools.pairwise(order):
        assert means[worse] > means[better] + 0.3
    assert means["popular-first-come"] < means["popular-static"] - 0.5


def test_observations_hold_what_they_say() -> None:
    simulator = ProvisioningWorld(load_scenario("t2drl-contended:cells3"), 2)
    play(simulator, slots=10)
    frame = simulator.observe_frame()
    assert {f.name for f in fields(frame)} >= {"skewness_state", "previous_cache", "frequency", "popularity"}
    assert frame.previous_cache.shape == frame.frequency.shape == frame.size_gb.shape == (2, 3, 10)
    assert frame.storage_gb.tolist() == [[20.0] * 3] * 2
    simulator.cache(frame.previous_cache)
    slot = simulator.observe_slot()
    assert torch.equal(slot.hit, slot.cache.gather(-1, slot.model))
    curves = simulator.future.curves
    torch.testing.assert_close(slot.curves.b1_s_per_step[1, 2, 3], curves.b1_s_per_step[1, slot.model[1, 2, 3]])
    assert slot.steps_budget.tolist() == [[600.0] * 3] * 2
