# SPDX-License-Identifier: Apache-2.0
"""What a policy observes, as arrays by name and back."""

import numpy as np
import torch

from edgegen.algorithms.rules.offloading import make_rule
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.view import RouterView
from edgegen.platform.records.model_flavor import Arrays, PolicyModel, _rebuilt

NUMBERS = {"slot": 0, "frame": 0}


def example_input() -> Arrays:
    return PolicyModel(make_rule("local"), load_scenario("demo", {"slots": 4})).example_input()


def test_what_a_world_does_not_show_is_left_out_on_the_way_back():
    example = example_input()
    rebuilt = _rebuilt(RouterView, example, "", NUMBERS)
    assert rebuilt.available is None
    assert np.array_equal(rebuilt.backlog_gcycles.numpy(), example["backlog_gcycles"])


def test_what_is_shown_is_kept():
    example = example_input()
    usable = np.ones_like(example["backlog_gcycles"], dtype=bool)
    rebuilt = _rebuilt(RouterView, {**example, "available": usable}, "", NUMBERS)
    assert torch.equal(rebuilt.available, torch.from_numpy(usable))


def test_an_example_takes_no_random_numbers_of_the_policy():
    policy = make_rule("uniform", seed=3)
    before = policy.generator.get_state()
    PolicyModel(policy, load_scenario("demo", {"slots": 4})).example_input()
    assert torch.equal(policy.generator.get_state(), before)
