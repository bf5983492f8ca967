# SPDX-License-Identifier: Apache-2.0
"""Chains of two states: calm and burst, in order and in trouble."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def two_states(
    rngs: list[np.random.Generator], slots: int, width: int, mean_first: float, mean_second: float
) -> NDArray[np.bool_]:
    """Draw a two-state Markov chain, starting from the long run.

    Args:
        rngs: Generator of each of the E episodes.
        slots: Length.
        width: Independent chains per episode.
        mean_first: Mean slots in the first state.
        mean_second: Mean slots in the second state.

    Returns:
        Whether the chain is in its second state ``[E, slots, width]``.
    """
    random = np.stack([rng.random((slots, width)) for rng in rngs])
    state = np.empty(random.shape, dtype=bool)
    state[:, 0] = random[:, 0] < mean_second / (mean_first + mean_second)
    for slot in range(1, slots):  # a chain goes step by step; episodes and servers are side by side
        state[:, slot] = np.where(
            state[:, slot - 1], random[:, slot] >= 1 / mean_second, random[:, slot] < 1 / mean_first
        )
    return state
