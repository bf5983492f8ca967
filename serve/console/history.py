# SPDX-License-Identifier: Apache-2.0
"""How many requests were on every edge during the last minutes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgegen.serve.control.books import Server

SAMPLE_S = 5.0
"""Time between two samples, s."""
SAMPLES = 60
"""So five minutes."""


class History:
    """Samples of the queues, the one in work included, and of what waits at the gateway.

    Args:
        edges: How many there are.
    """

    def __init__(self, edges: int) -> None:
        self._counts = np.zeros((SAMPLES, edges + 1), dtype=np.int32)
        self._taken = 0
        self._at = -np.inf

    def sample(self, servers: Sequence[Server], held: int, now: float) -> None:
        """Take a sample, if it is time for one.

        Args:
            servers: The books.
            held: Requests that wait at the gateway.
            now: Clock reading, s.
        """
        if now - self._at < SAMPLE_S:
            return
        self._at = now
        self._counts[self._taken % SAMPLES] = [*(server.jobs for server in servers), held]
        self._taken += 1

    def state(self, names: Sequence[str]) -> dict[str, Any]:
        """Describe the samples, the oldest first.

        Args:
            names: Of the edges.
        """
        first = max(self._taken - SAMPLES, 0)
        order = [sample % SAMPLES for sample in range(first, self._taken)]
        columns = self._counts[order].T.tolist()
        return {"step_s": SAMPLE_S, "edges": dict(zip(names, columns, strict=False)), "held": columns[-1]}
