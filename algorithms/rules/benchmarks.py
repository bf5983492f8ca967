# SPDX-License-Identifier: Apache-2.0
"""Benchmarks that need the scenario: searched and best allocations, and the oracles that bound what can be gained.

Popularity caching with the best allocation, and the best caching with equal shares, divide the head-room between the
simple rules and the oracle into what allocation and what caching can bring.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from edgegen.algorithms.core.policy import Memory
from edgegen.algorithms.rules.allocation_optimum import best_allocation
from edgegen.algorithms.rules.allocation_search import SearchSettings, search_allocation
from edgegen.algorithms.rules.caching import (
    CurrentPopular,
    ProvisioningRule,
    RecentPopular,
    StaticPopular,
    equal_bandwidth,
    equal_compute,
    shares,
)
from edgegen.algorithms.rules.caching_costs import Allocation
from edgegen.algorithms.rules.caching_optimum import check_plannable, plan_caching
from edgegen.envs.core.world import World
from edgegen.envs.provisioning.curves import CurveTensors
from edgegen.envs.provisioning.draws import Episodes, draw_requests
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.view import CACHER, AllocatorView, CacherView

_PLAN = "plan"
_SLOT = "; channels and curves of the slot"


class SCHRS(StaticPopular):
    """Static caching, heuristic allocation: the models most popular beforehand, and a genetic algorithm in every slot.

    The name is that of a benchmark of arXiv 2411.01458; the definition is our choice.

    Args:
        scenario: The world.
        seed: Of the genetic algorithm.
        settings: Its sizes and operators.
    """

    name = "schrs"
    information = StaticPopular.information + _SLOT

    def __init__(self, scenario: ProvisioningScenario, seed: int = 0, settings: SearchSettings | None = None) -> None:
        super().__init__(seed)
        self.scenario, self.settings = scenario, settings

    def allocate(self, view: AllocatorView) -> Tensor:
        """See :meth:`ProvisioningRule.allocate`."""
        return shares(*search_allocation(self.scenario, view, self.generator, self.settings))


class BestAllocation(ProvisioningRule):
    """Caches as a rule does, and divides bandwidth and computing in the best way for what is cached.

    Args:
        rule: Who caches.
        scenario: The world.
        seed: Of the rule.
    """

    def __init__(self, rule: ProvisioningRule, scenario: ProvisioningScenario, seed: int = 0) -> None:
        self.rule, self.scenario = rule, scenario
        self.name = f"{rule.name}-best"
        self.information = rule.information + _SLOT
        super().__init__(seed)

    def seed(self, seed: int) -> None:
        """Restart the random numbers of the rule."""
        self.rule.seed(seed)

    def cache(self, view: CacherView, memory: Memory) -> Tensor:
        """See :meth:`ProvisioningRule.cache`."""
        return self.rule.cache(view, memory)

    def allocate(self, view: AllocatorView) -> Tensor:
        """See :meth:`ProvisioningRule.allocate`."""
        return shares(*best_allocation(self.scenario, view))


class Oracle(ProvisioningRule):
    """The ceiling: knows all requests, data sizes and channels of the whole episode before its first frame is cached.

    Caching is the best sequence of feasible caches over the frames, allocation the best in every slot: no policy has a
    lower mean cost in any episode. Exact, unless cells share the backhaul by its misses; see
    :mod:`edgegen.algorithms.rules.caching_optimum`. Nothing real can know what it knows.

    With ``knows="popularity"`` it only knows how probable requests for each model are in every frame, and plans for the
    mean over ``samples`` episodes of requests it makes up from that: what caching can reach, up to the error of these
    samples, for somebody who knows all that can be known but not what chance will bring.

    Args:
        scenario: The world.
        seed: Of the made-up requests.
        allocation: ``best``, or ``equal`` for the best caching that goes with equal shares.
        knows: ``requests``, or ``popularity``.
        samples: Made-up episodes per episode.

    Raises:
        InputError: If the scenario can not be planned.
    """

    name = "oracle"
    information = "every request and channel of the whole episode"

    def __init__(
        self,
        scenario: ProvisioningScenario,
        seed: int = 0,
        allocation: Allocation = "best",
        knows: Literal["requests", "popularity"] = "requests",
        samples: int = 16,
    ) -> None:
        check_plannable(scenario)
        super().__init__(seed)
        self.scenario, self.allocation, self.knows, self.samples = scenario, allocation, knows, samples
        if allocation == "equal":
            self.name = "oracle-caching"
        if knows == "popularity":
            self.name = "oracle-popularity"
            self.information = "model sizes, true popularity in all frames" + _SLOT

    def prepare(self, world: World) -> Memory:
        """Return what will be cached in the whole future of a world.

        Args:
            world: At the beginning of its episodes; nothing in it is changed.

        Raises:
            ValueError: If the episodes have begun, or nobody knows the future of the world.
        """
        if world.future is None:
            raise ValueError("an oracle plans for worlds whose future is known, and that of a live one is not")
        if world.round or world.turn != CACHER:
            raise ValueError("a plan is made before the first frame is cached; call reset()")
        if self.knows == "requests":
            return {_PLAN: plan_caching(self.scenario, world.future, self.allocation).cache}
        likely = self._made_up(world.future)
        return {_PLAN: plan_caching(self.scenario, likely, self.allocation, self.samples).cache}

    def _made_up(self, known: Episodes) -> Episodes:
        """Make up episodes ``[E · samples]`` of which only popularity, sizes and curves are those of known ones."""
        scenario, rows = self.scenario, len(known.size_gb) * self.samples
        seed = int(torch.randint(2**62, (1,), generator=self.generator))
        drawn = draw_requests(scenario, seed, range(rows), known.gain.device, known.gain.dtype)
        popularity = known.popularity[:, : scenario.frames].cpu().repeat_interleave(self.samples, 0)
        asked = scenario.slots_per_frame * scenario.users
        model = torch.multinomial(popularity.flatten(0, 2), asked, replacement=True, generator=self.generator)
        shape = (rows, scenario.frames, scenario.cells, scenario.slots_per_frame, scenario.users)
        model = model.view(shape).transpose(2, 3).reshape(drawn.model.shape).to(drawn.model.device)
        size_gb, *curves = (
            values.repeat_interleave(self.samples, 0) for values in (known.size_gb, *known.curves.values())
        )
        return replace(drawn, model=model, size_gb=size_gb, curves=CurveTensors(*curves))

    def cache(self, view: CacherView, memory: Memory) -> Tensor:
        """See :meth:`ProvisioningRule.cache`; the memory must come from ``prepare``.

        Raises:
            ValueError: If it does not.
        """
        if _PLAN not in memory:
            raise ValueError("an oracle has to foresee the episodes: begin with the memory that prepare() returns")
        return memory[_PLAN][:, view.frame]

    def allocate(self, view: AllocatorView) -> Tensor:
        """See :meth:`ProvisioningRule.allocate`."""
        if self.allocation == "equal":
            return shares(equal_bandwidth(view), equal_compute(view))
        return shares(*best_allocation(self.scenario, view))


PROVISIONING_BENCHMARKS: dict[str, Callable[[ProvisioningScenario, int], ProvisioningRule]] = {
    "popular-static-best": lambda scenario, seed: BestAllocation(StaticPopular(), scenario, seed),
    "popular-recent-best": lambda scenario, seed: BestAllocation(RecentPopular(), scenario, seed),
    "popular-current-best": lambda scenario, seed: BestAllocation(CurrentPopular(), scenario, seed),
    "schrs": SCHRS,
    "oracle-popularity": lambda scenario, seed: Oracle(scenario, seed, knows="popularity"),
    "oracle-caching": lambda scenario, seed: Oracle(scenario, seed, "equal"),
    "oracle": Oracle,
}
"""Benchmarks by name, made from a scenario and a seed."""

ORACLES = ("oracle-popularity", "oracle-caching", "oracle")
"""Those that know the future, in scenarios in which it can be planned for."""
