# SPDX-License-Identifier: Apache-2.0
"""The numbers of a training run, and the habits that its stages share: learning rates and checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

SAVE_EVERY = 250


@dataclass(frozen=True)
class Recipe:
    """Every number that shapes a training run.

    Attributes:
        subject: What the model paints, a key of :data:`edgegen.serve.zoo.subjects.SUBJECTS`.
        begin: Embedded name or folder of the model whose weights training begins with; random ones if empty.
        seed: Source of every random choice.
        threads: CPU threads.
        crop_steps: Autoencoder steps on crops around things.
        crop_batch: Crops in such a step.
        full_steps: Autoencoder steps on whole pictures, with noise on the latents.
        full_batch: Pictures in such a step, and in a polishing step.
        polish_steps: Steps of the painting half alone, while the latents stay as they are.
        polish_emphasis: How much more pixels in and near things count while polishing.
        latent_noise: Most noise on the latents, in spreads of the latents.
        autoencoder_rate: Highest learning rate of the autoencoder.
        divergence_weight: Weight of the divergence of the latents from a standard normal.
        pictures: Captioned pictures whose latents are cached for the denoiser.
        pairs: Share of pictures with two things, of subjects that have such pictures.
        open_facts: Chance that a caption leaves a size or the place of a lone thing open.
        steps: Steps of the denoiser and the text encoder.
        batch: Latents in such a step.
        rate: Highest learning rate of the denoiser and the text encoder.
        noisy_share: Share of a batch that is drawn from the highest noise levels only.
        noisy_from: Where the highest noise levels begin, as a share of all levels.
        caption_dropout: Chance that a caption is replaced with the empty one, for classifier-free guidance.
        average_decay: Decay of the running average of the weights.
        default_steps: Denoising steps that the finished model proposes.
        default_guidance: Guidance scale that the finished model proposes.
    """

    subject: str = "shapes"
    begin: str = ""
    seed: int = 0
    threads: int = 1
    crop_steps: int = 2600
    crop_batch: int = 32
    full_steps: int = 1100
    full_batch: int = 16
    polish_steps: int = 3_750
    polish_emphasis: float = 6.0
    latent_noise: float = 0.2
    autoencoder_rate: float = 2e-3
    divergence_weight: float = 2e-4
    pictures: int = 40_000
    pairs: float = 0.45
    open_facts: float = 0.1
    steps: int = 10_500
    batch: int = 32
    rate: float = 1.2e-3
    noisy_share: float = 0.5
    noisy_from: float = 0.9
    caption_dropout: float = 0.1
    average_decay: float = 0.999
    default_steps: int = 20
    default_guidance: float = 2.0


RECIPES = {
    "shapes": Recipe(),
    "digits": replace(
        Recipe(),
        subject="digits",
        begin="shapes-64",
        # Its latents keep digits well enough, so that only their painter has to learn.
        crop_steps=0,
        full_steps=0,
        polish_steps=450,
        polish_emphasis=4.0,
        latent_noise=0.1,
        autoencoder_rate=1e-3,
        pictures=8_000,
        pairs=0.0,
        steps=1_000,
        default_steps=8,
    ),
}
"""The recipes of the embedded models that are not distilled, by subject."""


def cosine_rate(step: int, steps: int, warm_up: int = 100) -> float:
    """Return the share of the full learning rate at a step: linear warm-up, then cosine decay towards zero."""
    return float(min(1.0, (step + 1) / warm_up) * 0.5 * (1 + np.cos(np.pi * step / max(steps, 1))))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def keep(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint so that a stop in the middle leaves the old one whole."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)
