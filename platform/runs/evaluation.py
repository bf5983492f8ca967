# SPDX-License-Identifier: Apache-2.0
"""Evaluation: whole episodes of a policy in any kind of world, many copies side by side, measured per episode."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from edgegen.algorithms.core.play import metered
from edgegen.algorithms.core.policy import Memory, Policy
from edgegen.envs.core.device import finish
from edgegen.envs.core.kinds import Array, Kind, kind_of
from edgegen.envs.core.world import World, WorldScenario
from edgegen.platform.runs.episodes import evaluation_seed, play_in_chunks

if TYPE_CHECKING:
    from pandas import DataFrame

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Results:
    """What a policy achieved in K episodes.

    Attributes:
        policy: Name of the policy.
        scenario: The world.
        seed: The person's seed; what happens from outside is drawn from ``evaluation_seed(seed)``.
        explore: Whether actions were sampled (True) or the most likely ones.
        decision_wall_s: Wall time spent in the policy, all episodes together, s.
        validation: Whether it was a validation.
        values: What the meter of the kind of world measured, arrays ``[K]`` by name.
    """

    policy: str
    scenario: WorldScenario
    seed: int
    explore: bool
    decision_wall_s: float
    validation: bool = False
    values: Mapping[str, Array]

    def __getitem__(self, metric: str) -> Array:
        """Values of a metric, one per episode ``[K]``."""
        return self.values[metric]

    @property
    def kind(self) -> Kind:
        """Kind of the world."""
        return kind_of(self.scenario)

    @property
    def deciding(self) -> Array:
        """Values of the metric that decides, one per episode ``[K]``."""
        return self.values[self.kind.metric]

    @property
    def episodes(self) -> int:
        """Number of episodes K."""
        return len(self.deciding)

    @property
    def decisions(self) -> int:
        """Tasks or requests in all episodes."""
        counted = self.kind.counted
        if counted in self.values:
            return int(self.values[counted].sum())
        return self.kind.constant(self.scenario)[counted] * self.episodes

    @property
    def decisions_per_s(self) -> float:
        """Decisions per second of wall time in the policy, copies side by side."""
        return self.decisions / self.decision_wall_s

    def renamed(self, policy: str) -> Results:
        """Return the same results under another policy name."""
        return replace(self, policy=policy)

    def to_frame(self) -> DataFrame:
        """Return a row for each episode, a column for each measure, as a pandas frame."""
        import pandas as pd

        return pd.DataFrame({"episode": np.arange(self.episodes), **self.values})

    def to_json(self) -> dict[str, Any]:
        """Return plain values: names and units as those of the meter, arrays as lists."""
        return {
            "policy": self.policy,
            "scenario": self.scenario.name,
            "seed": self.seed,
            "explore": self.explore,
            "decision_wall_s": self.decision_wall_s,
            "validation": self.validation,
            **{name: values.tolist() for name, values in self.values.items()},
            **self.kind.constant(self.scenario),
            self.kind.seed_name: evaluation_seed(self.seed, self.validation),
            "decisions_per_s": self.decisions_per_s,
        }


def evaluate(
    scenario: WorldScenario,
    policy: Policy,
    episodes: int,
    seed: int,
    explore: bool = True,
    device: torch.device | str = "cpu",
    on_chunk: Callable[[int], None] | None = None,
    validation: bool = False,
) -> Results:
    """Play evaluation episodes ``0 .. episodes-1`` of a seed.

    What happens from outside depends on the scenario, the seed and the episode's number alone, so results of different
    policies are paired by episode. It comes from ``evaluation_seed(seed)``, which no training reaches; what a scenario
    draws ``per_seed`` is therefore another thing than in a training with the same seed. The policy's own random numbers
    restart from the seed: the same call gives the same results.

    Args:
        scenario: The world.
        policy: Who decides.
        episodes: Number of episodes K, at least 1.
        seed: The person's seed.
        explore: Sample the policy's actions; otherwise take its most likely ones.
        device: Where simulator and observations live.
        on_chunk: Called with the number of finished episodes whenever a chunk is done.
        validation: Draw what happens from outside for a validation instead.

    Raises:
        InputError: If the seed or the number of episodes is out of range, or an episode has nothing to measure.
        ValueError: If the policy does not decide for all roles of the world.
    """
    kind, root = kind_of(scenario), evaluation_seed(seed, validation)
    policy.seed(seed)

    def measured(first: int, copies: int) -> dict[str, Any]:
        world = kind.world(scenario, copies, device)
        world.reset(root, first)
        timed = _Timed(policy, world.device)
        return {**metered(world, timed, explore).values(), "decision_wall_s": timed.wall_s}

    values = play_in_chunks(episodes, kind.entries(scenario), measured, on_chunk)
    wall_s = float(values.pop("decision_wall_s"))
    return Results(
        policy=policy.name,
        scenario=scenario,
        seed=seed,
        explore=explore,
        decision_wall_s=wall_s,
        validation=validation,
        values=values,
    )


class _Timed(Policy):
    """A policy that is timed, with all that it starts on a device.

    Attributes:
        wall_s: Wall time spent so far, s.
    """

    def __init__(self, policy: Policy, device: torch.device) -> None:
        self._policy, self._device = policy, device
        self.name, self.roles, self.origin, self.wall_s = policy.name, policy.roles, policy.origin, 0.0

    def prepare(self, world: World) -> Memory:
        """See :meth:`Policy.prepare`."""
        return self._measure(lambda: self._policy.prepare(world))

    def begin(self, role: str, view: Any) -> Memory:
        """See :meth:`Policy.begin`."""
        return self._measure(lambda: self._policy.begin(role, view))

    def act(self, role: str, view: Any, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """See :meth:`Policy.act`."""
        return self._measure(lambda: self._policy.act(role, view, memory, explore))

    def _measure(self, call: Callable[[], T]) -> T:
        started = time.perf_counter()
        result = call()
        finish(self._device)
        self.wall_s += time.perf_counter() - started
        return result


def known_mean(values: Array) -> float | None:
    """Mean over the episodes that have a value, None if none has."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None
