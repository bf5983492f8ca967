# SPDX-License-Identifier: Apache-2.0
"""Previews of pictures that a pipeline is still at: its latest guess of the result, decoded small.

A denoising step guesses the finished latents and goes a part of the way to them. The guess shows much earlier what the
picture will be than the noisy latents do, and costs nothing, because the scheduler of the pipeline has made it anyway.
Decoding costs in proportion to the pixels, so latents are made smaller before.
"""

from __future__ import annotations

import functools
import io
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

logger = logging.getLogger(__name__)

SIDE = 256
"""Longest side of a preview, pixels."""
FLOW = "FlowMatch"
"""How the names of schedulers begin whose models predict the way from the picture to the noise."""


class Foresight:
    """Listens to the scheduler of a pipeline while it is entered, and decodes what it guesses.

    It takes no part in what the pipeline does: with and without it, pictures are the same.

    Args:
        pipeline: The pipeline.
        width: Width of its pictures, pixels.
        height: Height, pixels.
    """

    def __init__(self, pipeline: Any, width: int, height: int) -> None:
        self._pipeline, self._width, self._height = pipeline, width, height
        self._guess: Any = None

    def __enter__(self) -> Self:
        """Listen from now on."""
        scheduler = self._pipeline.scheduler
        plain = scheduler.step

        @functools.wraps(plain)  # pipelines look at its parameters
        def step(model_output: Any, timestep: Any, sample: Any, *places: Any, **names: Any) -> Any:
            made = plain(model_output, timestep, sample, *places, **names)
            self._guess = _guess(scheduler, made, model_output, sample)
            return made

        scheduler.step = step
        return self

    def __exit__(self, *error: object) -> None:
        """Listen no more."""
        del self._pipeline.scheduler.step  # the method of its class is there again

    def pictures(self, tensors: Mapping[str, Any], rows: Sequence[int]) -> list[bytes]:
        """Return previews of some pictures as PNG; none where the pipeline can not decode on the way.

        Args:
            tensors: What the pipeline gives after a step, ``latents`` among it.
            rows: Which pictures.
        """
        try:
            latents = tensors["latents"] if self._guess is None else self._guess
            images = self._decoded(latents[list(rows)])
        except Exception:  # pipelines differ, and a preview that can not be had must not cost the picture
            logger.exception("a pipeline of %s shows no previews", type(self._pipeline).__name__)
            return []
        return [_png(image) for image in images]

    def _decoded(self, latents: Any) -> Any:
        import torch
        import torch.nn.functional as F

        pipeline, vae = self._pipeline, self._pipeline.vae
        if latents.ndim == 3:  # patches in a row
            latents = pipeline._unpack_latents(latents, self._height, self._width, pipeline.vae_scale_factor)
        smaller = math.ceil(max(self._width, self._height) / SIDE)
        if smaller > 1:
            latents = F.avg_pool2d(latents, smaller, ceil_mode=True)
        latents = latents / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0.0)
        # Some decoders overflow in half precision; their pipelines widen them at the end in the same way.
        wide = vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False)
        try:
            if wide:
                vae.to(torch.float32)
            decoded = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
        finally:
            if wide:
                vae.to(torch.float16)
        return pipeline.image_processor.postprocess(decoded, output_type="pil")


def _guess(scheduler: Any, made: Any, model_output: Any, sample: Any) -> Any:
    """Return the finished latents as a step guesses them; None where that can not be told."""
    if type(scheduler).__name__.startswith(FLOW):
        sigma = scheduler.sigmas[scheduler.step_index - 1]
        return sample - sigma.to(sample.device, sample.dtype) * model_output
    if isinstance(made, tuple):
        return made[1] if len(made) > 1 and getattr(made[1], "shape", None) == sample.shape else None
    return getattr(made, "pred_original_sample", None)


def _png(image: Any) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, format="PNG")
    return encoded.getvalue()
