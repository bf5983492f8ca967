# SPDX-License-Identifier: Apache-2.0
"""Evaluation of caching and allocation: every metric against a plain loop over single episodes."""

import json

import numpy as np
import pytest
import torch

from edgegen.algorithms.core.policy import Policy
from edgegen.algorithms.rules.caching import make_provisioning_rule
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.core.seeds import MAX_SEED
from edgegen.envs.provisioning.world import ProvisioningWorld
from edgegen.platform.files import write_json
from edgegen.platform.runs import episodes
from edgegen.platform.runs.episodes import evaluation_seed
from edgegen.platform.runs.evaluation import evaluate

SMALL = {"frames": 3, "slots_per_frame": 2}


class Greedy(Policy):
    """Wants everything, gives every step to the first users; records how it is called."""

    name = "greedy"
    roles = frozenset({"cacher", "allocator"})

    def __init__(self):
        super().__init__()
        self.seen = []

    def begin(self, role, view):
        return {"count": torch.zeros(len(view.previous_cache))} if role == "cacher" else {}

    def act(self, role, view, memory, explore=True):
        self.seen.append((role, memory["count"].tolist(), explore))
        memory = {"count": memory["count"] + 1}
        if role == "cacher":
            return torch.ones_like(view.previous_cache), memory
        share = torch.zeros_like(view.gain)
        share[..., :2] = 0.5
        return torch.stack([share, share], -1), memory


@pytest.mark.parametrize(
    "changes",
    [
        {"switching_weight": 0.01, "max_delay_s": 45, "late_penalty": 3},
        {"caching_amender": "penalty", "overflow_penalty_per_gb": 0.5, "cells": 2},
    ],
)
def test_metrics_agree_with_a_loop_over_single_episodes(changes):
    scenario = load_scenario("t2drl-contended", SMALL | changes)
    results = evaluate(scenario, Greedy(), 2, seed=7)
    simulator = ProvisioningWorld(scenario, 1)
    for episode in range(2):
        simulator.reset(evaluation_seed(7), episode)
        policy, outcomes, cached, overflow, rewards, charges = Greedy(), [], [], [], [], []
        memory = policy.begin("cacher", simulator.observe_frame())
        previous = torch.zeros(1, scenario.cells, 10, dtype=torch.bool)
        while not simulator.done:
            if simulator.caching:
                frame = simulator.observe_frame()
                outcome = simulator.cache(policy.act("cacher", frame, memory)[0])
                new = outcome.cache & ~previous
                cached.append(float((frame.size_gb * new).sum(-1).mean()) * 8000 / scenario.backhaul_mbit_s)
                overflow.append(float((frame.size_gb.sum(-1) - 20).mean()))
                kept = float(((frame.size_gb * outcome.cache).sum(-1) - 20).clamp_min(0).mean())
                charges.append(scenario.switching_weight * cached[-1] + scenario.overflow_penalty_per_gb * kept)
                previous = outcome.cache
            shares, _ = policy.act("allocator", simulator.observe_slot(), memory)
            outcomes.append(simulator.allocate(*shares.unbind(-1)))
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
            assert results[name][episode] == pytest.approx(value, rel=1e-5), name
        assert expected["useless_hits"] > 0
    requests = results.to_json()["requests"]
    assert requests == scenario.slots * scenario.cells * scenario.users
    assert results.decisions == 2 * requests
    assert results.decisions_per_s > 0


def test_parts_add_up():
    scenario = load_scenario("t2drl-default", SMALL)
    results = evaluate(scenario, make_provisioning_rule("popular-static"), 4, seed=0)
    parts = results["uplink_s"] + results["backhaul_s"] + results["generation_s"] + results["downlink_s"]
    np.testing.assert_allclose(parts, results["delay_s"], rtol=1e-6)
    np.testing.assert_allclose(0.7 * results["delay_s"] + 0.3 * results["tv"], results["mean_cost"], rtol=1e-6)
    np.testing.assert_allclose(-results["mean_reward"], results["mean_cost"], rtol=1e-6)


def test_without_hits_none_is_useless(tmp_path):
    scenario = load_scenario("t2drl-default", SMALL)
    results = evaluate(scenario, make_provisioning_rule("never-cache"), 2, seed=0)
    assert np.isnan(results["useless_hits"]).all()
    write_json(tmp_path / "r.json", results.to_json())
    data = json.loads((tmp_path / "r.json").read_text())
    assert data["useless_hits"] == [None, None]
    assert data["request_seed"] == evaluation_seed(0)


def test_evaluation_requests_are_none_that_a_training_seed_reaches():
    scenario = load_scenario("t2drl-default", SMALL)
    judged, trained = ProvisioningWorld(scenario), ProvisioningWorld(scenario)
    judged.reset(evaluation_seed(5))
    trained.reset(5)
    assert evaluation_seed(0) > MAX_SEED
    assert not torch.equal(judged.future.gain, trained.future.gain)


def test_same_seed_same_results_and_other_seed_other_results():
    scenario = load_scenario("t2drl-contended", SMALL)
    policy = make_provisioning_rule("rcars", 3)
    first, again = (evaluate(scenario, policy, 3, seed=1) for _ in range(2))
    other = evaluate(scenario, policy, 3, seed=2)
    np.testing.assert_array_equal(first["mean_cost"], again["mean_cost"])
    assert (first["mean_cost"] != other["mean_cost"]).all()


def test_chunks_do_not_change_the_results_of_a_policy_without_luck(monkeypatch):
    scenario = load_scenario("t2drl-contended", SMALL)
    whole = evaluate(scenario, make_provisioning_rule("popular-recent"), 7, seed=3)
    monkeypatch.setattr(episodes, "_MAX_COPIES", 3)
    finished: list[int] = []
    rule = make_provisioning_rule("popular-recent")
    chunked = evaluate(scenario, rule, 7, seed=3, on_chunk=finished.append)
    assert finished == [3, 6, 7]
    np.testing.assert_allclose(whole["mean_cost"], chunked["mean_cost"], rtol=1e-6)
    np.testing.assert_array_equal(whole["hit_ratio"], chunked["hit_ratio"])


def test_memory_and_exploration_reach_the_policy():
    recorder = Greedy()
    scenario = load_scenario("t2drl-default", {"frames": 2, "slots_per_frame": 2})
    results = evaluate(scenario, recorder, 2, seed=0, explore=False)
    calls = ["cacher", "allocator", "allocator"] * 2
    assert recorder.seen == [(call, [float(count)] * 2, False) for count, call in enumerate(calls)]
    assert not results.explore


def test_impossible_numbers_are_refused():
    scenario = load_scenario("t2drl-default", SMALL)
    with pytest.raises(InputError, match="at least 1"):
        evaluate(scenario, make_provisioning_rule("rcars"), 0, seed=0)
    with pytest.raises(InputError, match="seed"):
        evaluate(scenario, make_provisioning_rule("rcars"), 1, seed=-1)
