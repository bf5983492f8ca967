# SPDX-License-Identifier: Apache-2.0
"""What set policies expect to come: from what they have seen, whatever they were trained in; old ones as they were."""

import json
import math

import pytest
import torch

from edgegen.algorithms.core.codec import load_policy, save_policy
from edgegen.algorithms.methods.ladts import METHOD, LADTSPolicy
from edgegen.algorithms.roles.router.routers import router_for, router_of
from edgegen.algorithms.roles.router.set_arrivals import (
    FORGETTING,
    MOST_LOAD,
    PRIOR_LOAD,
    SUMS,
    FrozenArrivals,
    SeenArrivals,
    add_arrivals,
    close_slots,
)
from edgegen.algorithms.roles.router.sets import SetRouter
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.view import ROUTER, RouterView, Tasks
from edgegen.envs.offloading.world import OffloadingWorld

WORLD = load_scenario("stable", {"slots": 4, "tasks_per_slot": {"low": 1, "high": 4}})


def slot_of(work, capacity=(4.0, 2.0)):
    """One slot of two servers; 0 where there is no task."""
    gcycles = torch.tensor([work])
    tasks = Tasks(gcycles > 0, torch.ones_like(gcycles), gcycles, torch.ones_like(gcycles))
    return RouterView(0, torch.zeros(1, 2), torch.tensor([capacity]), torch.ones(1, 2), tasks)


def spec(scenario=WORLD):
    return router_for(scenario, METHOD.make_settings("set")).spec


def after(numbers, work=1.5):
    """Running sums of server 0 after slots with so many tasks, while server 1 gets none."""
    sums = torch.zeros(1, 2, SUMS)
    for number in numbers:
        if number:
            view = slot_of([[work] * number, [0.0] * number])
            add_arrivals(sums, view.tasks.present, view.tasks.workload_gcycles)
        close_slots(sums, 1)
    return sums


def test_sums_by_hand_and_over_slots_without_tasks():
    sums = after([2, 3])
    kept = 1 - FORGETTING
    assert sums[0, 0].tolist() == pytest.approx([1 + kept, 3 + 2 * kept, 9 + 4 * kept, 4.5 + 3 * kept, 0, 0])
    assert sums[0, 1].tolist() == pytest.approx([1 + kept, 0, 0, 0, 0, 0])
    later = after([2, 3, 0, 0])
    once = after([2])
    view = slot_of([[1.5] * 3, [0.0] * 3])
    add_arrivals(once, view.tasks.present, view.tasks.workload_gcycles)
    close_slots(once, 3)
    torch.testing.assert_close(once, later)


def test_before_anything_was_seen_the_prior_load_comes():
    arrivals = SeenArrivals(spec(), slot_of([[1.0, 2.0], [0.5, 0.0]]), torch.zeros(1, 2, SUMS))
    assert arrivals.mean_work_gcycles.tolist() == [[1.5, 0.5]]  # of own tasks of the slot alone
    torch.testing.assert_close(arrivals.all_gcycles, torch.full((1, 2), PRIOR_LOAD * 6))
    torch.testing.assert_close(arrivals.unit_slots, torch.tensor([[[2 * 1.5 / 6], [2 * 0.5 / 6]]]))


def test_what_was_seen_takes_the_place_of_the_prior():
    sums = after([2] * 400, work=0.9)  # 2 servers * 2 tasks * 0.9 Gcycle, of 6 that both can do
    arrivals = SeenArrivals(spec(), slot_of([[0.9, 0.9], [0.9, 0.0]]), sums)
    usual = PRIOR_LOAD * 6 / (2 * 0.9)  # tasks of the prior, which is worth two slots of 34
    mean = (32 * 2 + 2 * usual) / 34
    assert arrivals.mean_tasks[0, 0].item() == pytest.approx(mean, rel=1e-4)
    assert arrivals.all_gcycles[0, 0].item() == pytest.approx(2 * mean * 0.9, rel=1e-4)
    assert arrivals.load[0, 0].item() == pytest.approx(2 * mean * 0.9 / 6, rel=1e-4)
    assert arrivals.mean_tasks[0, 1].item() == pytest.approx(2 * usual / 34, rel=1e-4)  # none came to the other


def test_a_hot_spot_does_not_expect_more_than_servers_can_do_for_long():
    arrivals = SeenArrivals(spec(), slot_of([[1.0] * 9, [1.0] + [0.0] * 8]), after([9] * 50, work=1.0))
    assert arrivals.all_gcycles[0, 0].item() == pytest.approx(MOST_LOAD * 6, rel=1e-4)
    assert arrivals.load[0, 0].item() > 2.5


