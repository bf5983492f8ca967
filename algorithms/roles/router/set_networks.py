# SPDX-License-Identifier: Apache-2.0
"""Networks that score every server with the same weights: one policy for any number of servers.

A network maps the features of each server, and the mean over all servers, to one number per server
(:class:`~edgegen.algorithms.nets.sets.StackedSet`). It corrects a simple estimate instead of starting from
nothing: the delay that can be expected on each server.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from edgegen.algorithms.nets.diffusion import OUTPUTS, reverse_chain
from edgegen.algorithms.nets.sets import StackedSet
from edgegen.algorithms.roles.router.actor import EMBEDDING, Actor, ChainActor
from edgegen.algorithms.roles.router.set_view import (
    MEMBER_FEATURES,
    common_features,
    expected_delay_units,
    log_capacity,
    split,
)
from edgegen.algorithms.roles.router.spec import RouterSpec


class SetCritic(nn.Module):
    """G critics: the value of sending a task to each server, minus the expected delay plus what the network adds.

    Args:
        spec: The state's form.
        groups: Number of critics G.
        reward_scale: Factor on delays in the reward: in s if arrivals are ``frozen``, in units if ``seen``.
        gain: What the output of the network is multiplied by.
    """

    def __init__(self, spec: RouterSpec, groups: int, reward_scale: float = 1.0, gain: float = 1.0) -> None:
        super().__init__()
        self.spec = spec
        self.gain = gain
        self.scale = reward_scale * (spec.slot_s if spec.arrivals == "frozen" else 1.0)
        self.net = StackedSet(groups, MEMBER_FEATURES, common_features(spec), [spec.hidden, spec.hidden], 1)
        _start_from_nothing(self.net)

    def forward(self, state: Tensor) -> Tensor:
        """``[G, rows, D] -> [G, rows, B]``."""
        common, members = split(state, self.spec)
        values: Tensor = self.net(members, common)[..., 0]
        return (self.gain * values - expected_delay_units(members)) * self.scale


class _SetActor(Actor):
    """Logits = ln f − (expected delay)/ξ₀ + what the network says; ξ₀ is learned."""

    def __init__(self, spec: RouterSpec) -> None:
        super().__init__(spec)
        frozen = spec.arrivals == "frozen"
        slope = spec.slot_s / spec.start_temperature_s if frozen else 1 / spec.start_temperature
        self.log_slope = nn.Parameter(torch.tensor(math.log(slope)))

    def prior(self, members: Tensor) -> Tensor:
        """Logits without the network ``[G, rows, B]``."""
        return log_capacity(members) - self.log_slope.exp() * expected_delay_units(members)


class SetActor(_SetActor):
    """A plain set network."""

    def __init__(self, spec: RouterSpec) -> None:
        super().__init__(spec)
        self.net = StackedSet(1, MEMBER_FEATURES, common_features(spec), [spec.hidden, spec.hidden], 1)
        _start_from_nothing(self.net)

    def logits(self, state: Tensor, latent: Tensor, noise: Tensor | None) -> Tensor:
        """Return the logits ``[1, rows, B]`` of states ``[1, rows, D]``; there is no latent and no noise."""
        del latent, noise
        common, members = split(state, self.spec)
        output: Tensor = self.net(members, common)[..., 0]
        return self.prior(members) + output


class SetDiffusionActor(ChainActor, _SetActor):
    """The latent action diffusion with a set network for ε: each server's value x_i is one of its features."""

    def __init__(self, spec: RouterSpec) -> None:
        super().__init__(spec)
        common = common_features(spec) + EMBEDDING
        self.net = StackedSet(1, MEMBER_FEATURES + 1, common, [spec.hidden, spec.hidden], 1)

    def logits(self, state: Tensor, latent: Tensor, noise: Tensor | None) -> Tensor:
        """Run the chain from latents ``[1, rows, B]``; x_0 is added to the logits of the simple estimate."""
        common, members = split(state, self.spec)
        output = OUTPUTS[self.spec.epsilon_output]

        def noise_estimate(x: Tensor, step: int) -> Tensor:
            now = self.embedding[step - 1].expand(*common.shape[:-1], -1)
            return output(self.net(torch.cat([x[..., None], members], -1), torch.cat([common, now], -1))[..., 0])

        if noise is not None:  # drawn for the most servers there are in training
            noise = noise[..., : members.shape[-2]]
        return self.prior(members) + reverse_chain(noise_estimate, latent, self.schedule, noise)


def _start_from_nothing(net: StackedSet) -> None:
    """Zero the output layer: training starts from the simple estimate."""
    for parameter in net.own[-1].parameters():
        nn.init.zeros_(parameter)
