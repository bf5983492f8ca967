# SPDX-License-Identifier: Apache-2.0
"""Procedural captioned pictures: coloured shapes with sizes, places and relations on a light background.

A `Scene` holds the facts that a caption states. `caption` and `parse_caption` turn one into the other; `draw` paints
a batch of scenes as 64×64 RGB pictures. Every random choice comes from a numpy `Generator`, and the split into
training and held-out scenes depends on the facts alone, so it is the same in every process.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

SIDE = 64
BACKGROUND = (240, 240, 240)
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (215, 35, 40),
    "orange": (245, 140, 25),
    "yellow": (245, 215, 50),
    "green": (40, 160, 60),
    "cyan": (60, 200, 215),
    "blue": (40, 75, 215),
    "purple": (145, 60, 175),
    "black": (25, 25, 30),
}
SHAPES = ("circle", "square", "triangle", "diamond", "cross")
SIZES: dict[str, tuple[float, float]] = {"small": (6.0, 7.5), "large": (11.0, 12.5)}
PLACES: dict[str, tuple[str, int, int]] = {
    "top left": ("in the top left", 17, 17),
    "top": ("at the top", 32, 17),
    "top right": ("in the top right", 47, 17),
    "left": ("on the left", 17, 32),
    "centre": ("in the centre", 32, 32),
    "right": ("on the right", 47, 32),
    "bottom left": ("in the bottom left", 17, 47),
    "bottom": ("at the bottom", 32, 47),
    "bottom right": ("in the bottom right", 47, 47),
}
RELATIONS: dict[str, tuple[str, int, int]] = {
    "left of": ("left of", -16, 0),
    "right of": ("right of", 16, 0),
    "above": ("above", 0, -16),
    "below": ("below", 0, 16),
}
PLACE_JITTER = 2.0
CROSS_ARM = 0.36
HELD_OUT_ONE_IN = 8
WORDS = tuple(
    sorted(
        {"a", "an", "center", *COLOURS, *SHAPES, *SIZES}
        | {word for phrase, _, _ in (*PLACES.values(), *RELATIONS.values()) for word in phrase.split()}
    )
)

_THING = r"an? (?:(?P<size{n}>{sizes}) )?(?P<colour{n}>{colours}) (?P<shape{n}>{shapes})"
_VOCABULARY = {"sizes": "|".join(SIZES), "colours": "|".join(COLOURS), "shapes": "|".join(SHAPES)}
_PLACE_OF_PHRASE = {phrase: place for place, (phrase, _, _) in PLACES.items()}
_CAPTION = re.compile(
    _THING.format(n=1, **_VOCABULARY)
    + f"(?: (?P<place>{'|'.join(sorted(_PLACE_OF_PHRASE, key=len, reverse=True))}))?"
    + f"(?: (?P<relation>{'|'.join(RELATIONS)}) {_THING.format(n=2, **_VOCABULARY)})?"
)


class CaptionError(ValueError):
    """A text that the caption grammar does not cover."""


@dataclass(frozen=True)
class Thing:
    """One coloured shape; `size` is None where the caption leaves it open."""

    colour: str
    shape: str
    size: str | None = None

    def text(self) -> str:
        """Return the noun phrase, article included."""
        words = " ".join(word for word in (self.size, self.colour, self.shape) if word)
        return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


@dataclass(frozen=True)
class Scene:
    """The facts of one caption: one thing with or without a place, or two things with a relation."""

    first: Thing
    place: str | None = None
    relation: str | None = None
    second: Thing | None = None

    def things(self) -> tuple[Thing, ...]:
        """Return the things in the order that the caption names them."""
        return (self.first,) if self.second is None else (self.first, self.second)


@dataclass(frozen=True)
class Spot:
    """Where and how large one thing is drawn: centre and half-extent in pixels."""

    x: float
    y: float
    reach: float


def caption(scene: Scene) -> str:
    """Return the caption that states the facts of `scene`."""
    text = scene.first.text()
    if scene.place is not None:
        text += f" {PLACES[scene.place][0]}"
    if scene.relation is not None and scene.second is not None:
        text += f" {RELATIONS[scene.relation][0]} {scene.second.text()}"
    return text


def parse_caption(text: str) -> Scene:
    """Return the facts that `text` states.

    Args:
        text: A caption of the grammar; case, spaces and the spelling of "centre" do not matter.

    Raises:
        CaptionError: The text is outside the grammar.
    """
    match = _CAPTION.fullmatch(" ".join(text.lower().replace("center", "centre").split()))
    if match is None or (match["place"] and match["relation"]):
        raise CaptionError(f'not a caption of the shapes grammar: "{text}" (try "a large red circle in the top left")')
    first = Thing(match["colour1"], match["shape1"], match["size1"])
    if match["relation"] is None:
        return Scene(first, place=_PLACE_OF_PHRASE.get(match["place"]))
    return Scene(first, relation=match["relation"], second=Thing(match["colour2"], match["shape2"], match["size2"]))


def is_held_out(scene: Scene) -> bool:
    """Tell whether `scene` belongs to the held-out split.

    One in eight combinations is never trained on: for one thing the combination of colour, shape and place, for two
    things the unordered pair of colours and shapes, in whatever size or relation. A thing without a place is always
    a training scene.
    """
    if scene.second is None:
        if scene.place is None:
            return False
        key = f"{scene.first.colour} {scene.first.shape} {scene.place}"
    else:
        key = " & ".join(sorted(f"{thing.colour} {thing.shape}" for thing in scene.things()))
    return zlib.crc32(key.encode()) % HELD_OUT_ONE_IN == 0


def single_scenes(held_out: bool) -> Iterator[Scene]:
    """Yield every fully stated one-thing scene of one split, in a fixed order."""
    for colour, shape, place, size in product(COLOURS, SHAPES, PLACES, SIZES):
        scene = Scene(Thing(colour, shape, size), place=place)
        if is_held_out(scene) == held_out:
            yield scene


def sample_scenes(
    rng: np.random.Generator, count: int, *, held_out: bool = False, pairs: float = 0.5, open_facts: float = 0.0
) -> list[Scene]:
    """Draw scenes of one split.

    Args:
        rng: Source of every choice.
        count: How many scenes.
        held_out: Draw from the held-out split instead of the training split.
        pairs: Share of scenes with two things (before the split is applied).
        open_facts: Chance that a size, or the place of a lone thing, is left open.
    """
    colours, places, relations, sizes = tuple(COLOURS), tuple(PLACES), tuple(RELATIONS), tuple(SIZES)

    def thing(colour: str) -> Thing:
        size = None if rng.random() < open_facts else sizes[rng.integers(len(sizes))]
        return Thing(colour, SHAPES[rng.integers(len(SHAPES))], size)

    scenes: list[Scene] = []
    while len(scenes) < count:
        one, two = (colours[i] for i in rng.choice(len(colours), 2, replace=False))
        if rng.random() < pairs:
            scene = Scene(thing(one), relation=relations[rng.integers(len(relations))], second=thing(two))
        else:
            place = None if rng.random() < open_facts else places[rng.integers(len(places))]
            scene = Scene(thing(one), place=place)
        if is_held_out(scene) == held_out:
            scenes.append(scene)
    return scenes


def held_out_scenes(count: int, seed: int) -> list[Scene]:
    """Draw fully stated held-out scenes: the first half (rounded up) with one thing, the rest with two."""
    rng = np.random.default_rng([seed, 4])
    singles = sample_scenes(rng, count - count // 2, held_out=True, pairs=0.0)
    return singles + sample_scenes(rng, count // 2, held_out=True, pairs=1.0)


def lay_out(scene: Scene, rng: np.random.Generator) -> tuple[Spot, ...]:
    """Choose the spot of every thing of `scene`, within the tolerance of its place and size."""
    centres: list[tuple[float, float]]
    if scene.relation is not None:
        _, dx, dy = RELATIONS[scene.relation]
        centres = [(SIDE / 2 + dx, SIDE / 2 + dy), (SIDE / 2 - dx, SIDE / 2 - dy)]
    else:
        places = tuple(PLACES)
        centres = [PLACES[scene.place or places[rng.integers(len(places))]][1:]]
    spots = []
    for thing, (x, y) in zip(scene.things(), centres, strict=True):
        low, high = SIZES[thing.size or tuple(SIZES)[rng.integers(len(SIZES))]]
        jx, jy = rng.uniform(-PLACE_JITTER, PLACE_JITTER, 2)
        spots.append(Spot(float(x + jx), float(y + jy), float(rng.uniform(low, high))))
    return tuple(spots)


def coverage(
    shape: str, x: NDArray[np.float32], y: NDArray[np.float32], reach: NDArray[np.float32], side: int = SIDE
) -> NDArray[np.float32]:
    """Return how much of every pixel a shape covers, with anti-aliased edges.

    Args:
        shape: One of `SHAPES`.
        x: Centres in pixels, shape `[n]`.
        y: Centres in pixels, shape `[n]`.
        reach: Half-extents in pixels, shape `[n]`.
        side: Width and height of the pictures.

    Returns:
        Coverage between 0 and 1, shape `[n, side, side]`.
    """
    distance: NDArray[np.float32]
    axis = np.arange(side, dtype=np.float32) + 0.5
    dx = np.abs(axis[None, None, :] - x[:, None, None])
    dy = axis[None, :, None] - y[:, None, None]
    r = reach[:, None, None]
    if shape == "circle":
        distance = np.hypot(dx, dy) - r
    elif shape == "square":
        distance = np.maximum(dx, np.abs(dy)) - r
    elif shape == "triangle":
        distance = np.maximum(dy - r, (2 * dx - dy - r) / np.sqrt(np.float32(5)))
    elif shape == "diamond":
        distance = (dx + np.abs(dy) - r) / np.sqrt(np.float32(2))
    elif shape == "cross":
        arm, ady = CROSS_ARM * r, np.abs(dy)
        distance = np.minimum(np.maximum(dx - r, ady - arm), np.maximum(dx - arm, ady - r))
    else:
        raise ValueError(f"unknown shape {shape!r}; the shapes are {', '.join(SHAPES)}")
    covered: NDArray[np.float32] = np.clip(0.5 - distance, 0, 1).astype(np.float32)
    return covered


def draw(scenes: Sequence[Scene], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Paint scenes.

    Args:
        scenes: What to paint.
        rng: Source of the exact spots.

    Returns:
        RGB pictures, shape `[n, 64, 64, 3]`.
    """
    pictures = np.full((len(scenes), SIDE, SIDE, 3), BACKGROUND, dtype=np.float32)
    jobs: dict[tuple[int, str], list[tuple[int, str, Spot]]] = {}
    for index, scene in enumerate(scenes):
        for layer, (thing, spot) in enumerate(zip(scene.things(), lay_out(scene, rng), strict=True)):
            jobs.setdefault((layer, thing.shape), []).append((index, thing.colour, spot))
    for (_, shape), group in jobs.items():
        where = np.array([index for index, _, _ in group])
        x, y, reach = np.array([(s.x, s.y, s.reach) for _, _, s in group], dtype=np.float32).T
        paint = np.array([COLOURS[colour] for _, colour, _ in group], dtype=np.float32)[:, None, None, :]
        alpha = coverage(shape, x, y, reach)[..., None]
        pictures[where] += alpha * (paint - pictures[where])
    return np.rint(pictures).astype(np.uint8)
