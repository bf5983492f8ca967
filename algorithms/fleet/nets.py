# SPDX-License-Identifier: Apache-2.0
"""Networks of the learned fleet: small chains that start from what the rule says, as torch modules and as weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgegen.algorithms.fleet.decisions import Net

PARTS = ("features", "bias", "latent", "step", "out")
"""Parameters of a chain, in the order of :class:`Net`."""


class ResidualChain(nn.Module):
    """A diffusion over latents that starts at a rule's scores and adds what was learned, step by step.

    Step i adds out · softsign(features · W + b + x·w + (i/I)·v) / I to every latent x, as seen relative to the highest
    one where only the order counts. ``out`` begins at zero, so an untrained chain changes nothing. Every candidate has
    the same weights: there may be any number of them.

    Args:
        inputs: Features of a candidate.
        hidden: Width.
        steps: Denoising steps I.
        relative: Whether latents are seen relative to the highest one.
    """

    def __init__(self, inputs: int, hidden: int, steps: int, relative: bool) -> None:
        super().__init__()
        self.steps, self.relative = steps, relative
        self.features = nn.Parameter(torch.randn(inputs, hidden) / inputs**0.5)
        self.bias = nn.Parameter(0.1 * torch.randn(hidden))
        self.latent = nn.Parameter(0.3 * torch.randn(hidden))
        self.step = nn.Parameter(0.3 * torch.randn(hidden))
        self.out = nn.Parameter(torch.zeros(hidden))

    def forward(self, features: Tensor, latent: Tensor) -> Tensor:
        """Denoise latents ``[..., n]`` with their features ``[..., n, F]``."""
        seen_features = features @ self.features + self.bias
        for i in range(self.steps, 0, -1):
            seen = latent - latent.amax(-1, keepdim=True) if self.relative else latent
            z = seen_features + seen.clamp_min(-5.0)[..., None] * self.latent + (i / self.steps) * self.step
            latent = latent + nn.functional.softsign(z) @ self.out / self.steps
        return latent

    def weights(self) -> Net:
        """The weights as the kernels take them."""
        features, bias, latent, step, out = (
            getattr(self, part).detach().cpu().double().numpy().copy() for part in PARTS
        )
        return Net(features, bias, latent, step, out, self.steps)


def flat_size(inputs: int, hidden: int) -> int:
    """Number of parameters of a chain."""
    return (inputs + 4) * hidden


def shifted(net: Net, change: Tensor) -> Net:
    """Weights with a flat change ``[D]`` added, in the order of a chain's parameters."""
    values, begin, flat = [], 0, change.double().numpy()
    for part in (net.features, net.bias, net.latent, net.step, net.out):
        values.append(part + flat[begin : begin + part.size].reshape(part.shape))
        begin += part.size
    features, bias, latent, step, out = values
    return Net(features, bias, latent, step, out, net.steps)


def no_net(inputs: int) -> Net:
    """What stands for the network of a role that was not learned: no step is taken."""
    empty = torch.zeros(1).double().numpy()
    return Net(torch.zeros(inputs, 1).double().numpy(), empty, empty, empty, empty, 0)