def test_work_placed_by_then_is_that_of_a_normal_number_of_tasks():
    arrivals = SeenArrivals(spec(), slot_of([[1.0] * 9, [1.0] * 9], (30.0, 30.0)), after([1, 5, 9] * 40, work=1.0))
    mean, deviation = arrivals.mean_tasks[0, 0].item(), arrivals.deviation[0, 0].item()
    draws = torch.distributions.Normal(mean, deviation).icdf((torch.arange(200_000) + 0.5) / 200_000).double()
    per_task = arrivals.all_gcycles[0, 0].item() / draws.clamp_min(0).mean().item()
    for rank in (0, 1, 4, 8):
        placed, left = arrivals.placed(torch.full((1, 2), rank))
        beyond = (draws - rank).clamp_min(0).mean().item()
        beyond_next = (draws - rank - 1).clamp_min(0).mean().item()
        total = arrivals.all_gcycles[0, 0].item()
        assert placed[0, 0].item() == pytest.approx(total - per_task * beyond, abs=2e-3 * total)
        assert left[0, 0].item() == pytest.approx(per_task * beyond_next, abs=2e-3 * total)


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_the_unit_of_work_means_nothing(scale):
    sums = after([1, 3, 2])
    scaled = sums * torch.tensor([1.0, 1, 1, scale, 1, scale])
    one, two = [[1.0, 2.0], [0.5, 0.0]], [[scale, 2 * scale], [0.5 * scale, 0.0]]
    a = SeenArrivals(spec(), slot_of(one), sums)
    b = SeenArrivals(spec(), slot_of(two, (4.0 * scale, 2.0 * scale)), scaled)
    for left, right in zip(
        a.of_task(slot_of(one).tasks.at_index(0)), b.of_task(slot_of(two).tasks.at_index(0)), strict=True
    ):
        torch.testing.assert_close(left, right)


def test_nothing_of_the_training_world_is_left_in_the_policy():
    other = load_scenario("stable", {"slots": 4, "tasks_per_slot": {"low": 0, "high": 3}, "steps.high": 60})
    scales = {"size_scale_mbit", "workload_scale_gcycles", "tasks"}  # of the other networks
    one, two = (spec(world).model_dump(exclude=scales) for world in (WORLD, other))
    assert one == two
    assert one["work_profile_gcycles"] == ()


def frozen_policy():
    profile = tuple(WORLD.work_by_index_gcycles.tolist())
    old = spec().model_copy(update={"arrivals": "frozen", "work_profile_gcycles": profile, "start_temperature_s": 0.05})
    torch.manual_seed(5)
    actor = router_of(old).actor()
    for parameter in actor.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return LADTSPolicy(actor, seed=2)


def test_a_folder_with_frozen_arrivals_loads_and_plays_as_before(tmp_path):
    policy = frozen_policy()
    save_policy(policy, tmp_path / "policy", WORLD, {})
    path = tmp_path / "policy" / "policy.json"
    manifest = json.loads(path.read_text())
    for name in ("arrivals", "start_temperature"):  # as older versions wrote it
        del manifest["spec"][name]
    del manifest["met"]
    path.write_text(json.dumps(manifest))
    loaded = load_policy(tmp_path / "policy", WORLD, seed=2)
    assert isinstance(loaded, LADTSPolicy)
    assert isinstance(loaded.router, SetRouter)
    world = OffloadingWorld(WORLD, 3)
    view = world.reset(1)
    memory = loaded.begin(ROUTER, view)
    assert isinstance(loaded.router.arrivals(view, memory), FrozenArrivals)
    assert "mean arrivals" in loaded.information
    expected, _ = policy.act(ROUTER, view, policy.begin(ROUTER, view))
    found, _ = loaded.act(ROUTER, view, memory)
    assert torch.equal(found, expected)


def test_frozen_arrivals_by_hand():
    old = spec().model_copy(update={"arrivals": "frozen", "work_profile_gcycles": (2.0, 1.0)})
    view = slot_of([[1.0, 2.0], [0.5, 0.0]])
    arrivals = FrozenArrivals(old, view)
    assert arrivals.all_gcycles.tolist() == [[6, 6]]
    placed, left = arrivals.placed(torch.tensor([[0, 1]]))
    assert (placed.tolist(), left.tolist()) == ([[0, 4]], [[2, 0]])
    placed, left = arrivals.placed(torch.tensor([[2, 7]]))
    assert (placed.tolist(), left.tolist()) == ([[6, 6]], [[0, 0]])


def test_rewards_are_in_units_of_the_mean_task():
    """A world whose tasks are all ten times as large, on servers ten times as fast, teaches the same."""
    from edgegen.algorithms.rllib.role import Following

    rewards = []
    for scale in (1.0, 10.0):
        fields = {"cycles_per_step_gcycles": {"low": 0.1 * scale, "high": 0.3 * scale}}
        scenario = load_scenario("stable", {"slots": 4, "tasks_per_slot": {"low": 1, "high": 4}, **fields})
        settings = METHOD.make_settings("set", {"hidden": 8})
        router = router_for(scenario, settings)
        torch.manual_seed(1)
        policy = LADTSPolicy(router.actor(), seed=1)
        world = OffloadingWorld(scenario, 2)
        view = world.reset(3)
        memory = policy.begin(ROUTER, view)
        decided = policy.decide(ROUTER, view, memory)
        outcome = world.decide(decided.action)
        following = Following(world.observe(), False, outcome, policy, memory)
        rewards.append(router.experience(settings, view, decided.record, outcome, following).reward)
    torch.testing.assert_close(rewards[0], rewards[1], rtol=1e-3, atol=1e-3)
    assert math.isfinite(rewards[0].sum())
    assert float(rewards[0].min()) < -1
