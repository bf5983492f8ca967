# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: who is better than whom in every single episode, and what they may know."""

import pytest
import torch

from edgegen.algorithms.core.catalog import make_policy
from edgegen.algorithms.core.rulebook import rules_for
from edgegen.algorithms.rules.allocation_search import SearchSettings
from edgegen.algorithms.rules.benchmarks import ORACLES, SCHRS, Oracle
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.provisioning.world import ProvisioningWorld
from edgegen.platform.runs.evaluation import evaluate

SMALL = {"frames": 4, "slots_per_frame": 3}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("t2drl-default", {}),
        ("t2drl-contended", {}),
        ("t2drl-contended", {"switching_weight": 0.002}),
        ("t2drl-default:alpha0.3", {"caching_amender": "penalty"}),
        ("t2drl-contended", {"cells": 2, "storage_gb": [12, 20], "steps_per_slot": [300, 700]}),
    ],
)
def test_nobody_beats_the_oracle_in_any_episode(name, changes):
    scenario = load_scenario(name, SMALL | changes)
    costs = {}
    for rule in rules_for(scenario):
        policy = make_policy(rule, scenario, 3)
        if isinstance(policy, SCHRS):
            policy = SCHRS(scenario, settings=SearchSettings(generations=8))
        elif rule == "oracle-popularity":
            policy = Oracle(scenario, knows="popularity", samples=2)
        costs[rule] = torch.from_numpy(evaluate(scenario, policy, 4, seed=2)["mean_cost"])
        assert policy.name == rule
        assert policy.information
    for rule, cost in costs.items():
        assert bool((costs["oracle"] <= cost * (1 + 1e-6)).all()), rule
    equal_shares = [rule for rule in costs if rule in ("never-cache", "rcars") or rule.startswith("popular")]
    for rule in equal_shares:
        if not rule.endswith(("best", "first-come", "random")):
            assert bool((costs["oracle-caching"] <= costs[rule] * (1 + 1e-6)).all()), rule
    for rule in ("popular-static", "popular-recent", "popular-current"):
        assert bool((costs[f"{rule}-best"] <= costs[rule] * (1 + 1e-6)).all()), rule
    assert bool((costs["popular-static-best"] <= costs["schrs"] * (1 + 1e-6)).all())
    assert bool((costs["schrs"] <= costs["popular-static"] * (1 + 1e-6)).all())


def test_schrs_is_repeatable_and_caches_what_is_popular():
    scenario = load_scenario("t2drl-contended", SMALL)
    settings = SearchSettings(generations=3)
    first, again = (evaluate(scenario, SCHRS(scenario, 9, settings), 2, seed=1) for _ in range(2))
    assert first["mean_cost"].tolist() == again["mean_cost"].tolist()
    popular = evaluate(scenario, make_policy("popular-static", scenario), 2, seed=1)
    assert first["hit_ratio"].tolist() == popular["hit_ratio"].tolist()


def test_an_oracle_has_to_foresee():
    scenario = load_scenario("t2drl-default", SMALL)
    simulator = ProvisioningWorld(scenario)
    oracle = Oracle(scenario)
    with pytest.raises(ValueError, match="foresee"):
        oracle.act("cacher", simulator.observe_frame(), oracle.begin("cacher", simulator.observe_frame()))
    before = simulator.state_dict()
    memory = oracle.prepare(simulator)
    assert str(before) == str(simulator.state_dict())  # looking changes nothing
    simulator.cache(oracle.act("cacher", simulator.observe_frame(), memory)[0])
    with pytest.raises(ValueError, match="before the first frame"):
        oracle.prepare(simulator)


def test_knowing_the_popularity_is_worth_less_than_knowing_the_requests():
    scenario = load_scenario("t2drl-contended", {"frames": 4, "slots_per_frame": 5})
    costs = {
        name: evaluate(scenario, make_policy(name, scenario), 4, seed=1)["mean_cost"].mean()
        for name in ("oracle", "oracle-popularity", "popular-current-best", "popular-static-best")
    }
    assert costs["oracle"] < costs["oracle-popularity"] < costs["popular-current-best"] < costs["popular-static-best"]


def test_made_up_requests_follow_the_popularity_and_keep_the_models():
    scenario = load_scenario("t2drl-contended:cells3", {"frames": 2, "curves.drawn": "per_episode"})
    simulator = ProvisioningWorld(scenario, 2)
    known = simulator.future
    made = Oracle(scenario, knows="popularity", samples=60)._made_up(known)
    model = made.model.view(2, 60, 2, 10, 3, 15).permute(0, 2, 4, 1, 3, 5).flatten(3)  # [E, T, C, requests]
    share = torch.nn.functional.one_hot(model, scenario.models).double().mean(3)
    torch.testing.assert_close(share, known.popularity[:, :2].double(), rtol=0, atol=0.02)
    assert torch.equal(made.curves.a1_steps[::60], known.curves.a1_steps)
    assert torch.equal(made.size_gb[59], known.size_gb[0])


def test_oracles_are_not_offered_where_they_can_not_plan():
    for changes in ({"late_penalty": 1, "max_delay_s": 40}, {"models": 20}):
        scenario = load_scenario("t2drl-default", changes)
        assert not set(ORACLES) & set(rules_for(scenario))
        with pytest.raises(InputError, match="the oracle"):
            make_policy("oracle", scenario)
    assert set(ORACLES) <= set(rules_for(load_scenario("t2drl-default")))


def test_policies_for_the_other_kind_of_world_are_refused(tmp_path):
    world, servers = load_scenario("t2drl-default"), load_scenario("demo")
    with pytest.raises(InputError, match="'least-delay' is for offloading, but scenario 't2drl-default' is"):
        make_policy("least-delay", world)
    with pytest.raises(InputError, match="'schrs' is for provisioning, but scenario 'demo' is of"):
        make_policy("schrs", servers)
    with pytest.raises(InputError, match="Did you mean 'schrs'"):
        make_policy("shcrs", world)
    (tmp_path / "policy.json").write_text('{"format": "edgegen-policy/1", "algorithm": "ladts"}')
    with pytest.raises(InputError, match="trained by ladts for another kind of scenario than 't2drl-default'"):
        make_policy(str(tmp_path), world)
