# SPDX-License-Identifier: Apache-2.0
"""Random numbers that are a policy's own."""

from __future__ import annotations

import torch
from torch import Tensor


class OwnRandomNumbers:
    """Has a generator on the host, so that the same seed gives the same decisions on every device."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = torch.Generator()
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Restart the random numbers."""
        self.generator.manual_seed(seed)

    def random(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Uniform numbers in [0, 1) of the given shape, drawn on the host and moved to the device of ``like``."""
        return torch.rand(shape, generator=self.generator).to(like)
