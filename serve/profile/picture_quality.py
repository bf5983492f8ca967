# SPDX-License-Identifier: Apache-2.0
"""What a picture's quality is measured by when a model is profiled; of every measure, lower is better.

``tv``: anisotropic total variation, the sum of |p[i+1, j] − p[i, j]| + |p[i, j+1] − p[i, j]| over all pixels and
channels. It is the measure of the quality curves in :mod:`edgegen.envs.provisioning.curves`, and needs neither a
reference nor a judge. It sees noise and ripples as bad and an empty picture as perfect, so it ranks step counts only
for models whose unfinished pictures are noisy.

``inaccuracy``: share of the pictures that do not show what the prompt asks for, as told by the judge of the model's
subject (:mod:`edgegen.serve.zoo.subjects`). It needs a model that paints such pictures, as the embedded ones do.

``distance``: root mean square difference from the pictures of the same prompts and seeds at the most steps measured.
It suits any model whose sampler leads to one picture; it says nothing about how good that picture is.

The measures and their scales are our choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from edgegen.envs.core.errors import InputError
from edgegen.serve.zoo.shapes import SIDE
from edgegen.serve.zoo.subjects import Subject

MEASURES: dict[str, str] = {
    "tv": "anisotropic total variation per pixel in grey levels (0 to 255), mean over the channels, lower is better",
    "inaccuracy": "prompt inaccuracy: percentage of pictures that do not show what was asked for, lower is better",
    "distance": "root mean square distance in percent of the full range to the pictures made in the most steps, "
    "lower is better",
}
"""What each measure is and its unit, in words."""

LEVELS = 255.0
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """Mean of a measure over pictures.

    Attributes:
        mean: Its mean, in the unit of the measure.
        low: Lower end of the mean's 95 % interval (Student t; Wilson for shares), not-a-number for a single picture.
        high: Upper end.
        spread: Standard deviation over the pictures, not-a-number for a single one.
    """

    mean: float
    low: float
    high: float
    spread: float


def total_variation(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the anisotropic total variation of pictures, summed over pixels and channels, ``[n]``.

    Levels count from 0 to 1, so that one edge between black and white adds one per channel and pixel of its length.

    Args:
        pictures: 8-bit levels, ``[n, h, w, channels]``.
    """
    levels = pictures.astype(np.float64) / LEVELS
    down = np.abs(np.diff(levels, axis=1)).sum((1, 2, 3))
    right = np.abs(np.diff(levels, axis=2)).sum((1, 2, 3))
    return np.asarray(down + right)


def variation_per_pixel(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the total variation over pixels times channels, ``[n]``, in grey levels from 0 to 255: measure ``tv``.

    Pictures of different sizes can be compared; the value is at most 2 × 255.

    Args:
        pictures: 8-bit levels, ``[n, h, w, channels]``.
    """
    height, width, channels = pictures.shape[1:]
    return np.asarray(total_variation(pictures) * LEVELS / (height * width * channels))


def distance_percent(pictures: NDArray[np.uint8], reference: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the root mean square difference of pairs of pictures, ``[n]``, percent of the full range.

    Args:
        pictures: 8-bit levels, ``[n, h, w, channels]``.
        reference: What to compare with, of the same shape.
    """
    difference = (pictures.astype(np.float64) - reference.astype(np.float64)) / LEVELS
    return np.asarray(100 * np.sqrt((difference**2).mean((1, 2, 3))))


def wrong_pictures(pictures: NDArray[np.uint8], subject: Subject, facts: Sequence[Any]) -> NDArray[np.bool_]:
    """Tell which pictures do not show what was asked for, ``[n]``.

    Args:
        pictures: 8-bit RGB, ``[n, 64, 64, 3]``.
        subject: What is painted; its judge decides.
        facts: What was asked for, one per picture.

    Raises:
        InputError: If the pictures have another shape, so that the judge can not read them.
    """
    if pictures.shape[1:] != (SIDE, SIDE, 3):
        size = " x ".join(str(length) for length in pictures.shape[1:])
        raise InputError(f"The judge of prompt accuracy reads pictures of {SIDE} x {SIDE} x 3 values, not {size}.")
    return np.array([not subject.judge(picture, fact).right for picture, fact in zip(pictures, facts, strict=True)])


def mean_of(values: NDArray[np.float64]) -> Estimate:
    """Estimate the mean of a measure from its value for every picture ``[n]``."""
    if len(values) == 1:
        return Estimate(float(values[0]), math.nan, math.nan, math.nan)
    mean, spread = float(values.mean()), float(values.std(ddof=1))
    half = float(stats.t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1)) * spread / math.sqrt(len(values))
    return Estimate(mean, mean - half, mean + half, spread)


def percentage_of(flags: NDArray[np.bool_]) -> Estimate:
    """Estimate the percentage of true flags ``[n]``; the interval is Wilson's, which holds at 0 and 100 % too."""
    interval = stats.binomtest(int(flags.sum()), len(flags)).proportion_ci(_CONFIDENCE, method="wilson")
    spread = float(100 * flags.std(ddof=1)) if len(flags) > 1 else math.nan
    return Estimate(100 * float(flags.mean()), 100 * float(interval.low), 100 * float(interval.high), spread)
