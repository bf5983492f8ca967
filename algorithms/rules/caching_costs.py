# SPDX-License-Identifier: Apache-2.0
"""What it costs to cache something: tables over whole episodes and every cache, for the plans of oracles.

The cost of a frame with a cache is the sum of what each request costs as a hit without steps or as a miss, minus what
the steps are worth. With equal shares that is simple; with the best shares it takes a knapsack for every slot, so
tables begin with a lower bound, in which one request of a slot may get a part of its steps at the full value of that
part, and are made exact where it matters.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from edgegen.algorithms.rules.allocation_optimum import StepValues, best_bandwidth, best_steps_value
from edgegen.envs.provisioning.amenders import steps_from_share
from edgegen.envs.provisioning.curves import CurveTensors
from edgegen.envs.provisioning.draws import Episodes
from edgegen.envs.provisioning.physics import serve
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.view import AllocatorView

Allocation = Literal["best", "equal"]

MOST_ENTRIES = 6_000_000
"""Of one tensor over caches, slots and users."""


class CachingCosts:
    """Costs by episode, frame, cell and cache, per request of a cell and averaged over the slots of a frame.

    Where cells share the backhaul by its misses, a cell's costs are those of being alone; what it adds for others
    follows from ``misses`` and ``detours``.

    Attributes:
        slots: All slots, tensors ``[E, T, K, C, …]``, float64.
        table: Costs ``[E, T, C, F]``; never too high.
        exact: Where they are exact ``[E, T, C, F]``.
        misses: Requests of a slot that go to the cloud ``[E, T, K, C, F]``, if cells are coupled.
        detours: What these cost on the backhaul for each request that shares it, likewise.

    Args:
        scenario: The world.
        episodes: All that happens.
        caches: Caches ``[F, M]``, bool.
        charge: What each costs besides ``[E, C, F]``; infinite if it is forbidden.
        allocation: How bandwidth and steps are divided: ``best``, or ``equal`` among users and hits.
    """

    def __init__(
        self,
        scenario: ProvisioningScenario,
        episodes: Episodes,
        caches: Tensor,
        charge: Tensor,
        allocation: Allocation,
    ) -> None:
        self.scenario, self.caches, self.allocation = scenario, caches, allocation
        self.by_misses = scenario.backhaul_shared_by == "misses"
        self.coupled = self.by_misses and scenario.cells > 1
        self.slots = _slots(scenario, episodes)
        constants = torch.stack(self.slots.curves.values(), dim=-1)
        self._kinds = _distinct(constants.flatten(0, -2))[1].view(self.slots.model.shape)
        self._price_requests()
        self._tabulate(charge[:, None])
        self.exact = torch.full_like(self.table, allocation == "equal", dtype=torch.bool)

    def _price_requests(self) -> None:
        """Work out what every request costs as a hit without any steps, as a miss, and on the backhaul."""
        scenario, slots = self.scenario, self.slots
        share = torch.full_like(slots.gain, 1 / scenario.users)
        bandwidth = best_bandwidth(scenario, slots) if self.allocation == "best" else share
        nothing = torch.zeros_like(share)
        hit = serve(scenario, slots.with_cache(torch.ones_like(slots.cache)), bandwidth, nothing)
        miss = serve(scenario, slots.with_cache(torch.zeros_like(slots.cache)), bandwidth, nothing)
        self._hit_cost, self._miss_cost = hit.cost, miss.cost
        # Of a request that shares the backhaul with all users; with fewer misses it is the shorter.
        self._detour_cost = scenario.delay_weight * miss.delays.backhaul_s
        if self.by_misses:
            self._miss_cost = self._miss_cost - self._detour_cost
            self._detour_cost = self._detour_cost / (scenario.cells * scenario.users)
        self._values = StepValues.of(slots.curves, None, scenario.delay_weight)

    def _tabulate(self, charge: Tensor) -> None:
        """Fill the tables: cost before steps, and cost with the bound, or the equal shares, of what steps are worth."""
        scenario, slots = self.scenario, self.slots
        order = self._values.density.argsort(-1, descending=True)
        model, worth, density = (
            part.gather(-1, order) for part in (slots.model, self._values.worth, self._values.density)
        )
        size = torch.where(density > 0, worth / density, 0.0)
        budget = slots.steps_budget[..., None]
        base, value, misses, detours = [], [], [], []
        width = max(1, MOST_ENTRIES // slots.model.numel())
        for first in range(0, len(self.caches), width):
            caches = self.caches[first : first + width]
            hit = caches[:, slots.model]  # [f, E, T, K, C, N]
            before = torch.where(hit, self._hit_cost, self._miss_cost).sum(-1)
            missed, detour = (~hit).sum(-1).double(), torch.where(hit, 0.0, self._detour_cost).sum(-1)
            if self.by_misses:
                before = before + missed * detour
            if self.allocation == "equal":
                share = hit / hit.sum(-1, keepdim=True).clamp_min(1).double()
                steps = steps_from_share(share, budget, slots.curves.saturation_steps)
                worth_of = (self._values.at(steps) * hit).sum(-1)
            else:
                wanted = caches[:, model] * size
                left = budget - (wanted.cumsum(-1) - wanted)
                worth_of = (torch.minimum(wanted, left.clamp_min(0)) * density).sum(-1)
            base.append(before.mean(3))
            value.append(worth_of.mean(3))
            if self.coupled:
                misses.append(missed)
                detours.append(detour)
        self._base = torch.cat(base).movedim(0, -1) / scenario.users + charge
        self.table = self._base - torch.cat(value).movedim(0, -1) / scenario.users
        if self.coupled:  # [E, T, K, C, F]
            self.misses, self.detours = (torch.cat(part).movedim(0, -1) for part in (misses, detours))

    def refine(self, cells: slice, path: Tensor, wanted: Tensor) -> None:
        """Make the cost of some caches exact.

        Args:
            cells: Some of the cells, c in number.
            path: Number of a cache ``[E, T, c]``.
            wanted: Where its cost is to be made exact ``[E, T, c]``.
        """
        episode, frame, at = wanted.nonzero(as_tuple=True)
        cell = at + (cells.start or 0)
        number = path[episode, frame, at]
        chosen = (episode, frame, slice(None), cell)  # [n, K, N]
        model = self.slots.model[chosen]
        hit = self.caches[number].gather(-1, model.flatten(1)).view(model.shape)
        curves = CurveTensors(*(values[chosen].flatten(0, 1) for values in self.slots.curves.values()))
        budget = self.slots.steps_budget[cell][:, None].expand(hit.shape[:-1]).flatten()
        # Slots in which hits have the same curves in another order are the same knapsack.
        alike = torch.where(hit, self._kinds[chosen], -1).flatten(0, 1).sort(-1).values
        key = torch.cat([alike, budget.long()[:, None]], dim=-1)
        row, which = _distinct(key)
        some = CurveTensors(*(values[row] for values in curves.values()))
        worth = best_steps_value(some, hit.flatten(0, 1)[row], budget[row], self.scenario.delay_weight)
        worth = worth[which].view(hit.shape[:-1]).mean(-1)
        entry = (episode, frame, cell, number)
        self.table[entry] = self._base[entry] - worth / self.scenario.users
        self.exact[entry] = True


def _slots(scenario: ProvisioningScenario, episodes: Episodes) -> AllocatorView:
    """All slots of some episodes at once, ``[E, T, K, C, …]``, float64, nothing cached."""
    shape = (-1, scenario.frames, scenario.slots_per_frame, scenario.cells, scenario.users)
    model = episodes.model.reshape(shape)
    flat = model.flatten(1)
    curves = (values.double().gather(1, flat).view(model.shape) for values in episodes.curves.values())
    upload, result, gain = (
        part.double().reshape(shape) for part in (episodes.upload_mbit, episodes.result_mbit, episodes.gain)
    )
    cache = torch.zeros(*model.shape[:-1], scenario.models, dtype=torch.bool, device=model.device)
    budget = torch.tensor(scenario.steps_per_cell, dtype=torch.float64, device=model.device)
    hit = torch.zeros_like(model, dtype=torch.bool)
    return AllocatorView(0, 0, model, hit, cache, upload, result, gain, budget, CurveTensors(*curves))


def _distinct(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return where an example of each distinct row is, and which of them every row is; int64."""
    distinct, which = torch.unique(rows, dim=0, return_inverse=True)
    example = torch.zeros(len(distinct), dtype=torch.int64, device=rows.device)
    example[which] = torch.arange(len(rows), device=rows.device)
    return example, which
