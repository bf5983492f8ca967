"""Evaluation of caching and allocation: every metric against a plain loop over single episodes."""

import json

import numpy as np
import pytest
import torch

from edgegen.algorithms.core.provisioning_policy import ProvisioningPolicy
from edgegen.algorithms.rules.provisioning import make_provisioning_rule
from edgegen.envs.core.errors import InputError
from edgegen.envs.provisioning.scenario import load_provisioning
from edgegen.envs.provisioning.world import ProvisioningWorld
from edgegen.platform.files import write_json
from edgegen.platform.runs import episodes
from edgegen.platform.runs.episodes import MAX_SEED, evaluation_seed
from edgegen.platform.runs.provisioning_evaluation import run_provisioning

SMALL = {"frames": 3, "slots_per_frame": 2}


class Greedy(ProvisioningPolicy):
    """Wants everything, gives every step to the first users; records how it is called."""

    name = "greedy"

    def __init__(self):
        super().__init__()
        self.seen = []

    def begin(self, observation):
        return {"count": torch.zeros(len(observation.previous_cache))}

    def cache(self, observation, memory, explore=True):
        self.seen.append(("cache", memory["count"].tolist(), explore))
        return torch.ones_like(observation.previous_cache), {"count": memory["count"] + 1}

    def allocate(self, observation, memory, explore=True):
        self.seen.append(("allocate", memory["count"].tolist(), explore))
        share = torch.zeros_like(observation.gain)
        share[..., :2] = 0.5
        return share, share, {"count": memory["count"] + 1}


@pytest.mark.parametrize(
    "changes",
    [
        {"switching_weight": 0.01, "max_delay_s": 45, "late_penalty": 3},
        {"caching_amender": "penalty", "overflow_penalty_per_gb": 0.5, "cells": 2},
    ],
)
def test_metrics_agree_with_a_loop_over_single_episodes(changes):
    scenario = load_provisioning("t2drl-contended", SMALL | changes)
    results = run_provisioning(scenario, Greedy(), 2, seed=7)
    simulator = ProvisioningWorld(scenario, 1)
    for episode in range(2):
        simulator.reset(evaluation_seed(7), episode)
        policy, outcomes, cached, overflow, rewards, charges = Greedy(), [], [], [], [], []
        memory = policy.begin(simulator.observe_frame())
        previous = torch.zeros(1, scenario.cells, 10, dtype=torch.bool)
        while not simulator.done:
            if simulator.caching:
                frame = simulator.observe_frame()
                outcome = simulator.cache(policy.cache(frame, memory)[0])
                new = outcome.cache & ~previous
                cached.append(float((frame.size_gb * new).sum(-1).mean()) * 8000 / scenario.backhaul_mbit_s)
                overflow.append(float((frame.size_gb.sum(-1) - 20).mean()))
                kept = float(((frame.size_gb * outcome.cache).sum(-1) - 20).clamp_min(0).mean())
                charges.append(scenario.switching_weight * cached[-1] + scenario.overflow_penalty_per_gb * kept)
                previous = outcome.cache
            outcomes.append(simulator.allocate(*policy.allocate(simulator.observe_slot(), memory)[:2]))
            if simulator.caching or simulator.done:
                rewards.append(float(simulator.frame_reward().mean()))

        def mean(values):
            return float(torch.stack(values).double().mean())

        hits = torch.stack([outcome.hit for outcome in outcomes])
        useless = torch.stack([outcome.useless for outcome in outcomes])
        late = mean([outcome.late for outcome in outcomes])
        expected = {
            "mean_cost": mean([o.cost for o in outcomes]) + scenario.late_penalty * late + np.mean(charges),
            "delay_s": mean([o.delays.total_s for o in outcomes]),
            "uplink_s": mean([o.delays.uplink_s for o in outcomes]),
            "backhaul_s": mean([o.delays.backhaul_s for o in outcomes]),
            "generation_s": mean([o.delays.generation_s for o in outcomes]),
            "downlink_s": mean([o.delays.downlink_s for o in outcomes]),
            "tv": mean([o.tv for o in outcomes]),
            "hit_ratio": float(hits.double().mean()),
            "useless_hits": float(useless.sum() / hits.sum()),
            "late_share": late,
            "fetch_s": np.mean(cached),
            "overflow_gb": np.mean(overflow),
            "mean_reward": np.mean(rewards),
        }
        for name, value in expected.items():
            assert getattr(results, name)[episode] == pytest.approx(value, rel=1e-5), name
        assert expected["useless_hits"] > 0
    assert results.requests == scenario.slots * scenario.cells * scenario.users
    assert results.decisions == 2 * results.requests
    assert results.decisions_per_s > 0


