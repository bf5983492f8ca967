# SPDX-License-Identifier: Apache-2.0
"""A judge of pictures of digits: which digit a picture holds, in which colour and where.

No learned network: what differs from the background is taken together, gets the colour of the palette nearest to its
inside, and is laid over every ideal digit. What is far from every colour or every digit counts as none, so a blurred
or broken picture, and one with two digits, is judged wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from edgegen.serve.zoo.digits import DIGITS, FINE, WINDOW, Numeral, coverage
from edgegen.serve.zoo.judge import COLOUR_TOLERANCE, FOREGROUND_DISTANCE, LEAST_PIXELS, place_of
from edgegen.serve.zoo.shapes import BACKGROUND, COLOURS, SIDE

LEAST_OVERLAP = 0.75  # intersection over union with the best digit below which a picture holds none

_GROUND = np.array(BACKGROUND, dtype=np.float32)
_NUDGES = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
_HALVES = (0, FINE // 2)


@dataclass(frozen=True)
class Reading:
    """What a picture holds; a field is None where it is like nothing in the vocabulary."""

    colour: str | None
    digit: str | None
    place: str


@dataclass(frozen=True)
class DigitVerdict:
    """Which parts of a caption a picture meets; parts that the caption leaves open count as met."""

    colour: bool
    digit: bool
    place: bool

    @property
    def right(self) -> bool:
        """Tell whether digit, colour and place are all as asked."""
        return self.colour and self.digit and self.place


def read_digit(picture: NDArray[np.uint8]) -> Reading | None:
    """Tell what is in a picture; None if it is empty.

    Args:
        picture: RGB, shape `[64, 64, 3]`.
    """
    if picture.shape != (SIDE, SIDE, 3):
        raise ValueError(f"the judge reads pictures of {SIDE} by {SIDE} RGB pixels, not {picture.shape}")
    offset = picture.astype(np.float32) - _GROUND
    distance = np.linalg.norm(offset, axis=-1)
    painted = distance > FOREGROUND_DISTANCE
    if painted.sum() < LEAST_PIXELS:
        return None
    # Strokes are thin: their pure colour is that of the pixels that differ most from the background.
    core = painted & (distance >= np.quantile(distance[painted], 0.5))
    mean = picture[core].astype(np.float32).mean(axis=0)
    distances = {name: float(np.linalg.norm(mean - np.array(rgb))) for name, rgb in COLOURS.items()}
    colour = min(distances, key=lambda name: distances[name])
    paint = mean - _GROUND
    solid = offset @ paint / float(paint @ paint) > 0.5  # the outline of an anti-aliased digit
    if not solid.any():
        solid = painted
    rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    x, y = (columns[0] + columns[-1] + 1) / 2, (rows[0] + rows[-1] + 1) / 2
    overlaps = _overlaps(solid, x, y)
    best = int(overlaps.argmax())
    return Reading(
        colour=colour if distances[colour] <= COLOUR_TOLERANCE else None,
        digit=DIGITS[best] if overlaps[best] >= LEAST_OVERLAP else None,
        place=place_of(x, y),
    )


def judge_digit(picture: NDArray[np.uint8], numeral: Numeral) -> DigitVerdict:
    """Compare a picture with the facts of a caption.

    Args:
        picture: RGB, shape `[64, 64, 3]`.
        numeral: The facts; see `digits.parse_caption`.
    """
    found = read_digit(picture)
    if found is None:
        return DigitVerdict(colour=False, digit=False, place=False)
    return DigitVerdict(
        colour=found.colour == numeral.colour,
        digit=found.digit == numeral.digit,
        place=numeral.place in (None, found.place),
    )


@cache
def _ideals() -> NDArray[np.float32]:
    """Every digit at shifts of half a pixel, as 0 and 1, shape `[digits * 4, (WINDOW + 1)²]`."""
    drawn = [coverage(digit, right, down) > 0.5 for digit in DIGITS for right in _HALVES for down in _HALVES]
    return np.stack(drawn).reshape(len(drawn), -1).astype(np.float32)


def _overlaps(solid: NDArray[np.bool_], x: float, y: float) -> NDArray[np.float32]:
    """Return the best intersection over union with every ideal digit near the middle of the box, `[digits]`."""
    wide = np.pad(solid, WINDOW)
    left, top = round(x - WINDOW / 2) + WINDOW, round(y - WINDOW / 2) + WINDOW
    span = WINDOW + 1
    windows = np.stack([wide[top + dy : top + dy + span, left + dx : left + dx + span].ravel() for dy, dx in _NUDGES])
    ideals = _ideals()
    both = ideals @ windows.T.astype(np.float32)
    # All that is painted counts, so a second digit outside of the window is held against the first.
    either = ideals.sum(axis=1)[:, None] + float(solid.sum()) - both
    best: NDArray[np.float32] = (both / either).reshape(len(DIGITS), -1).max(axis=1)
    return best
