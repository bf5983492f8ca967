# SPDX-License-Identifier: Apache-2.0
"""How allocators decide, and how they explore."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgegen.algorithms.core.randomness import OwnRandomNumbers
from edgegen.algorithms.roles.allocator.networks import AllocationActor
from edgegen.algorithms.roles.allocator.settings import AllocatorSettings
from edgegen.algorithms.roles.allocator.state import SlotState, as_users
from edgegen.algorithms.roles.cells import Cells
from edgegen.envs.provisioning.amenders import amount_from_raw, raw_from_shares
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.view import AllocatorView

_BANDWIDTH_NOISE = 0.2
"""Standard deviation of the logarithm of bandwidth where only some users are served."""


@dataclass(frozen=True)
class AllocationDecision:
    """How a slot is divided, with all that a transition needs.

    Attributes:
        state: ``[E, C, D]``.
        action: Raw action ``[E, C, 2N]``, users in the order of the state.
        order: That order ``[E, C, N]``; None if it is the users' own.
        bandwidth: Shares ``[E, C, N]`` in the users' own order.
        compute: Likewise.
    """

    state: Tensor
    action: Tensor
    order: Tensor | None
    bandwidth: Tensor
    compute: Tensor


class Allocator:
    """Allocation by an actor. The noise of a chain is drawn whether or not it explores.

    Args:
        network: The actor.
        settings: The settings.
        scenario: The world whose scales the states have.
        chance: Whose random numbers it takes.
        sizes_mbit: Upload and result that are 1 in the states; the largest of the world if not given.

    Attributes:
        state: Makes the states.
        noise: Standard deviation of the noise on raw computing, and on the logarithm of bandwidth, while exploring; 0
            outside training.
        serve_some: Share of slots in which only some random users get computing while exploring; 0 outside training.
    """

    def __init__(
        self,
        network: AllocationActor,
        settings: AllocatorSettings,
        scenario: ProvisioningScenario,
        chance: OwnRandomNumbers,
        sizes_mbit: tuple[float, float] | None = None,
    ) -> None:
        self.network, self.settings, self.chance = network, settings, chance
        self.cells = Cells.of(scenario.cells, settings)
        self.state = SlotState(scenario, settings, sizes_mbit)
        self.explore(False)

    def explore(self, explore: bool) -> None:
        """Explore as the settings say, or not at all."""
        self.noise = self.settings.exploration_noise if explore else 0.0
        self.serve_some = self.settings.serve_some if explore else 0.0

    @torch.no_grad()
    def decide(self, view: AllocatorView, explore: bool = True) -> AllocationDecision:
        """Divide a slot."""
        layout, generator = self.network.layout, self.chance.generator
        order = self.state.order(view)
        state = self.state(view, order)
        grouped = self.cells.grouped(state)
        raw = self.network(grouped, self.network.draw_noise(grouped.shape[1], generator))
        if explore and self.noise > 0:
            bandwidth, compute = raw.split(layout.users, -1)
            disturbance = torch.randn(tuple(compute.shape), generator=generator).to(compute)
            compute = (compute + self.noise * disturbance).clamp(-1, 1)
            raw = torch.cat([self._disturbed(bandwidth, self.noise), compute], -1)
        if explore and self.serve_some > 0:
            raw = self._serve_some(raw)
        action = self.cells.ungrouped(raw)
        hit = view.hit if order is None else view.hit.gather(-1, order)
        bandwidth, compute = (as_users(share, order) for share in layout.shares(*layout.parts(action), hit))
        return AllocationDecision(state, action, order, bandwidth, compute)

    def _serve_some(self, raw: Tensor) -> Tensor:
        """In some slots give no computing to all but a random number of random users, and disturb the bandwidth.

        Half of these slots leave the computing of those who are served as it is, half draw it at random.
        """
        users, rule = self.network.layout.users, self.network.layout.allocation
        shape = (*raw.shape[:-1], users)
        chosen, share, kept = (self.chance.random((*shape[:-1], 1), raw) for _ in range(3))
        rank = self.chance.random(shape, raw).argsort(-1)
        bandwidth, compute = raw[..., :users], raw[..., users:]
        compute = torch.where(kept < 0.5, compute, self.chance.random(shape, raw) * 2 - 1)
        nothing = raw_from_shares(rule, torch.zeros_like(compute))
        compute = torch.where(rank < share * users, compute, nothing)
        changed = torch.cat([self._disturbed(bandwidth, _BANDWIDTH_NOISE), compute], -1)
        return torch.where(chosen < self.serve_some, changed, raw)

    def _disturbed(self, bandwidth: Tensor, deviation: float) -> Tensor:
        """Disturb raw bandwidth ``[..., N]`` by factors whose logarithms have this standard deviation.

        Not by sums: an actor may ask for little of everything, from which a sum could take all that somebody has.
        """
        rule = self.network.layout.allocation
        factor = (deviation * torch.randn(tuple(bandwidth.shape), generator=self.chance.generator).to(bandwidth)).exp()
        return raw_from_shares(rule, (amount_from_raw(rule, bandwidth) * factor).clamp(0, 1))