def test_parts_add_up():
    scenario = load_provisioning("t2drl-default", SMALL)
    results = run_provisioning(scenario, make_provisioning_rule("popular-static"), 4, seed=0)
    parts = results.uplink_s + results.backhaul_s + results.generation_s + results.downlink_s
    np.testing.assert_allclose(parts, results.delay_s, rtol=1e-6)
    np.testing.assert_allclose(0.7 * results.delay_s + 0.3 * results.tv, results.mean_cost, rtol=1e-6)
    np.testing.assert_allclose(-results.mean_reward, results.mean_cost, rtol=1e-6)


def test_without_hits_none_is_useless(tmp_path):
    scenario = load_provisioning("t2drl-default", SMALL)
    results = run_provisioning(scenario, make_provisioning_rule("never-cache"), 2, seed=0)
    assert np.isnan(results.useless_hits).all()
    write_json(tmp_path / "r.json", results.to_json())
    data = json.loads((tmp_path / "r.json").read_text())
    assert data["useless_hits"] == [None, None]
    assert data["request_seed"] == evaluation_seed(0)


def test_evaluation_requests_are_none_that_a_training_seed_reaches():
    scenario = load_provisioning("t2drl-default", SMALL)
    judged, trained = ProvisioningWorld(scenario), ProvisioningWorld(scenario)
    judged.reset(evaluation_seed(5))
    trained.reset(5)
    assert evaluation_seed(0) > MAX_SEED
    assert not torch.equal(judged.episodes.gain, trained.episodes.gain)


def test_same_seed_same_results_and_other_seed_other_results():
    scenario = load_provisioning("t2drl-contended", SMALL)
    policy = make_provisioning_rule("rcars", 3)
    first, again = (run_provisioning(scenario, policy, 3, seed=1) for _ in range(2))
    other = run_provisioning(scenario, policy, 3, seed=2)
    np.testing.assert_array_equal(first.mean_cost, again.mean_cost)
    assert (first.mean_cost != other.mean_cost).all()


def test_chunks_do_not_change_the_results_of_a_policy_without_luck(monkeypatch):
    scenario = load_provisioning("t2drl-contended", SMALL)
    whole = run_provisioning(scenario, make_provisioning_rule("popular-recent"), 7, seed=3)
    monkeypatch.setattr(episodes, "_MAX_COPIES", 3)
    finished = []
    rule = make_provisioning_rule("popular-recent")
    chunked = run_provisioning(scenario, rule, 7, seed=3, on_chunk=finished.append)
    assert finished == [3, 6, 7]
    np.testing.assert_allclose(whole.mean_cost, chunked.mean_cost, rtol=1e-6)
    np.testing.assert_array_equal(whole.hit_ratio, chunked.hit_ratio)


def test_memory_and_exploration_reach_the_policy():
    recorder = Greedy()
    scenario = load_provisioning("t2drl-default", {"frames": 2, "slots_per_frame": 2})
    results = run_provisioning(scenario, recorder, 2, seed=0, explore=False)
    calls = ["cache", "allocate", "allocate"] * 2
    assert recorder.seen == [(call, [float(count)] * 2, False) for count, call in enumerate(calls)]
    assert not results.explore


def test_impossible_numbers_are_refused():
    scenario = load_provisioning("t2drl-default", SMALL)
    with pytest.raises(InputError, match="at least 1"):
        run_provisioning(scenario, make_provisioning_rule("rcars"), 0, seed=0)
    with pytest.raises(InputError, match="seed"):
        run_provisioning(scenario, make_provisioning_rule("rcars"), 1, seed=-1)
