# SPDX-License-Identifier: Apache-2.0
"""Actor and critic of allocators: D3PG, which is DDPG with a diffusion actor, and DDPG's plain actor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from edgegen.algorithms.nets.diffusion import OUTPUTS, reverse_chain, vp_schedule
from edgegen.algorithms.nets.sets import StackedSet
from edgegen.algorithms.nets.stacked import StackedMLP
from edgegen.algorithms.nets.step_embeddings import STEP_EMBEDDINGS
from edgegen.algorithms.roles.allocator.settings import AllocatorSettings
from edgegen.algorithms.roles.allocator.state import SlotLayout

EMBEDDING = 16
"""Width of the step embedding."""

Estimate = Callable[[Tensor | None, int], Tensor]
"""From a value of the chain and the number of a step to the network's output ``[G, rows, 2N]``."""

SQUASHES: dict[str, Callable[[Tensor], Tensor]] = {"clamp": lambda x: x.clamp(-1, 1), "tanh": torch.tanh}
"""How the end of a chain becomes an action in [-1, 1], by the name that settings use."""


class AllocationActor(nn.Module, ABC):
    """From a slot's state to a raw action in [−1, 1]: bandwidth of all users, then computing of all users.

    With ``actor: diffusion`` the action is the end of a reverse chain from Gaussian noise whose noise network sees the
    state (the form of D3PG in arXiv 2507.20524); with ``mlp`` it is the tanh of a plain network of the same size.

    Args:
        settings: The settings.
        layout: What lies where in a state, and what actions mean.
        groups: Independent sets of weights G.
    """

    def __init__(self, settings: AllocatorSettings, layout: SlotLayout, groups: int) -> None:
        super().__init__()
        self.settings, self.layout, self.groups = settings, layout, groups
        self.steps = settings.chain_steps
        self.net = self._make(bool(self.steps))
        if self.steps:
            self.schedule = vp_schedule(self.steps, settings.beta_min, settings.beta_max)
            self.embedding = STEP_EMBEDDINGS[settings.step_embedding](groups, self.steps, EMBEDDING)

    @abstractmethod
    def _make(self, chain: bool) -> nn.Module:
        """Make the network, with inputs for value and step of a chain if there is one."""

    @abstractmethod
    def _estimate(self, state: Tensor, embeddings: Tensor | None) -> Estimate:
        """Return the network in states ``[G, rows, D]``, all that is constant along the chain prepared.

        Args:
            state: The states.
            embeddings: Of the steps ``[G, I, rows, width]``; None for a plain actor.
        """

    def forward(self, state: Tensor, noise: Tensor | None) -> Tensor:
        """Return raw actions in [−1, 1] ``[G, rows, 2N]``; arguments as for :meth:`unbounded`."""
        return self.squash(self.unbounded(state, noise))

    def squash(self, x: Tensor) -> Tensor:
        """Bring what :meth:`unbounded` returned into [−1, 1]."""
        return SQUASHES[self.settings.squash](x) if self.steps else x.tanh()

    def unbounded(self, state: Tensor, noise: Tensor | None) -> Tensor:
        """Return raw actions before they are squashed ``[G, rows, 2N]``.

        Args:
            state: ``[G, rows, D]``.
            noise: What :meth:`draw_noise` drew; None for a plain actor.
        """
        if noise is None:
            return self._estimate(state, None)(None, 0)
        chosen, rows = self.settings, state.shape[1]
        network = self._estimate(state, self.embedding()[:, :, None].expand(-1, -1, rows, -1))
        output = OUTPUTS[chosen.epsilon_output]
        between = noise[1:] if chosen.chain_noise and self.steps > 1 else None
        clip = 1.0 if chosen.clip_denoised else None
        return reverse_chain(lambda x, step: output(network(x, step)), noise[0], self.schedule, between, clip)

    def draw_noise(self, rows: int, generator: torch.Generator) -> Tensor | None:
        """Draw x_L and the noise between the steps ``[L, G, rows, 2N]``, on the host; None for a plain actor."""
        if not self.steps:
            return None
        shape = (self.steps, self.groups, rows, self.layout.actions)
        return torch.randn(shape, generator=generator).to(self.embedding.sinusoids.device)


