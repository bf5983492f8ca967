# SPDX-License-Identifier: Apache-2.0
"""Worlds that differ only in their units: whoever learns there sees, decides and learns the same."""

from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import nn

from edgegen.algorithms.methods.configs import LADTSConfig
from edgegen.algorithms.rllib.runner import JointEnvRunner
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.view import ROUTER

FACTOR = 60
"""Times are so many times as long, rates so many times as low."""
SMALL = {"slots": 6, "service_order": "by_index"}


class PlainTools:
    """What updates are lent: Adam, and noise from a generator of its own."""

    def __init__(self, learner: Any, module: nn.Module) -> None:
        self._steps = {
            name: torch.optim.Adam(parameters, rate) for name, parameters, rate in learner.optimizers(module)
        }
        self._generator = torch.Generator().manual_seed(3)

    def step(self, module_id: str, name: str, loss: torch.Tensor) -> None:
        """Take a step of one optimizer."""
        del module_id
        self._steps[name].zero_grad()
        loss.backward()
        self._steps[name].step()

    def noise(self, draw: Any, rows: int) -> Any:
        """Draw the noise of an actor."""
        return draw(rows, self._generator)


def learned(preset: str, factor: float, **settings: Any) -> tuple[dict[str, torch.Tensor], list[float], torch.Tensor]:
    """What is met in a world of another unit, the losses of updates on it, and what is decided after them."""
    world = load_scenario("demo", SMALL)
    world = load_scenario(
        "demo",
        {
            **SMALL,
            "slot_s": world.slot_s * factor,
            "capacity_gcycles_s": [value / factor for value in world.capacity_gcycles_s],
            "rate_mbit_s": [value / factor for value in world.rate_mbit_s],
        },
    )
    config = LADTSConfig().scenario(world).preset(preset, copies=2, batch_size=16, **settings).debugging(seed=0)
    runner = JointEnvRunner(config=config)
    (joint,) = runner.sample(num_timesteps=12)
    columns = {name: values.clone() for name, values in joint.roles[ROUTER].columns.items()}
    group = config.build_learner()
    group.build()
    module, learner = group.module[ROUTER], config.learning().roles[ROUTER]
    tools, losses = PlainTools(learner, module), []
    for _ in range(20):
        told = learner.update(module, columns, tools)
        losses += [float(told["critic_loss"]), float(told["actor_loss"])]
    latent = columns["latent"]
    noise = module.actor.chain_noise(latent.shape[1], torch.Generator().manual_seed(5))
    with torch.no_grad():
        decided = module.actor(columns[Columns.OBS], latent, noise)
    return columns, losses, decided


@pytest.mark.parametrize("preset", ["improved", "set"])
def test_units_of_a_world_change_nothing_of_what_is_learned(preset: str) -> None:
    columns, losses, decided = learned(preset, 1)
    others, other_losses, other_decided = learned(preset, FACTOR)
    for name, values in columns.items():
        assert torch.allclose(values.double(), others[name].double(), rtol=1e-4, atol=1e-4), name
    assert np.allclose(losses, other_losses, rtol=1e-3)
    assert torch.allclose(decided, other_decided, atol=5e-3)
    assert not torch.allclose(decided[0, 0], decided[0, -1])  # it decides by what it sees


def test_rewards_of_the_published_preset_stay_seconds() -> None:
    columns, others = (learned("paper", factor, sharing="full", hidden=4)[0] for factor in (1, FACTOR))
    assert torch.allclose(others[Columns.REWARDS], FACTOR * columns[Columns.REWARDS], rtol=1e-3)
    slots = learned("paper", FACTOR, sharing="full", hidden=4, reward_unit="slot")[0]
    assert torch.allclose(slots[Columns.REWARDS], columns[Columns.REWARDS], rtol=1e-3)
