# SPDX-License-Identifier: Apache-2.0
"""Diffusion chains as actors: the variance schedule and the reverse process.

No data set of optimal decisions exists, so no forward process is run and no denoising loss is used. The chain is a
stochastic function of latent, condition and noise, differentiable from end to end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor


@dataclass(frozen=True)
class Schedule:
    """Constants of the steps i = 1..I; entry ``[i - 1]`` belongs to step i.

    Attributes:
        beta: β_i.
        alpha: α_i = 1 − β_i.
        alpha_bar: ᾱ_i = ∏_{m≤i} α_m.
        posterior_variance: β̃_i = (1 − ᾱ_{i−1}) / (1 − ᾱ_i) · β_i with ᾱ_0 = 1, so β̃_1 = 0.
    """

    beta: tuple[float, ...]
    alpha: tuple[float, ...]
    alpha_bar: tuple[float, ...]
    posterior_variance: tuple[float, ...]

    @property
    def steps(self) -> int:
        """Number of steps I."""
        return len(self.beta)

    @property
    def gain(self) -> float:
        """How much the chain multiplies its input latent, 1/√ᾱ_I: 12.49 for every I with the default β range."""
        return 1 / math.sqrt(self.alpha_bar[-1])


def vp_schedule(steps: int, beta_min: float = 0.1, beta_max: float = 10.0) -> Schedule:
    """Variance-preserving schedule β_i = 1 − exp(−β_min/I − (2i−1)/(2I²)·(β_max − β_min)) (docs/spec/ladts.md §4.1).

    Raises:
        ValueError: If ``steps`` < 1 or not 0 < ``beta_min`` ≤ ``beta_max``.
    """
    if steps < 1:
        raise ValueError(f"a chain needs at least 1 step, not {steps}")
    if not 0 < beta_min <= beta_max:
        raise ValueError(f"beta_min ({beta_min:g}) must be positive and not exceed beta_max ({beta_max:g})")
    beta = [
        1 - math.exp(-beta_min / steps - (2 * i - 1) / (2 * steps**2) * (beta_max - beta_min))
        for i in range(1, steps + 1)
    ]
    alpha = [1 - b for b in beta]
    alpha_bar = [math.prod(alpha[: i + 1]) for i in range(steps)]
    before = [1.0, *alpha_bar[:-1]]
    variance = [(1 - p) / (1 - a) * b for p, a, b in zip(before, alpha_bar, beta, strict=True)]
    return Schedule(tuple(beta), tuple(alpha), tuple(alpha_bar), tuple(variance))


def reverse_chain(
    noise_estimate: Callable[[Tensor, int], Tensor],
    latent: Tensor,
    schedule: Schedule,
    noise: Tensor | None,
    clip: float | None = None,
) -> Tensor:
    """Run the reverse process x_I → x_0 (docs/spec/ladts.md §4.1).

    x_{i−1} = (x_i − β_i/√(1−ᾱ_i) · ε(x_i, i)) / √α_i + 1[i>1]·√β̃_i·ϵ

    With ``clip`` the mean goes by way of the estimate x̂_0 = x_i/√ᾱ_i − √(1/ᾱ_i − 1)·ε, clipped to ±clip:
    √ᾱ_{i−1}·β_i/(1−ᾱ_i)·x̂_0 + √α_i·(1−ᾱ_{i−1})/(1−ᾱ_i)·x_i, as in the public code GDMOPT. Where nothing is clipped
    both means are the same.

    Args:
        noise_estimate: ε(x_i, i), with the step number i in 1..I.
        latent: x_I ``[..., A]``.
        schedule: The constants.
        noise: Standard normal ϵ ``[I − 1, ..., A]``, entry ``[i − 2]`` for step i; None runs without noise.
        clip: Bound on the estimates of x_0; None for no bound.

    Returns:
        x_0 ``[..., A]``; gradients flow through all steps.
    """
    x = latent
    for i in range(schedule.steps, 0, -1):
        k = i - 1
        beta, alpha, alpha_bar = schedule.beta[k], schedule.alpha[k], schedule.alpha_bar[k]
        if clip is None:
            x = (x - beta / math.sqrt(1 - alpha_bar) * noise_estimate(x, i)) * (1 / math.sqrt(alpha))
        else:
            before = schedule.alpha_bar[k - 1] if k else 1.0
            clean = x * (1 / math.sqrt(alpha_bar)) - math.sqrt(1 / alpha_bar - 1) * noise_estimate(x, i)
            x = (math.sqrt(before) * beta / (1 - alpha_bar)) * clean.clamp(-clip, clip) + (
                math.sqrt(alpha) * (1 - before) / (1 - alpha_bar)
            ) * x
        if i > 1 and noise is not None:
            x = torch.add(x, noise[i - 2], alpha=math.sqrt(schedule.posterior_variance[k]))
    return x


def step_embedding(steps: int, width: int = 16) -> Tensor:
    """Sinusoidal embeddings of the step indices fed to the noise network, ``[I, width]``.

    Row k holds sin(k·ω_j) then cos(k·ω_j), ω_j = exp(−j·ln(10000)/(width/2 − 1)) (docs/spec/ladts.md §4.2). Step i of
    the chain uses row i − 1.
    """
    half = width // 2
    frequency = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half, dtype=torch.float32))
    angle = torch.arange(steps, dtype=torch.float32)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


OUTPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": partial(torch.softmax, dim=-1),
    "tanh": torch.tanh,
    "linear": lambda output: output,
}
"""What becomes of the outputs of a noise network, by the name that settings use."""
