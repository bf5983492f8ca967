"""Evaluation: whole episodes of a policy, many copies side by side, measured per episode."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgegen.algorithms.policy import Policy
from edgegen.envs.errors import InputError
from edgegen.envs.offloading import OffloadingSimulator
from edgegen.envs.placement import SlotOutcome
from edgegen.envs.scenario import Scenario

MAX_SEED = 2**32 - 1
"""Largest seed a person may give."""

EVALUATION_SEED_OFFSET = 2**62
"""Distance between a person's seed and the arrival seed of an evaluation."""

VALIDATION_SEED_OFFSET = 2**61
"""Likewise for a validation: what settings are chosen by, so that they are not chosen by what they are reported on."""

_PARTS = ("transfer_s", "wait_s", "compute_s", "return_s")
_MAX_COPIES = 256
_MAX_CELLS = 4_000_000  # task places [E, T, B, N] held at once; about 16 bytes each

Array = NDArray[np.float64]


def evaluation_seed(seed: int, validation: bool = False) -> int:
    """Return the arrival seed of an evaluation, or of a validation, for a person's seed.

    Training uses seeds up to :data:`MAX_SEED` and numbers derived from them; evaluations live 2^62 above, validations
    2^61. So no policy is ever judged on arrivals it was trained on or chosen by, whatever seeds are chosen for either.

    Raises:
        InputError: If the seed is not in 0..MAX_SEED.
    """
    if not 0 <= seed <= MAX_SEED:
        raise InputError(f"The seed is {seed}, but must be between 0 and {MAX_SEED}.")
    return (VALIDATION_SEED_OFFSET if validation else EVALUATION_SEED_OFFSET) + seed


@dataclass(frozen=True)
class EpisodeResults:
    """What a policy achieved, one value per episode ``[K]``; delays are task-weighted within an episode.

    Attributes:
        policy: Name of the policy.
        scenario: Name of the scenario.
        seed: The person's seed; arrivals come from ``evaluation_seed(seed)``.
        explore: Whether actions were sampled (True) or the most likely ones.
        mean_delay_s: Mean service delay, s.
        transfer_s: Mean input transfer, s.
        wait_s: Mean waiting, s.
        compute_s: Mean computing, s.
        return_s: Mean result return, s.
        p95_delay_s: 95th percentile of the service delay, s.
        p99_delay_s: 99th percentile of the service delay, s.
        tasks: Tasks in the episode.
        decision_wall_s: Wall time spent in the policy, all episodes together, s.
        validation: Whether the arrivals were those of a validation.
    """

    policy: str
    scenario: str
    seed: int
    explore: bool
    mean_delay_s: Array
    transfer_s: Array
    wait_s: Array
    compute_s: Array
    return_s: Array
    p95_delay_s: Array
    p99_delay_s: Array
    tasks: NDArray[np.int64]
    decision_wall_s: float
    validation: bool = False

    @property
    def episodes(self) -> int:
        """Number of episodes K."""
        return len(self.mean_delay_s)

    @property
    def decisions(self) -> int:
        """Task decisions in all episodes."""
        return int(self.tasks.sum())

    @property
    def decisions_per_s(self) -> float:
        """Task decisions per second of wall time in the policy, copies side by side."""
        return self.decisions / self.decision_wall_s

    def renamed(self, policy: str) -> EpisodeResults:
        """Return the same results under another policy name."""
        return replace(self, policy=policy)

    def to_json(self) -> dict[str, Any]:
        """Return plain values: names and units as in the attributes, arrays as lists."""
        values = {key: item.tolist() if isinstance(item, np.ndarray) else item for key, item in asdict(self).items()}
        return {
            **values,
            "arrival_seed": evaluation_seed(self.seed, self.validation),
            "decisions_per_s": self.decisions_per_s,
        }


def run_episodes(
    scenario: Scenario,
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
        simulator = OffloadingSimulator(scenario, copies, device)
        simulator.load_state_dict(
            {
                "seed": arrival_seed,
                "first_episode": first,
                "slot": 0,
                "backlog_gcycles": torch.zeros(copies, scenario.servers),
            }
        )
        return _play(simulator, policy, explore)

    cells = (scenario.slots + 1) * scenario.servers * scenario.max_tasks
    merged = play_in_chunks(episodes, cells, play, on_chunk)
    if not merged["tasks"].all():
        number = int(np.flatnonzero(merged["tasks"] == 0)[0])
        raise InputError(
            f"Episode {number} of scenario '{scenario.name}' has no tasks, so its mean delay is undefined; "
            "give the scenario more slots or raise tasks_per_slot."
        )
    return EpisodeResults(
        policy=policy.name,
        scenario=scenario.name,
        seed=seed,
        explore=explore,
        validation=validation,
        **merged,
    )


def play_in_chunks(
    episodes: int,
    cells: int,
    play: Callable[[int, int], dict[str, Any]],
    on_chunk: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Play episodes in chunks that fit the memory and join what they gave.

    Chunks depend on the scenario alone, never on the machine: a policy draws random numbers for a whole chunk at once.

    Args:
        episodes: Number of episodes K, at least 1.
        cells: Entries of the largest tensor of one episode.
        play: Plays ``copies`` episodes from number ``first`` on; returns arrays by name, one value per episode, and
            numbers to add up.
        on_chunk: Called with the number of finished episodes whenever a chunk is done.

    Returns:
        Arrays ``[K]`` and sums by name.

    Raises:
        InputError: If there are no episodes to play.
    """
    if episodes < 1:
        raise InputError(f"The number of episodes is {episodes}, but must be at least 1.")
    width = max(1, min(episodes, _MAX_COPIES, _MAX_CELLS // cells))
    chunks = []
    for first in range(0, episodes, width):
        copies = min(width, episodes - first)
        chunks.append(play(first, copies))
        if on_chunk is not None:
            on_chunk(first + copies)

    def join(values: list[Any]) -> Any:
        return np.concatenate(values) if isinstance(values[0], np.ndarray) else float(sum(values))

    return {key: join([chunk[key] for chunk in chunks]) for key in chunks[0]}


@torch.no_grad()
def _play(simulator: OffloadingSimulator, policy: Policy, explore: bool) -> dict[str, Any]:
    """Play the copies of a freshly reset simulator to the end; values per copy, and the wall time in the policy."""
    observation = simulator.observe()
    memory = policy.initial_memory(observation)
    outcomes: list[SlotOutcome] = []
    wall_s = 0.0
    while not simulator.done:
        observation = simulator.observe()
        started = time.perf_counter()
        server, memory = policy.act(observation, memory, explore)
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
