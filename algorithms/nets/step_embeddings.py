# SPDX-License-Identifier: Apache-2.0
"""Embeddings of a chain's steps as networks: what the noise network is told of the step it is at."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import mish

from edgegen.algorithms.nets.diffusion import step_embedding
from edgegen.algorithms.nets.stacked import StackedLinear


class SinusoidalSteps(nn.Module):
    """Sinusoidal embeddings of the steps i = 1..I as they are; nothing is learned.

    Args:
        groups: Number of independent noise networks G.
        steps: Number of steps I.
        width: Width of an embedding.
    """

    sinusoids: Tensor

    def __init__(self, groups: int, steps: int, width: int) -> None:
        super().__init__()
        self.groups = groups
        self.register_buffer("sinusoids", step_embedding(steps, width), persistent=False)

    def forward(self) -> Tensor:
        """Return the embeddings of all steps ``[G, I, width]``; entry ``[:, i - 1]`` belongs to step i."""
        return self.sinusoids.expand(self.groups, -1, -1)


class SinusoidalMLPSteps(SinusoidalSteps):
    """Sinusoidal embeddings through layers of their own: Linear 2·width, Mish, Linear width.

    This is the step embedding of the public code AGOD (github.com/Lizonghang/AGOD, arXiv 2303.13052).
    """

    def __init__(self, groups: int, steps: int, width: int) -> None:
        super().__init__(groups, steps, width)
        self.wide = StackedLinear(groups, width, 2 * width)
        self.narrow = StackedLinear(groups, 2 * width, width)

    def forward(self) -> Tensor:
        """See :meth:`SinusoidalSteps.forward`; gradients reach the layers through every step that is used."""
        embeddings: Tensor = self.narrow(mish(self.wide(super().forward())))
        return embeddings


STEP_EMBEDDINGS: dict[str, type[SinusoidalSteps]] = {"sinusoidal": SinusoidalSteps, "mlp": SinusoidalMLPSteps}
"""Step embeddings by the name that settings use."""
