# SPDX-License-Identifier: Apache-2.0
"""Independent PPO by TorchRL on an offloading world, one policy for all servers.

    python examples/torchrl/ippo.py --scenario demo --episodes 30

Every server is an agent of the group ``edge``; what it sees is normalised and says who it is. A placement is judged by
its own delay (gamma is 0), and steps in which an agent has nothing to place are left out.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torch.distributions import Categorical
from torchrl.envs import PettingZooWrapper
from torchrl.modules import MLP, ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss

from edgegen.envs.offloading.agents import TASKS_LEFT
from edgegen.envs.pettingzoo import parallel_env

GROUP = "edge"


def make_env(scenario: Any, seed: int) -> PettingZooWrapper:
    """Make the task: the world as TorchRL has it.

    Args:
        scenario: Name or path of an offloading scenario, or a scenario.
        seed: Seed of the arrivals.
    """
    world = parallel_env(scenario, observation="vector", normalise=True, identity=True)
    return PettingZooWrapper(world, categorical_actions=True, seed=seed)


def actor_of(logits: nn.Module, group: str | None = None) -> ProbabilisticActor:
    """Make an actor of a network, for the agents of a group, or for rows of decisions if there is none."""

    def key(name: str) -> Any:
        return name if group is None else (group, name)

    return ProbabilisticActor(
        TensorDictModule(logits, in_keys=[key("observation")], out_keys=[key("logits")]),
        in_keys={"logits": key("logits")},
        out_keys=[key("action")],
        distribution_class=Categorical,
        return_log_prob=True,
        log_prob_key=key("sample_log_prob"),
    )


def placements(rollout: TensorDict) -> TensorDict:
    """Return the decisions of agents that had a task, as rows."""
    names = ("observation", "action", "sample_log_prob")
    rows = TensorDict({name: rollout[GROUP, name] for name in names}, batch_size=rollout[GROUP, "action"].shape)
    rows["reward"] = rollout["next", GROUP, "reward"]
    return rows[rollout[GROUP, "observation"][..., TASKS_LEFT] > 0]


def train(scenario: Any, episodes: int, seed: int = 0, epochs: int = 4) -> list[float]:
    """Train; returns the mean reward of a placement in each episode.

    Args:
        scenario: The world.
        episodes: Episodes to play and to learn from.
        seed: Seed of arrivals, weights and actions.
        epochs: Passes over each episode.
    """
    torch.manual_seed(seed)
    env = make_env(scenario, seed)
    width = env.observation_spec[GROUP, "observation"].shape[-1]
    servers = env.full_action_spec[GROUP, "action"].space.n
    logits, values = (
        MLP(in_features=width, out_features=outputs, num_cells=[64, 64], activation_class=nn.Tanh)
        for outputs in (servers, 1)
    )
    loss_of = ClipPPOLoss(actor_of(logits), ValueOperator(values, in_keys=["observation"]), entropy_coeff=0.01)
    optimizer = torch.optim.Adam(loss_of.parameters(), lr=1e-3)
    behaviour, rewards = actor_of(logits, GROUP), []
    for _ in range(episodes):
        with torch.no_grad():
            rows = placements(env.rollout(100_000, behaviour))
            rewards.append(float(rows["reward"].mean()))
            scaled = (rows["reward"] - rows["reward"].mean()) / rows["reward"].std().clamp_min(1e-6)
        for _ in range(epochs):
            with torch.no_grad():
                rows["value_target"] = scaled
                rows["advantage"] = scaled - values(rows["observation"])
            losses = loss_of(rows)
            optimizer.zero_grad()
            sum(losses[name] for name in ("loss_objective", "loss_critic", "loss_entropy")).backward()
            optimizer.step()
    return rewards


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="demo")
    parser.add_argument("--episodes", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for number, reward in enumerate(train(arguments.scenario, arguments.episodes, arguments.seed), start=1):
        sys.stdout.write(f"episode {number}: mean reward of a placement {reward:.3f}\n")
