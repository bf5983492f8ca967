# SPDX-License-Identifier: Apache-2.0
"""The learned fleet as a policy: the functions of the kernels decide, for all three roles."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from edgegen.algorithms.core.policy import Memory
from edgegen.algorithms.core.trained import Decided, StoredPolicy, TrainedPolicy
from edgegen.algorithms.fleet import decisions
from edgegen.algorithms.fleet.decisions import CACHER_FEATURES, Brain
from edgegen.algorithms.fleet.episodes import play_brain
from edgegen.algorithms.fleet.nets import ResidualChain, no_net
from edgegen.algorithms.fleet.spec import FEATURES, FleetSpec, make_chain
from edgegen.envs.core.kinds import Meter
from edgegen.envs.core.world import World
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.envs.fleet.view import ALLOCATOR, CACHER, ROUTER, AllocatorView, CacherView, RouterView, seen_in


class FleetPolicy(TrainedPolicy):
    """The rule ``price-greedy`` and what chains add to it.

    It is deterministic: ``explore`` changes nothing.

    Args:
        networks: Chain of each role that was learned.
        spec: What they are, and the constants of the rule.
        scenario: The world; its costs are known to the rule.
        seed: Of random numbers that a training draws.
    """

    method: ClassVar[str] = "fleet"
    roles = frozenset({CACHER, ROUTER, ALLOCATOR})

    def __init__(self, networks: dict[str, nn.Module], spec: FleetSpec, scenario: FleetScenario, seed: int = 0) -> None:
        super().__init__(seed)
        self._networks, self.spec, self.scenario = networks, spec, scenario
        self.name = "fleet" if len(spec.learn) > 1 else f"fleet ({spec.learn[0]} alone)"
        self.information = "what is resident, reported backlogs and their age, recent demand, prices"
        self.refresh()

    @classmethod
    def restore(cls, stored: StoredPolicy, scenario: FleetScenario, seed: int = 0) -> FleetPolicy:
        """Rebuild a stored policy; it fits any number of sites and models.

        Raises:
            InputError: If it is damaged.
        """
        spec = stored.spec(FleetSpec)
        networks: dict[str, nn.Module] = {role: make_chain(spec, role) for role in spec.learn}
        stored.fill(networks)
        return cls(networks, spec, scenario, seed)

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The chains."""
        return self._networks

    def refresh(self) -> None:
        """Decide with the present weights of the chains from now on."""
        nets = {
            role: cast(ResidualChain, self._networks[role]).weights() if role in self._networks else no_net(width)
            for role, width in FEATURES.items()
        }
        second_s = self.scenario.unit_s
        rule, unit_s = self.spec.prices.rule(self.scenario), self.spec.unit_s * second_s
        self.brain = Brain(rule, nets[ROUTER], nets[ALLOCATOR], nets[CACHER], unit_s, second_s)

    def play_through(self, world: World, meter: Meter) -> bool:
        """See :meth:`Policy.play_through`."""
        requests, books, results = play_brain(world.scenario, self.brain, world.future)
        meter.take(requests, results, books.loads)  # type: ignore[attr-defined]
        return True

    def decide(self, role: str, view: Any, memory: Memory, explore: bool = True) -> Decided:
        """See :meth:`TrainedPolicy.decide`."""
        if role == CACHER:
            return Decided(self._keep(view), None, memory)
        return Decided(self._route(view) if role == ROUTER else self._steps(view), None, memory)

    def _keep(self, view: CacherView) -> Tensor:
        demand, resident = _array(view.demand), _array(view.resident).astype(np.uint8)
        wanted, shape = np.zeros_like(resident), demand.shape[1:]
        names = ("size_gb", "load_s", "work_s", "memory_gb", "speed", "backlog_s")
        size_gb, load_s, work_s, memory_gb, speed, backlog_s = (_array(getattr(view, name)) for name in names)
        scores, latent, features = np.zeros(shape), np.zeros(shape), np.zeros((*shape, CACHER_FEATURES))
        for e in range(len(demand)):
            decisions.plan(
                *(self.brain, demand[e], resident[e], size_gb[e, 0], load_s[e], work_s[e, 0], memory_gb[e]),
                *(speed[e], backlog_s[e], scores, latent, features, wanted[e]),
            )
        return torch.from_numpy(wanted.astype(np.bool_)).to(view.demand.device)

    def _route(self, view: RouterView) -> Tensor:
        seen = seen_in(view)
        own = ("weight", "deadline_s", "least_quality", "full_quality", "age_s", "replicas")
        site = np.zeros(len(seen), dtype=np.int64)
        decisions.choose_all(self.brain, seen, _array(view.due), _array(view.home), _columns(view, own), site)
        return torch.from_numpy(site[:, None]).to(view.due.device)

    def _steps(self, view: AllocatorView) -> Tensor:
        placed = ("backlog_s", "mean_backlog_s", "load_s", "least_s", "full_s", "slack_s", "speed", "work_price")
        columns = _columns(view, (*placed, "weight", "deadline_s", "least_quality", "full_quality"))
        share = np.zeros(len(columns))
        decisions.divide_all(self.brain, _array(view.due), _array(view.in_cloud), columns, share)
        return torch.from_numpy(share.reshape(-1, 1, 1, 1)).to(view.due.device)


def _array(values: Tensor) -> Any:
    return values.detach().cpu().numpy()


def _columns(view: Any, names: tuple[str, ...]) -> Any:
    return np.stack([_array(getattr(view, name)).astype(np.float64) for name in names], 1)
