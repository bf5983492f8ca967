# SPDX-License-Identifier: Apache-2.0
"""What models cost and what may be asked of them, as a service config says it and with every open value filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from edgegen.envs.core.fields import Frozen, NonNegative, Positive, Real, Whole
from edgegen.serve.profile.model_profile import PROFILE_FILE, ModelProfile, read_profile
from edgegen.serve.zoo.loading import model_folder, model_info

DEFAULT_SIDE = 512
"""Width and height in pixels where neither the config nor the model says what they are."""

_SIZE = re.compile(r"([1-9]\d{0,3})x([1-9]\d{0,3})")

Count = Annotated[Whole, Field(ge=1, le=10_000)]

Quality = Literal["low", "medium", "high", "xhigh", "max"]
QUALITIES: tuple[Quality, ...] = get_args(Quality)
"""Grades of quality that a request may name, the fewest steps first; each is a range of denoising steps."""


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
    """What a model costs and what may be asked of it.

    Values left out come from the model's own card and from its profile, where there are such.

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
        qualities: Fewest and most denoising steps by grade of quality; where left out, in proportion to the default.
        profile: File with the profile of the model; the one in its folder if left out, where there is one.
        without: Parts of its pipeline that are not loaded, such as a large text encoder that it can do without.
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
    qualities: dict[Quality, tuple[Count, Count]] = Field(default_factory=dict)
    profile: Annotated[str, Field(min_length=1)] | None = None
    without: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for size in self.sizes or ():
            parse_size(size)
        if self.sizes == ():
            raise ValueError("sizes must name at least one size")
        if self.default_steps is not None and self.default_steps > self.max_steps:
            raise ValueError(f"default_steps ({self.default_steps}) must not exceed max_steps ({self.max_steps})")
        for quality, (least, most) in self.qualities.items():
            if not least <= most <= self.max_steps:
                raise ValueError(
                    f"qualities.{quality} is {least} to {most}, but must go from few steps to many, up to max_steps "
                    f"({self.max_steps})"
                )
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
        qualities: Fewest and most denoising steps by grade of quality.
        profile: What was measured of it, where somebody did.
        without: Parts of its pipeline that are not loaded.
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
    qualities: dict[Quality, tuple[int, int]] = Field(default_factory=dict)
    profile: ModelProfile | None = None
    without: tuple[str, ...] = ()

    def steps_of(self, quality: str | None) -> tuple[int, int]:
        """Return the fewest and the most steps of a grade of quality; of None, what a plain request gets."""
        if quality is None:
            return self.least_steps, self.default_steps
        return next(steps for name, steps in self.qualities.items() if name == quality)

    def quality_of(self, steps: int) -> Quality:
        """Return the lowest grade of quality that makes so many steps."""
        return next((name for name in QUALITIES if steps <= self.qualities[name][1]), QUALITIES[-1])

    def relative_area(self, size: str) -> float:
        """Pixels of a size relative to the default size."""
        (width, height), (default_width, default_height) = parse_size(size), parse_size(self.sizes[0])
        return width * height / (default_width * default_height)

    def workload_gcycles(self, pictures: int, steps: int, size: str) -> float:
        """Work of a request, Gcycle: pictures × (fixed work + steps × work per step), in proportion to the pixels."""
        return pictures * (self.fixed_gcycles + steps * self.cycles_per_step_gcycles) * self.relative_area(size)


def card_of(name: str, config: ModelConfig) -> ModelCard:
    """Return a model with its open values filled in from its own card and its profile.

    Args:
        name: An embedded model, a diffusers folder or a hub id.
        config: What the service says of it.

    Raises:
        UnknownModelError: If its card can not be read.
        InputError: If its profile can not be read.
    """
    info = model_info(name)
    profile = profile_of(name) if config.profile is None else read_profile(config.profile)
    side = info.native_size or DEFAULT_SIDE
    default_steps = config.default_steps or min(info.default_steps, config.max_steps)
    size_gb, load_s, fixed_gcycles, least_steps = 0.0, 0.0, 0.0, 1
    if profile is not None:
        size_gb, load_s, least_steps = profile.size_gb, profile.load_s, profile.least_steps
        fixed_gcycles = config.cycles_per_step_gcycles * profile.fixed_s / profile.step_s
    least_steps = config.least_steps or min(least_steps, config.max_steps)
    return ModelCard(
        name=name,
        cycles_per_step_gcycles=config.cycles_per_step_gcycles,
        default_steps=default_steps,
        max_steps=config.max_steps,
        default_guidance=info.default_guidance if config.default_guidance is None else config.default_guidance,
        sizes=config.sizes or (f"{side}x{side}",),
        size_gb=config.size_gb or size_gb,
        load_s=config.load_s or load_s,
        fixed_gcycles=fixed_gcycles if config.fixed_gcycles is None else config.fixed_gcycles,
        least_steps=least_steps,
        qualities={**usual_qualities(least_steps, default_steps, config.max_steps), **config.qualities},
        profile=profile,
        without=config.without,
    )


def usual_qualities(least: int, default: int, most: int) -> Mapping[Quality, tuple[int, int]]:
    """Return the fewest and most steps of each grade of quality where nobody has said them.

    A medium picture is one of the default; a low one has at most half of its steps, a high one up to twice as many.

    Args:
        least: Fewest useful steps.
        default: Steps where a request names none.
        most: Most steps of a request.
    """
    least = min(least, default)
    half, twice = max(least, default // 2, 1), min(2 * default, most)
    return {
        "low": (least, half),
        "medium": (half, default),
        "high": (default, twice),
        "xhigh": (twice, most),
        "max": (most, most),
    }


def profile_of(model: str) -> ModelProfile | None:
    """Return the profile in the folder of a model; None if there is none.

    Raises:
        InputError: If it can not be read.
    """
    folder = model_folder(model)
    path = None if folder is None else folder / PROFILE_FILE
    return None if path is None or not path.is_file() else read_profile(path)


def text_mbit(text: str) -> float:
    """Size of a text as UTF-8, Mbit."""
    return len(text.encode("utf-8", errors="replace")) * 8e-6


def picture_mbit(pixels: int) -> float:
    """Size of an uncompressed picture with 3 bytes per pixel, Mbit."""
    return pixels * 24e-6
