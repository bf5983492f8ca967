"""What evaluations of both kinds share: seeds apart from training, episodes in chunks, and results per episode."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.fields import MAX_SEED

EVALUATION_SEED_OFFSET = 2**62
"""Distance between a person's seed and the arrival seed of an evaluation."""

VALIDATION_SEED_OFFSET = 2**61
"""Likewise for a validation: what settings are chosen by, so that they are not chosen by what they are reported on."""

_MAX_COPIES = 256
_MAX_CELLS = 4_000_000  # entries of the largest tensor held at once; about 16 bytes each

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


@dataclass(frozen=True, kw_only=True)
class EvaluationResults(ABC):
    """What a policy achieved in K episodes; subclasses add arrays ``[K]``.

    Attributes:
        policy: Name of the policy.
        scenario: Name of the scenario.
        seed: The person's seed; what happens from outside is drawn from ``evaluation_seed(seed)``.
        explore: Whether actions were sampled (True) or the most likely ones.
        decision_wall_s: Wall time spent in the policy, all episodes together, s.
        validation: Whether it was a validation.
    """

    SEED_NAME: ClassVar[str]
    """What the seed of the simulator is called in JSON."""

    policy: str
    scenario: str
    seed: int
    explore: bool
    decision_wall_s: float
    validation: bool = False

    @property
    @abstractmethod
    def episodes(self) -> int:
        """Number of episodes K."""

    @property
    @abstractmethod
    def decisions(self) -> int:
        """Decisions in all episodes."""

    @property
    def decisions_per_s(self) -> float:
        """Decisions per second of wall time in the policy, copies side by side."""
        return self.decisions / self.decision_wall_s

    def renamed(self, policy: str) -> Self:
        """Return the same results under another policy name."""
        return replace(self, policy=policy)

    def to_json(self) -> dict[str, Any]:
        """Return plain values: names and units as in the attributes, arrays as lists."""
        values = {key: item.tolist() if isinstance(item, np.ndarray) else item for key, item in asdict(self).items()}
        return {
            **values,
            self.SEED_NAME: evaluation_seed(self.seed, self.validation),
            "decisions_per_s": self.decisions_per_s,
        }


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
