# SPDX-License-Identifier: Apache-2.0
"""What placements would have cost elsewhere: by playing the slot again, by hand, and as a loss."""

import pytest
import torch

from edgegen.algorithms.methods.ladts import METHOD
from edgegen.algorithms.roles.router.counterfactual import cost_everywhere, served_before
from edgegen.algorithms.roles.router.credit import all_delay
from edgegen.algorithms.roles.router.losses import critic_loss, values_loss
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.physics import place
from edgegen.envs.offloading.world import OffloadingWorld

SMALL = {"slots": 4, "tasks_per_slot": {"low": 1, "high": 4}}


def played(name, seed=3, slots=2, **changes):
    """A slot in which all were placed at random, what came of it, and what is seen after it."""
    world = OffloadingWorld(load_scenario(name, {**SMALL, **changes}), 2)
    generator, view = torch.Generator().manual_seed(seed), world.reset(seed)
    for _ in range(slots):
        before, progress = view, world.progress
        servers = before.tasks.present.shape[1]
        chosen = torch.randint(servers, before.tasks.present.shape, generator=generator)
        outcome = world.decide(chosen)
        view = world.observe()
    return world, before, chosen, outcome, view, progress


@pytest.mark.parametrize("name", ["stable", "links", "failing"])
@pytest.mark.parametrize("order", ["by_index", "by_server"])
def test_own_costs_are_those_of_the_slot_played_again_with_one_task_elsewhere(name, order):
    world, view, chosen, outcome, _, progress = played(name, service_order=order)
    view = view.truth
    alone = cost_everywhere(view, chosen, outcome, world.scenario.slot_s)
    servers = chosen.shape[1]
    number = torch.nn.functional.one_hot(chosen, servers).double() * view.tasks.present[..., None]
    for b, n in [(0, 0), (servers - 1, 0), (3, int(view.tasks.present[0, 3].sum()) - 1)]:
        for server in range(0, servers, 3):
            again = chosen.clone()
            again[0, b, n] = server
            result, _ = place(view, again, progress=progress)
            delays = result.dense(result.delays.total_s)
            compute_s = result.dense(result.delays.compute_s)[0, b, n]
            own_s = delays[0, b, n]
            others_s = float(alone[0, b, n, server] - own_s) / float(compute_s)
            others = number[0].sum((0, 1)) - number[0, b].sum(0)
            most = 2 * servers / (servers - 1) * float(others[server])  # all in the slot and all in the next
            assert -1e-3 <= others_s <= most + 1e-3


def test_credit_for_others_is_near_the_difference_reward_on_average():
    world, view, chosen, outcome, after, _ = played("stable", seed=5, slots=3, tasks_per_slot={"low": 4, "high": 12})
    present = view.tasks.present
    every = cost_everywhere(view.truth, chosen, outcome, world.scenario.slot_s)
    assert every.shape == (*chosen.shape, chosen.shape[1])
    expected = outcome.dense(all_delay(outcome, after))[present].mean()
    found = every.gather(-1, chosen[..., None])[..., 0][present].mean()
    assert float(found) == pytest.approx(float(expected), rel=0.15)


def test_more_slots_never_cost_less():
    world, view, chosen, outcome, _, _ = played("stable", tasks_per_slot={"low": 8, "high": 20})
    costs = [cost_everywhere(view, chosen, outcome, world.scenario.slot_s, slots) for slots in (1, 2, 5)]
    present = view.tasks.present
    assert (costs[1] >= costs[0])[present].all()
    assert (costs[2] >= costs[1])[present].all()
    assert (costs[2] > costs[0])[present].any()


def test_sums_before_by_hand():
    values = torch.tensor([[[1.0, 2.0], [10.0, 20.0]]])  # [copy, server, index]
    assert served_before(values, by_server=False).tolist() == [[[0, 11], [1, 13]]]
    assert served_before(values, by_server=True).tolist() == [[[0, 1], [3, 13]]]


def test_loss_of_all_values_is_that_of_one_on_average_over_the_policy():
    torch.manual_seed(1)
    q, values = torch.randn(2, 1, 3, 4), torch.randn(1, 3, 4)
    probability = torch.randn(1, 3, 4).softmax(-1)
    expected = 0.0
    for row in range(3):
        for action in range(4):
            one = critic_loss(q[:, :, row : row + 1], torch.tensor([[action]]), values[:, row : row + 1, action])
            expected += float(one * probability[0, row, action]) / 3
    assert float(values_loss(q, values, probability)) == pytest.approx(expected, rel=1e-5)


def test_networks_of_one_output_per_server_do_not_take_it():
    with pytest.raises(InputError, match="credit is 'everywhere'"):
        METHOD.make_settings("improved", {"credit": "everywhere"})
