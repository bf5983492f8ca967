# SPDX-License-Identifier: Apache-2.0
"""Provisioning rules: decisions worked out by hand, feasibility, and that they repeat themselves."""

import itertools
from typing import Any

import pytest
import torch

from edgegen.algorithms.core.policy import Policy
from edgegen.algorithms.rules.caching import PROVISIONING_RULES, first_come_compute, make_provisioning_rule
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.provisioning.amenders import fit_bandwidth, fit_compute, storage_overflow_gb
from edgegen.envs.provisioning.view import AllocatorView, CacherView
from edgegen.envs.provisioning.world import ProvisioningWorld


def world(copies: int = 1, **changes: Any) -> ProvisioningWorld:
    small = {"models": 4, "size_gb": [4, 5, 3, 2], "storage_gb": 7, "users": 4, "frames": 3, "slots_per_frame": 2}
    return ProvisioningWorld(load_scenario("t2drl-default", small | changes), copies)


def cached(rule: str, simulator: ProvisioningWorld) -> list[int]:
    bits, _ = make_provisioning_rule(rule).act("cacher", simulator.observe_frame(), {})
    return bits[0, 0].int().tolist()


def shares(rule: str | Policy, slot: AllocatorView) -> tuple[torch.Tensor, torch.Tensor]:
    """Shares of uplink and steps that a rule gives to the users of a slot."""
    policy = make_provisioning_rule(rule) if isinstance(rule, str) else rule
    bandwidth, compute = policy.act("allocator", slot, {})[0].unbind(-1)
    return bandwidth, compute


