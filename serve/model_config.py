"""What models cost and what may be asked of them, as a service config says it and with every open value filled in."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import Field, model_validator

from edgegen.envs.core.fields import Frozen, NonNegative, Positive, Real, Whole

_SIZE = re.compile(r"([1-9]\d{0,3})x([1-9]\d{0,3})")

Count = Annotated[Whole, Field(ge=1, le=10_000)]


def parse_size(size: str) -> tuple[int, int]:
    """Return width and height in pixels of a size such as ``"64x64"``.

    Raises:
        ValueError: If the text is not a size.
    """
    match = _SIZE.fullmatch(size)
    if match is None:
        raise ValueError(f"a size is written WIDTHxHEIGHT in pixels, for example 64x64, not '{size}'")
    return int(match[1]), int(match[2])


class ModelConfig(Frozen):
    """What a model costs and what may be asked of it. Values left out come from the model's own card.

    Attributes:
        cycles_per_step_gcycles: Work of one denoising step of one picture of the first size, Gcycle.
        default_steps: Denoising steps where a request names none.
        max_steps: Most denoising steps of a request.
        default_guidance: Classifier-free guidance scale where a request names none.
        sizes: Allowed picture sizes; the first is the default.
        size_gb: Memory that it takes on an edge, GB.
        load_s: Time to load it, s; edges measure their own.
        fixed_gcycles: Work of a picture of the first size beside its steps, Gcycle.
        least_steps: Fewest steps that an allocator may choose.
    """

    cycles_per_step_gcycles: Positive
    default_steps: Count | None = None
    max_steps: Count = 50
    default_guidance: Annotated[Real, Field(ge=0, le=50)] | None = None
    sizes: tuple[str, ...] | None = None
    size_gb: Positive | None = None
    load_s: Positive | None = None
    fixed_gcycles: NonNegative | None = None
    least_steps: Count | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for size in self.sizes or ():
            parse_size(size)
        if self.sizes == ():
            raise ValueError("sizes must name at least one size")
        if self.default_steps is not None and self.default_steps > self.max_steps:
            raise ValueError(f"default_steps ({self.default_steps}) must not exceed max_steps ({self.max_steps})")
        return self


class ModelCard(Frozen):
    """A model with every open value filled in.

    Attributes:
        name: Name in requests; an embedded model, a diffusers folder or a hub id.
        cycles_per_step_gcycles: Work of one step of one picture of the first size, Gcycle.
        default_steps: Denoising steps where a request names none.
        max_steps: Most denoising steps of a request.
        default_guidance: Guidance scale where a request names none.
        sizes: Allowed sizes, the first is the default.
        size_gb: Memory that it takes on an edge, GB; 0 where nobody said.
        load_s: Time to load it, s; 0 where nobody said.
        fixed_gcycles: Work of a picture of the first size beside its steps, Gcycle.
        least_steps: Fewest steps that an allocator may choose.
    """

    name: str
    cycles_per_step_gcycles: float
    default_steps: int
    max_steps: int
    default_guidance: float
    sizes: tuple[str, ...]
    size_gb: float = 0.0
    load_s: float = 0.0
    fixed_gcycles: float = 0.0
    least_steps: int = 1

    def relative_area(self, size: str) -> float:
        """Pixels of a size relative to the default size."""
        (width, height), (default_width, default_height) = parse_size(size), parse_size(self.sizes[0])
        return width * height / (default_width * default_height)

    def workload_gcycles(self, pictures: int, steps: int, size: str) -> float:
        """Work of a request, Gcycle: pictures × (fixed work + steps × work per step), in proportion to the pixels."""
        return pictures * (self.fixed_gcycles + steps * self.cycles_per_step_gcycles) * self.relative_area(size)


def text_mbit(text: str) -> float:
    """Size of a text as UTF-8, Mbit."""
    return len(text.encode("utf-8", errors="replace")) * 8e-6


def picture_mbit(pixels: int) -> float:
    """Size of an uncompressed picture with 3 bytes per pixel, Mbit."""
    return pixels * 24e-6