class StackedActor(AllocationActor):
    """An actor that sees all users at once."""

    def _make(self, chain: bool) -> nn.Module:
        chosen, actions = self.settings, self.layout.actions
        inputs = self.layout.size + (actions + EMBEDDING) * chain
        return StackedMLP(self.groups, [inputs, *[chosen.hidden] * chosen.hidden_layers, actions])

    def _estimate(self, state: Tensor, embeddings: Tensor | None) -> Estimate:
        def estimate(x: Tensor | None, step: int) -> Tensor:
            inputs = state
            if x is not None and embeddings is not None:
                inputs = torch.cat([x, embeddings[:, step - 1], state], -1)
            output: Tensor = self.net(inputs)
            return output

        return estimate


class SetActor(AllocationActor):
    """An actor that sees users one by one with the mean over all of them."""

    def _make(self, chain: bool) -> nn.Module:
        chosen, layout = self.settings, self.layout
        member, common = layout.user_features + 2 * chain, layout.cell_features + EMBEDDING * chain
        hidden = [chosen.hidden] * chosen.hidden_layers
        return StackedSet(self.groups, member, common, hidden, 2, chosen.comparisons)

    def _estimate(self, state: Tensor, embeddings: Tensor | None) -> Estimate:
        rows = state.shape[:2]
        users, cell = self.layout.split(state)

        def estimate(x: Tensor | None, step: int) -> Tensor:
            members, common = users, cell
            if x is not None and embeddings is not None:
                members = torch.cat([x.view(*rows, 2, self.layout.users).transpose(-1, -2), users], -1)
                common = torch.cat([cell, embeddings[:, step - 1]], -1)
            output: Tensor = self.net(members, common)
            return output.transpose(-1, -2).reshape(*rows, -1)

        return estimate


class AllocationCritic(nn.Module, ABC):
    """The value of a raw action in a slot: of every user's own cost, or of the mean reward.

    Values are ``[G, rows, N]`` with ``critic_target: per_user``, whose mean is the value of the slot, and
    ``[G, rows, 1]`` otherwise. Arguments as for :class:`AllocationActor`.
    """

    def __init__(self, settings: AllocatorSettings, layout: SlotLayout, groups: int) -> None:
        super().__init__()
        self.settings, self.layout = settings, layout
        hidden = [settings.hidden] * settings.hidden_layers
        self.net = self._make(groups, 2 + 2 * settings.critic_shares, hidden)

    @abstractmethod
    def _make(self, groups: int, per_user: int, hidden: list[int]) -> nn.Module:
        """Make the network, with some inputs per user beside the state."""

    @abstractmethod
    def _value(self, state: Tensor, parts: list[Tensor]) -> Tensor:
        """Return values in states ``[G, rows, D]``, from parts ``[G, rows, N]`` of the action."""

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        """Return values of raw actions ``[G, rows, 2N]`` in states ``[G, rows, D]``."""
        layout = self.layout
        bandwidth, compute = layout.parts(action)
        parts = [bandwidth, compute]
        if self.settings.critic_shares:
            # Times N: 1 is an equal share.
            parts += [share * layout.users for share in layout.shares(bandwidth, compute, layout.hits(state))]
        return self._value(state, parts)


class StackedCritic(AllocationCritic):
    """A critic that sees all users at once."""

    def _make(self, groups: int, per_user: int, hidden: list[int]) -> nn.Module:
        users = self.layout.users
        outputs = users if self.settings.per_user else 1
        return StackedMLP(groups, [self.layout.size + per_user * users, *hidden, outputs])

    def _value(self, state: Tensor, parts: list[Tensor]) -> Tensor:
        value: Tensor = self.net(torch.cat([*parts, state], -1))
        return value


class SetCritic(AllocationCritic):
    """A critic that sees users one by one with the mean over all of them."""

    def _make(self, groups: int, per_user: int, hidden: list[int]) -> nn.Module:
        return StackedSet(groups, self.layout.user_features + per_user, self.layout.cell_features, hidden, 1)

    def _value(self, state: Tensor, parts: list[Tensor]) -> Tensor:
        users, cell = self.layout.split(state)
        value: Tensor = self.net(torch.cat([torch.stack(parts, -1), users], -1), cell)[..., 0]
        return value if self.settings.per_user else value.mean(-1, keepdim=True)


class Networks(NamedTuple):
    """Actor and critic of one form."""

    actor: type[AllocationActor]
    critic: type[AllocationCritic]


NETWORKS = {"mlp": Networks(StackedActor, StackedCritic), "set": Networks(SetActor, SetCritic)}
"""Networks by the name that the setting ``network`` uses."""
