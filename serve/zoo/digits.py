# SPDX-License-Identifier: Apache-2.0
"""Procedural captioned pictures of digits: one digit in a colour and a place.

The same idea as :mod:`edgegen.serve.zoo.shapes`, on another subject: a `Numeral` holds the facts that a caption states,
`caption` and `parse_caption` turn one into the other, `draw` paints a batch. The outlines are those of DejaVu Sans Mono
Bold, which comes with Matplotlib.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgegen.serve.zoo.shapes import BACKGROUND, COLOURS, HELD_OUT_ONE_IN, PLACES, SIDE, CaptionError

DIGITS = tuple("0123456789")
FONT_SIZE = 42.0
"""Pixels; digits are 31 high and about 22 wide then."""
WINDOW = 40
"""Side of the square that a digit is drawn in, pixels."""
FINE = 8
"""Parts of a pixel that a place is rounded to, and samples per pixel side that its coverage is the mean of."""
PLACE_JITTER = 1.0
_PLACE_WORDS = {word for phrase, _, _ in PLACES.values() for word in phrase.split()}
WORDS = tuple(sorted({"a", "an", "center", *COLOURS, *DIGITS} | _PLACE_WORDS))


_PLACE_OF_PHRASE = {phrase: place for place, (phrase, _, _) in PLACES.items()}
_CAPTION = re.compile(
    rf"an? (?P<colour>{'|'.join(COLOURS)}) (?P<digit>[0-9])"
    rf"(?: (?P<place>{'|'.join(sorted(_PLACE_OF_PHRASE, key=len, reverse=True))}))?"
)


@dataclass(frozen=True)
class Numeral:
    """The facts of one caption: a digit, its colour and its place, None where the caption leaves it open."""

    colour: str
    digit: str
    place: str | None = None


def caption(numeral: Numeral) -> str:
    """Return the caption that states the facts of `numeral`."""
    text = f"{'an' if numeral.colour[0] in 'aeiou' else 'a'} {numeral.colour} {numeral.digit}"
    return text if numeral.place is None else f"{text} {PLACES[numeral.place][0]}"


def parse_caption(text: str) -> Numeral:
    """Return the facts that `text` states.

    Args:
        text: A caption of the grammar; case, spaces and the spelling of "centre" do not matter.

    Raises:
        CaptionError: The text is outside the grammar.
    """
    match = _CAPTION.fullmatch(" ".join(text.lower().replace("center", "centre").split()))
    if match is None:
        raise CaptionError(f'not a caption of the digits grammar: "{text}" (try "a red 7 in the top left")')
    return Numeral(match["colour"], match["digit"], _PLACE_OF_PHRASE.get(match["place"]))


def is_held_out(numeral: Numeral) -> bool:
    """Tell whether `numeral` belongs to the held-out split: one in `HELD_OUT_ONE_IN` of all fully stated ones."""
    if numeral.place is None:
        return False
    return zlib.crc32(f"{numeral.colour} {numeral.digit} {numeral.place}".encode()) % HELD_OUT_ONE_IN == 0


def every_numeral(held_out: bool) -> Iterator[Numeral]:
    """Yield every fully stated numeral of one split, in a fixed order."""
    for colour, digit, place in product(COLOURS, DIGITS, PLACES):
        numeral = Numeral(colour, digit, place)
        if is_held_out(numeral) == held_out:
            yield numeral


def sample_numerals(
    rng: np.random.Generator, count: int, *, held_out: bool = False, open_facts: float = 0.0
) -> list[Numeral]:
    """Draw numerals of one split.

    Args:
        rng: Source of every choice.
        count: How many.
        held_out: Draw from the held-out split instead of the training split.
        open_facts: Chance that the place is left open.
    """
    colours, places = tuple(COLOURS), tuple(PLACES)
    numerals: list[Numeral] = []
    while len(numerals) < count:
        place = None if rng.random() < open_facts else places[rng.integers(len(places))]
        numeral = Numeral(colours[rng.integers(len(colours))], DIGITS[rng.integers(len(DIGITS))], place)
        if is_held_out(numeral) == held_out:
            numerals.append(numeral)
    return numerals


def held_out_numerals(count: int, seed: int) -> list[Numeral]:
    """Draw numerals of the held-out split."""
    return sample_numerals(np.random.default_rng([seed, 4]), count, held_out=True)


def draw(numerals: Sequence[Numeral], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Paint numerals, each near the middle of its place.

    Args:
        numerals: What to paint.
        rng: Source of the exact spots.

    Returns:
        RGB pictures, shape `[n, 64, 64, 3]`.
    """
    ground = np.array(BACKGROUND, dtype=np.float32)
    pictures = np.tile(ground, (len(numerals), SIDE, SIDE, 1))
    places = tuple(PLACES)
    for picture, numeral in zip(pictures, numerals, strict=True):
        _, x, y = PLACES[numeral.place or places[rng.integers(len(places))]]
        # The corner of the window in parts of a pixel.
        corner = np.rint((np.array([x, y]) + rng.uniform(-PLACE_JITTER, PLACE_JITTER, 2) - WINDOW / 2) * FINE)
        left, top = (int(part) for part in corner // FINE)
        alpha = coverage(numeral.digit, *(int(part) for part in corner % FINE))[..., None]
        rows, columns = _inside(top), _inside(left)
        alpha = alpha[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        picture[rows, columns] += alpha * (np.array(COLOURS[numeral.colour], dtype=np.float32) - ground)
    return np.rint(pictures).astype(np.uint8)


def _inside(begin: int) -> slice:
    """The part of a window from `begin` that lies in the picture; digits themselves never reach beyond it."""
    return slice(max(begin, 0), min(begin + WINDOW + 1, SIDE))


@cache
def coverage(digit: str, right: int = 0, down: int = 0) -> NDArray[np.float32]:
    """Return how much of every pixel of its window a digit covers, the middle of its box in the middle of the window.

    Args:
        digit: One of `DIGITS`.
        right: Shift to the right in parts of a pixel, from 0 to `FINE` - 1.
        down: Shift downwards.

    Returns:
        Coverage between 0 and 1, shape `[WINDOW + 1, WINDOW + 1]`; not to be changed.
    """
    fine = np.zeros(((WINDOW + 1) * FINE,) * 2, dtype=np.float32)
    fine[down : down + WINDOW * FINE, right : right + WINDOW * FINE] = _outline(digit)
    covered: NDArray[np.float32] = fine.reshape(WINDOW + 1, FINE, WINDOW + 1, FINE).mean(axis=(1, 3))
    covered.flags.writeable = False
    return covered


@cache
def _outline(digit: str) -> NDArray[np.float32]:
    """A digit in the middle of a finely sampled window, 0 outside and 1 inside."""
    from matplotlib import get_data_path
    from PIL import Image, ImageDraw, ImageFont

    path = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSansMono-Bold.ttf"
    font = ImageFont.truetype(str(path), FONT_SIZE * FINE)
    side = WINDOW * FINE
    left, top, right, bottom = font.getbbox(digit)
    paper = Image.new("L", (side, side))
    corner = ((side - right - left) / 2, (side - bottom - top) / 2)
    ImageDraw.Draw(paper).text(corner, digit, fill=255, font=font)
    outline: NDArray[np.float32] = np.asarray(paper, dtype=np.float32) / np.float32(255)
    return outline
