# SPDX-License-Identifier: Apache-2.0
"""The best caching of whole episodes by somebody who knows every request beforehand: the plan of the oracle.

Every feasible cache of every frame is considered. The cheapest sequence of caches over the frames, switching cost
included, is found by dynamic programming on lower bounds of their costs
(:mod:`edgegen.algorithms.rules.caching_costs`); the costs on it are made exact, and this is repeated until the cheapest
sequence consists of exact costs alone. No other sequence can be cheaper then: the result is exact.

Cells that share the backhaul by its misses are coupled. They are improved in turn, each exactly, until none improves
any more, from several beginnings; that is near the optimum, and ``bound`` says below what no plan can come.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from edgegen.algorithms.rules.caching_costs import MOST_ENTRIES, Allocation, CachingCosts
from edgegen.envs.core.errors import InputError
from edgegen.envs.provisioning.amenders import storage_overflow_gb
from edgegen.envs.provisioning.curves import CurveTensors
from edgegen.envs.provisioning.draws import Episodes
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.terms import APART
from edgegen.envs.provisioning.world import MBIT_PER_GB

MOST_MODELS = 16
MOST_CACHES = 4096
"""Caches that a plan considers at most."""

_SWEEPS = 50  # over coupled cells; it ends much earlier, when nothing improves


@dataclass(frozen=True)
class CachingPlan:
    """What to cache in E episodes, and what it costs.

    Attributes:
        cache: What is cached in each frame ``[E, T, C, M]``, bool.
        cost: Mean cost per request, with what switching and overflow are charged ``[E]``, float64.
        bound: No plan costs less ``[E]``; equal to ``cost`` unless cells are coupled.
    """

    cache: Tensor
    cost: Tensor
    bound: Tensor


def check_plannable(scenario: ProvisioningScenario) -> None:
    """Refuse a scenario for which no plan can be made.

    Raises:
        InputError: If late requests are penalised, or there are too many models or ways to fill the storage.
    """
    if scenario.max_delay_s is not None and scenario.late_penalty > 0:
        raise InputError(
            f"Scenario '{scenario.name}' has the late_penalty {scenario.late_penalty:g}, but the oracle can only "
            "minimise delay and TV; set late_penalty to 0."
        )
    further = [name for name, weight in scenario.objective.items() if weight and name not in APART]
    if further:
        raise InputError(
            f"Scenario '{scenario.name}' has {' and '.join(further)} in its objective, but the oracle can only "
            "minimise delay and TV, and what caching is charged; set these weights to 0."
        )
    if scenario.models > MOST_MODELS:
        raise InputError(
            f"Scenario '{scenario.name}' has {scenario.models} models, but the oracle tries every cache, "
            f"which works for at most {MOST_MODELS}."
        )


def is_plannable(scenario: ProvisioningScenario) -> bool:
    """Whether a plan can be made for a scenario, whatever sizes its models happen to have."""
    try:
        check_plannable(scenario)
    except InputError:
        return False
    return bool(2**scenario.models <= MOST_CACHES)


@torch.no_grad()
def plan_caching(
    scenario: ProvisioningScenario, episodes: Episodes, allocation: Allocation = "best", alike: int = 1
) -> CachingPlan:
    """Find the best caching of whole episodes.

    Args:
        scenario: The world.
        episodes: All that happens in E episodes.
        allocation: How bandwidth and steps will be divided in every slot: ``best``, or ``equal`` among users and hits.
        alike: So many episodes in a row get the same caches, those of the least mean cost: for plans that must do with
            what such episodes have in common. E is a multiple of it.

    Returns:
        The plan, one row for each such group of episodes.

    Raises:
        InputError: If the scenario can not be planned; see :func:`check_plannable`.
    """
    check_plannable(scenario)
    caches, overflow_gb = _caches(scenario, episodes.size_gb)
    per_episode = scenario.cells * max(scenario.slots * scenario.users, len(caches)) * len(caches)
    width = max(1, MOST_ENTRIES // (per_episode * alike)) * alike
    plans = []
    for at in range(0, len(episodes.size_gb), width):
        rows = slice(at, at + width)
        search = _Search(scenario, _some(episodes, rows), caches, overflow_gb[rows], allocation, alike)
        plans.append(search.solve())
    return CachingPlan(*(torch.cat([getattr(plan, field.name) for plan in plans]) for field in fields(CachingPlan)))


def _some(episodes: Episodes, rows: slice) -> Episodes:
    """Return some of the episodes."""
    values = {field.name: getattr(episodes, field.name) for field in fields(Episodes) if field.name != "curves"}
    curves = CurveTensors(*(constant[rows] for constant in episodes.curves.values()))
    return Episodes(**{name: value[rows] for name, value in values.items()}, curves=curves)


def _caches(scenario: ProvisioningScenario, size_gb: Tensor) -> tuple[Tensor, Tensor]:
    """Caches worth considering ``[F, M]``, and what they overflow the storage by ``[E, C, F]``, GB."""
    numbers = torch.arange(2**scenario.models, device=size_gb.device)
    bits = (numbers[:, None] >> torch.arange(scenario.models, device=size_gb.device)) & 1 == 1
    storage_gb = size_gb.new_tensor(scenario.storage_per_cell_gb)[:, None, None]
    overflow_gb = storage_overflow_gb(bits, size_gb[:, None, None], storage_gb)
    if scenario.caching_amender == "drop":  # what does not fit is not kept
        possible = (overflow_gb == 0).flatten(0, 1).any(0)
        bits, overflow_gb = bits[possible], overflow_gb[..., possible]
    if len(bits) > MOST_CACHES:
        raise InputError(
            f"In scenario '{scenario.name}' there are {len(bits)} ways to fill the storage, but the oracle can try at "
            f"most {MOST_CACHES}."
        )
    return bits, overflow_gb


class _Search:
    """Search for the caches of some episodes. A path ``[E, T, C]`` holds the number of a cache for each frame."""

    def __init__(
        self,
        scenario: ProvisioningScenario,
        episodes: Episodes,
        caches: Tensor,
        overflow_gb: Tensor,
        allocation: Allocation,
        alike: int,
    ) -> None:
        self.scenario, self.caches, self.alike = scenario, caches, alike
        charge = scenario.overflow_penalty_per_gb * overflow_gb
        if scenario.caching_amender == "drop":
            charge = torch.where(overflow_gb > 0, torch.inf, charge)
        self.forbidden = charge.isinf()[:, None, None]
        self.costs = CachingCosts(scenario, episodes, caches, charge, allocation)
        weight = scenario.switching_weight * MBIT_PER_GB / scenario.backhaul_mbit_s
        added = (~caches[:, None] & caches).double()  # by cache g after cache f [F, F, M]
        self.switch = weight * torch.einsum("fgm,em->efg", added, episodes.size_gb)[:, None] if weight else None
        self.start = weight * (episodes.size_gb @ caches.double().T)[:, None]  # [E, 1, F]

    def solve(self) -> CachingPlan:
        """Find the best caches of all frames and cells."""
        if not self.costs.coupled:
            path = self._cheapest(slice(None))
            cost = self._cost(path, self.costs.table)
            return self._plan(path, cost, cost)
        cells, users, forbidden = self.scenario.cells, self.scenario.users, self.forbidden
        least = [torch.where(forbidden, torch.inf, part).amin(-1) for part in (self.costs.misses, self.costs.detours)]
        most = [torch.where(forbidden, -torch.inf, part).amax(-1) for part in (self.costs.misses, self.costs.detours)]
        # For numbers above their least values, m d ≥ m d_min + m_min d − m_min d_min: so cells come apart.
        path = self._cheapest(slice(None), self._meeting(*least))
        meeting_least = (least[0].sum(-1) * least[1].sum(-1) - (least[0] * least[1]).sum(-1)).mean((1, 2))
        bound = self._cost(path, self.costs.table + self._meeting(*least)) - meeting_least / (users * cells)
        best = self._improved(path)
        for share in (0.3, 0.6, 1.0):  # other beginnings: others send more
            between = [low + share * (high - low) for low, high in zip(least, most, strict=True)]
            other = self._improved(self._cheapest(slice(None), self._meeting(*between)))
            best = torch.where(self._cheaper(other, best)[..., None], other, best)
        # Each pair of cells meets twice, once from either side.
        cost = self._cost(best, self.costs.table + self._meeting(*self._sent(best)) / 2)
        return self._plan(best, cost, bound)

    def _plan(self, path: Tensor, cost: Tensor, bound: Tensor) -> CachingPlan:
        return CachingPlan(self.caches[path[:: self.alike]], *(self._shared(values) for values in (cost, bound)))

    def _shared(self, values: Tensor) -> Tensor:
        """Means ``[E / alike, ...]`` over the episodes that get the same caches."""
        return values if self.alike == 1 else values.view(-1, self.alike, *values.shape[1:]).mean(1)

    def _improved(self, path: Tensor) -> Tensor:
        """Improve coupled cells in turn, each exactly, until none improves any more."""
        for _ in range(_SWEEPS):
            before = path.clone()
            for cell in range(self.scenario.cells):
                one = slice(cell, cell + 1)
                path[:, :, one] = self._cheapest(one, self._meeting(*self._sent(path))[:, :, one])
            if torch.equal(before, path):
                break
        return path

    def _cheaper(self, one: Tensor, other: Tensor) -> Tensor:
        """Whether one path ``[E, T, C]`` is cheaper than another ``[E, T]``; with switching, only as a whole."""
        costs = []
        for path in (one, other):
            table = self.costs.table + self._meeting(*self._sent(path)) / 2
            by_frame = table.gather(-1, path[..., None])[..., 0].mean(-1)
            by_frame = by_frame if self.switch is None else self._cost(path, table)[:, None].expand_as(by_frame)
            costs.append(self._shared(by_frame))
        return (costs[0] < costs[1]).repeat_interleave(self.alike, 0)

    def _sent(self, path: Tensor) -> list[Tensor]:
        """What the caches on a path ``[E, T, C]`` send over the backhaul, as parts ``[E, T, K, C]`` each."""
        index = path[:, :, None, :, None].expand(*self.costs.slots.model.shape[:-1], 1)
        return [part.gather(-1, index)[..., 0] for part in (self.costs.misses, self.costs.detours)]

    def _cheapest(self, cells: slice, extra: Tensor | None = None) -> Tensor:
        """Numbers of the caches of least cost ``[E, T, c]`` of some cells; ``extra`` ``[E, T, c, F]`` is added."""
        while True:
            table = self.costs.table[:, :, cells]
            path = self._path(table if extra is None else table + extra)
            open_ends = ~self.costs.exact[:, :, cells].gather(-1, path[..., None])[..., 0]
            if not bool(open_ends.any()):
                return path
            self.costs.refine(cells, path, open_ends)

    def _path(self, table: Tensor) -> Tensor:
        """Cheapest sequence over the frames of a table ``[E, T, c, F]``, with switching, by dynamic programming."""
        table = self._shared(table)
        if self.switch is None:
            return table.argmin(-1).repeat_interleave(self.alike, 0)
        cost, back = table[:, 0] + self.start[:: self.alike], []
        for frame in range(1, table.shape[1]):
            cost, source = (cost[..., None] + self.switch[:: self.alike]).min(-2)
            cost = cost + table[:, frame]
            back.append(source)
        path = [cost.argmin(-1)]
        for source in reversed(back):
            path.append(source.gather(-1, path[-1][..., None])[..., 0])
        return torch.stack(path[::-1], dim=1).repeat_interleave(self.alike, 0)

    def _meeting(self, misses: Tensor, detours: Tensor) -> Tensor:
        """Cost of what meets what other cells send over the backhaul ``[E, T, C, F]``, from parts ``[E, T, K, C]``."""
        others = [(part.sum(-1, keepdim=True) - part)[..., None] for part in (misses, detours)]
        return (self.costs.misses * others[1] + self.costs.detours * others[0]).mean(2) / self.scenario.users

    def _cost(self, path: Tensor, table: Tensor) -> Tensor:
        """Mean cost ``[E]`` of sequences of caches ``[E, T, C]``."""
        cost = table.gather(-1, path[..., None])[..., 0].sum(1)
        if self.switch is not None:
            first = self.start.expand(len(path), path.shape[2], -1).gather(-1, path[:, 0, :, None])[..., 0]
            episode = torch.arange(len(path), device=path.device)[:, None, None]
            cost = cost + first + self.switch[:, 0][episode, path[:, :-1], path[:, 1:]].sum(1)
        return cost.mean(-1) / self.scenario.frames
