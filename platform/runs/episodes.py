# SPDX-License-Identifier: Apache-2.0
"""Episodes of evaluations: seeds apart from those of training, and chunks that fit the memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.seeds import MAX_SEED

EVALUATION_SEED_OFFSET = 2**62
"""Distance between a person's seed and the arrival seed of an evaluation."""

VALIDATION_SEED_OFFSET = 2**61
"""Likewise for a validation: what settings are chosen by, so that they are not chosen by what they are reported on."""

_MAX_COPIES = 256
_MAX_CELLS = 4_000_000  # entries of the largest tensor held at once; about 16 bytes each


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