@pytest.mark.parametrize("name", list(PROVISIONING_RULES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_rule_is_feasible_and_repeats_itself(name: str, dtype: torch.dtype) -> None:
    scenario = load_scenario("t2drl-contended:cells3", {"frames": 3, "slots_per_frame": 2})
    simulator, totals = ProvisioningWorld(scenario, 3, dtype=dtype), []
    for _ in range(2):
        policy, total = make_provisioning_rule(name, seed=3), 0.0
        memory = policy.begin("cacher", simulator.reset(seed=1))
        while not simulator.done:
            if simulator.caching:
                seen = simulator.observe_frame()
                bits, memory = policy.act("cacher", seen, memory)
                assert bits.dtype == torch.bool
                assert (storage_overflow_gb(bits, seen.size_gb, seen.storage_gb[..., None]) == 0).all()
                assert torch.equal(simulator.cache(bits).cache, bits)
            slot = simulator.observe_slot()
            action, memory = policy.act("allocator", slot, memory)
            bandwidth, compute = action.unbind(-1)
            assert bandwidth.shape == compute.shape == (3, 3, 15)
            assert torch.equal(fit_bandwidth(bandwidth, scenario.min_bandwidth_share), bandwidth)
            assert torch.equal(fit_compute(compute, slot.hit), compute)
            total += float(simulator.allocate(bandwidth, compute).cost.sum())
        totals.append(total)
    assert totals[0] == totals[1]
    assert policy.name == name
    assert policy.information


def test_an_unknown_rule_is_refused_with_a_suggestion() -> None:
    with pytest.raises(InputError, match=r"'rcar'; rules are never-cache, .*Did you mean 'rcars'\?"):
        make_provisioning_rule("rcar")


def test_popular_models_are_cached_while_they_fit() -> None:
    # 4 GB, then 5 GB do not fit into the 3 GB left, then 3 GB do.
    assert cached("popular-static", world()) == [1, 0, 1, 0]
    assert cached("popular-static", world(storage_gb=6)) == [1, 0, 0, 1]
    assert cached("popular-static", world(storage_gb=1)) == [0, 0, 0, 0]
    assert cached("popular-static", world(storage_gb=14)) == [1, 1, 1, 1]
    assert cached("never-cache", world()) == [0, 0, 0, 0]


def frame(simulator: ProvisioningWorld, **changes: Any) -> CacherView:
    return CacherView(**{**vars(simulator.observe_frame()), **changes})


def test_what_popularity_each_rule_goes_by() -> None:
    simulator = world(storage_gb=5)
    popularity, frequency = torch.tensor([[[0.1, 0.2, 0.3, 0.4]]]), torch.tensor([[[0.25, 0.25, 0.5, 0.0]]])
    seen = frame(simulator, popularity=popularity, frequency=frequency)

    def chosen(rule: str, observation: CacherView) -> list[int]:
        return make_provisioning_rule(rule).act("cacher", observation, {})[0][0, 0].int().tolist()

    assert chosen("popular-static", seen) == [1, 0, 0, 0]
    assert chosen("popular-current", seen) == [0, 0, 1, 1]  # 2 GB and 3 GB
    assert chosen("popular-recent", seen) == [0, 0, 1, 1]
    first = frame(simulator, popularity=popularity)  # nothing was asked for yet: as known beforehand
    assert chosen("popular-recent", first) == [1, 0, 0, 0]


def test_random_caching_is_random_and_fills_the_storage() -> None:
    simulator = world(copies=4000)
    rule = make_provisioning_rule("rcars", seed=0)
    bits, _ = rule.act("cacher", simulator.observe_frame(), {})
    # Of 4, 5, 3 and 2 GB, these sets fit into 7 GB and leave no room for another.
    sets, counts = torch.unique(bits[:, 0].int(), dim=0, return_counts=True)
    assert sets.tolist() == [[0, 0, 1, 1], [0, 1, 0, 1], [1, 0, 0, 1], [1, 0, 1, 0]]
    share = (counts / 4000).tolist()
    assert share == pytest.approx(orders(), abs=0.03)
    again, _ = rule.act("cacher", simulator.observe_frame(), {})
    assert not torch.equal(again, bits)  # a new order in every frame


def orders() -> list[float]:
    """Shares of the four sets above, by going through all orders."""
    size, found = [4, 5, 3, 2], [0, 0, 0, 0]
    names = [{2, 3}, {1, 3}, {0, 3}, {0, 2}]
    for order in itertools.permutations(range(4)):
        kept: set[int] = set()
        for m in order:
            if sum(size[k] for k in kept) + size[m] <= 7:
                kept.add(m)
        found[names.index(kept)] += 1
    return [count / 24 for count in found]


def test_equal_and_first_come_shares_by_hand() -> None:
    simulator = world(copies=200, steps_per_slot=400)
    simulator.cache(torch.tensor([1, 1, 0, 0]).expand(200, 1, 4))
    slot = simulator.observe_slot()
    hits = slot.hit.sum(-1, keepdim=True)
    equal = shares("popular-static", slot)
    assert (equal[0] == 0.25).all()
    torch.testing.assert_close(equal[1], slot.hit / hits.clamp_min(1))
    full = first_come_compute(slot) * 400
    for e in range(200):
        given, left = [], 400.0
        for hit in slot.hit[e, 0].tolist():
            given.append(min(170.0, left) if hit else 0.0)
            left -= given[-1]
        assert full[e, 0].tolist() == pytest.approx(given, abs=1e-3)
    assert {0, 1, 2, 3, 4} == set(hits.flatten().tolist())
    steps = simulator.allocate(*shares("popular-first-come", slot)).steps
    assert torch.equal(steps, full.round())


def test_random_shares_use_all_steps_of_the_hits() -> None:
    simulator = world(copies=50)
    simulator.cache(torch.tensor([1, 0, 1, 0]).expand(50, 1, 4))
    slot = simulator.observe_slot()
    rule = make_provisioning_rule("popular-random", seed=1)
    _, compute = shares(rule, slot)
    assert (compute[~slot.hit] == 0).all()
    torch.testing.assert_close(compute.sum(-1), slot.hit.any(-1).float())
    assert not torch.equal(shares(rule, slot)[1], compute)
    rule.seed(1)
    assert torch.equal(shares(rule, slot)[1], compute)
