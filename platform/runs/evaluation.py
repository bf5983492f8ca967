"""Evaluation: whole episodes of a policy, many copies side by side, measured per episode."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgegen.algorithms.core.policy import Policy
from edgegen.envs.core.device import finish
from edgegen.envs.core.errors import InputError
from edgegen.envs.offloading.physics import SlotOutcome
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.offloading.world import OffloadingWorld
from edgegen.platform.runs.episodes import Array, EvaluationResults, evaluation_seed, play_in_chunks

_PARTS = ("transfer_s", "wait_s", "compute_s", "return_s")


@dataclass(frozen=True, kw_only=True)
class EpisodeResults(EvaluationResults):
    """What a policy achieved, one value per episode ``[K]``; delays are task-weighted within an episode.

    Attributes:
        mean_delay_s: Mean service delay, s.
        transfer_s: Mean input transfer, s.
        wait_s: Mean waiting, s.
        compute_s: Mean computing, s.
        return_s: Mean result return, s.
        p95_delay_s: 95th percentile of the service delay, s.
        p99_delay_s: 99th percentile of the service delay, s.
        tasks: Tasks in the episode.
    """

    SEED_NAME = "arrival_seed"

    mean_delay_s: Array
    transfer_s: Array
    wait_s: Array
    compute_s: Array
    return_s: Array
    p95_delay_s: Array
    p99_delay_s: Array
    tasks: NDArray[np.int64]

    @property
    def episodes(self) -> int:
        """Number of episodes K."""
        return len(self.mean_delay_s)

    @property
    def decisions(self) -> int:
        """Task decisions in all episodes."""
        return int(self.tasks.sum())


def run_episodes(
    scenario: OffloadingScenario,
    policy: Policy,
    episodes: int,
    seed: int,
    explore: bool = True,
    device: torch.device | str = "cpu",
    on_chunk: Callable[[int], None] | None = None,
    validation: bool = False,
) -> EpisodeResults:
    """Play evaluation episodes ``0 .. episodes-1`` of a seed.

    The arrivals depend on the scenario, the seed and the episode's number alone, so results of different policies are
    paired by episode. The policy's own random numbers restart from the seed: the same call gives the same results.

    Args:
        scenario: The world.
        policy: Who decides.
        episodes: Number of episodes K, at least 1.
        seed: The person's seed; arrivals are drawn from ``evaluation_seed(seed)``.
        explore: Sample the policy's actions; otherwise take its most likely ones.
        device: Where simulator and observations live.
        on_chunk: Called with the number of finished episodes whenever a chunk is done.
        validation: Draw the arrivals of a validation instead.

    Raises:
        InputError: If the seed or the number of episodes is out of range, or an episode has no tasks.
    """
    arrival_seed = evaluation_seed(seed, validation)
    policy.seed(seed)

    def play(first: int, copies: int) -> dict[str, Any]:
        simulator = OffloadingWorld(scenario, copies, device)
        simulator.load_state_dict(
            {
                "seed": arrival_seed,
                "first_episode": first,
                "slot": 0,
                "backlog_gcycles": torch.zeros(copies, scenario.servers),
            }
        )
        return _play(simulator, policy, explore)

    merged = play_in_chunks(episodes, scenario.cells_of_an_episode, play, on_chunk)
    if not merged["tasks"].all():
        number = int(np.flatnonzero(merged["tasks"] == 0)[0])
        raise InputError(
            f"Episode {number} of scenario '{scenario.name}' has no tasks, so its mean delay is undefined; "
            f"{scenario.remedy_without_tasks}."
        )
    return EpisodeResults(
        policy=policy.name,
        scenario=scenario.name,
        seed=seed,
        explore=explore,
        validation=validation,
        **merged,
    )


@torch.no_grad()
def _play(simulator: OffloadingWorld, policy: Policy, explore: bool) -> dict[str, Any]:
    """Play the copies of a freshly reset simulator to the end; values per copy, and the wall time in the policy."""
    observation = simulator.observe()
    memory = policy.begin(observation)
    outcomes: list[SlotOutcome] = []
    wall_s = 0.0
    while not simulator.done:
        observation = simulator.observe()
        started = time.perf_counter()
        server, memory = policy.act(observation, memory, explore)
        finish(simulator.device)
        wall_s += time.perf_counter() - started
        outcomes.append(simulator.step(server))
    return {**_per_episode(outcomes, simulator.copies), "decision_wall_s": wall_s}


def _per_episode(outcomes: list[SlotOutcome], copies: int) -> dict[str, Any]:
    copy = torch.cat([outcome.copy for outcome in outcomes])

    def gather(values: list[Tensor]) -> Array:
        return torch.cat(values).double().cpu().numpy()

    order = torch.argsort(copy, stable=True).cpu().numpy()
    tasks = torch.bincount(copy, minlength=copies).cpu().numpy()
    delay = gather([outcome.delays.total_s for outcome in outcomes])[order]
    bounds = np.concatenate([[0], tasks.cumsum()])

    def mean(values: Array) -> Array:
        total = np.bincount(np.repeat(np.arange(copies), tasks), weights=values, minlength=copies)
        averaged: Array = total / np.maximum(tasks, 1)
        return averaged

    percentiles = np.array(
        [np.percentile(delay[a:b], (95, 99)) if b > a else (np.nan, np.nan) for a, b in itertools.pairwise(bounds)]
    )
    parts = {part: mean(gather([getattr(outcome.delays, part) for outcome in outcomes])[order]) for part in _PARTS}
    return {
        "mean_delay_s": mean(delay),
        **parts,
        "p95_delay_s": percentiles[:, 0],
        "p99_delay_s": percentiles[:, 1],
        "tasks": tasks,
    }
