# SPDX-License-Identifier: Apache-2.0
"""A judge of pictures: which coloured shapes a picture holds, how large and where, and whether a caption is met.

No learned network: the picture is cut into connected patches that differ from the background, a patch takes the
colour of the palette nearest to its inside, the shape whose ideal outline it overlaps best, and the size and place of
its bounding box. A patch that is far from every colour or every outline counts as none of them, so a blurred or
broken picture is judged wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from edgegen.serve.zoo.shapes import BACKGROUND, COLOURS, PLACES, SHAPES, SIDE, SIZES, Scene, Thing, coverage

FOREGROUND_DISTANCE = 75.0  # RGB distance from the background that makes a pixel part of a patch
LEAST_PIXELS = 16  # smaller patches are specks, not things
COLOUR_TOLERANCE = 60.0  # RGB distance to the nearest palette colour beyond which a patch has no colour
LEAST_OVERLAP = 0.75  # intersection over union with the best outline below which a patch has no shape
SIZE_LIMIT = (SIZES["small"][1] + SIZES["large"][0]) / 2
PLACE_LIMITS = (24.5, 39.5)  # between the left, middle and right thirds (and the same downwards)
RELATION_GAP = 10.0  # pixels between centres before "left of" or "above" holds

_GROUND = np.array(BACKGROUND, dtype=np.float32)
_NUDGES = np.array([(dx, dy, dr) for dx in (-0.5, 0, 0.5) for dy in (-0.5, 0, 0.5) for dr in (-0.5, 0, 0.5)])
_PLACE_OF_THIRDS = {
    tuple(int(np.digitize(v, PLACE_LIMITS)) for v in (x, y)): place for place, (_, x, y) in PLACES.items()
}


@dataclass(frozen=True)
class Finding:
    """One patch of a picture; a field is None where the patch is like nothing in the vocabulary."""

    colour: str | None
    shape: str | None
    size: str
    x: float
    y: float

    @property
    def place(self) -> str:
        """Name the place of the patch in the picture."""
        return place_of(self.x, self.y)


@dataclass(frozen=True)
class Verdict:
    """Which parts of a caption a picture meets; parts that the caption leaves open count as met."""

    count: bool
    colour: bool
    shape: bool
    size: bool
    place: bool

    @property
    def right(self) -> bool:
        """Tell whether number, colour, shape and place (or relation) are all as asked."""
        return self.count and self.colour and self.shape and self.place

    @property
    def complete(self) -> bool:
        """Tell whether the size is right as well."""
        return self.right and self.size


def place_of(x: float, y: float) -> str:
    """Name the place of a point of a picture, pixels."""
    return _PLACE_OF_THIRDS[int(np.digitize(x, PLACE_LIMITS)), int(np.digitize(y, PLACE_LIMITS))]


def find_things(picture: NDArray[np.uint8]) -> list[Finding]:
    """List what is in a picture, largest patch first.

    Args:
        picture: RGB, shape `[64, 64, 3]`.
    """
    if picture.shape != (SIDE, SIDE, 3):
        raise ValueError(f"the judge reads pictures of {SIDE} by {SIDE} RGB pixels, not {picture.shape}")
    offset = picture.astype(np.float32) - _GROUND
    labels, count = ndimage.label(np.linalg.norm(offset, axis=-1) > FOREGROUND_DISTANCE)
    patches = [labels == label for label in range(1, count + 1)]
    patches = sorted((patch for patch in patches if patch.sum() >= LEAST_PIXELS), key=lambda p: -int(p.sum()))
    return [_read_patch(patch, picture, offset) for patch in patches]


def judge(picture: NDArray[np.uint8], scene: Scene) -> Verdict:
    """Compare a picture with the facts of a caption.

    Args:
        picture: RGB, shape `[64, 64, 3]`.
        scene: The facts; see `shapes.parse_caption`.
    """
    found = find_things(picture)
    wanted = scene.things()
    if len(found) != len(wanted):
        return Verdict(count=False, colour=False, shape=False, size=False, place=False)
    if len(wanted) == 2 and _agreement(found[::-1], wanted) > _agreement(found, wanted):
        found = found[::-1]
    pairs = list(zip(found, wanted, strict=True))
    return Verdict(
        count=True,
        colour=all(finding.colour == thing.colour for finding, thing in pairs),
        shape=all(finding.shape == thing.shape for finding, thing in pairs),
        size=all(thing.size in (None, finding.size) for finding, thing in pairs),
        place=_relation_holds(scene, found) if scene.relation else scene.place in (None, found[0].place),
    )


def _agreement(found: list[Finding], wanted: tuple[Thing, ...]) -> int:
    """Count the colours (first) and shapes (second) that agree in this order."""
    pairs = zip(found, wanted, strict=True)
    return sum(3 * (finding.colour == thing.colour) + (finding.shape == thing.shape) for finding, thing in pairs)


def _relation_holds(scene: Scene, found: list[Finding]) -> bool:
    """Tell whether the first finding lies from the second as the relation says."""
    dx, dy = found[0].x - found[1].x, found[0].y - found[1].y
    along, across = (dx, dy) if scene.relation in ("left of", "right of") else (dy, dx)
    if scene.relation in ("left of", "above"):
        along = -along
    return along > RELATION_GAP and along > abs(across)


def _read_patch(patch: NDArray[np.bool_], picture: NDArray[np.uint8], offset: NDArray[np.float32]) -> Finding:
    """Name the colour, shape, size and place of one connected patch."""
    inside = ndimage.binary_erosion(patch, iterations=2)
    inside = inside if inside.any() else patch
    mean = picture[inside].astype(np.float32).mean(axis=0)
    distances = {name: float(np.linalg.norm(mean - np.array(rgb))) for name, rgb in COLOURS.items()}
    colour = min(distances, key=lambda name: distances[name])

    # The share of the patch's own colour in every pixel: 0.5 is the outline of an anti-aliased shape.
    paint = mean - _GROUND
    share = np.where(ndimage.binary_dilation(patch, iterations=2), offset @ paint / float(paint @ paint), 0)
    solid = share > 0.5
    if not solid.any():
        solid = patch
    rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    x, y, reach = (left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top) / 2
    overlaps = _overlaps(solid, float(x), float(y), float(reach))
    shape = max(overlaps, key=lambda name: overlaps[name])
    return Finding(
        colour=colour if distances[colour] <= COLOUR_TOLERANCE else None,
        shape=shape if overlaps[shape] >= LEAST_OVERLAP else None,
        size="small" if reach < SIZE_LIMIT else "large",
        x=float(x),
        y=float(y),
    )


def _overlaps(solid: NDArray[np.bool_], x: float, y: float, reach: float) -> dict[str, float]:
    """Return the best intersection over union of a patch with every ideal outline near its bounding box."""
    half = int(np.ceil(reach)) + 2  # compare within a window around the bounding box
    left, top = int(x) - half, int(y) - half
    window = np.pad(solid, half)[top + half : top + 3 * half + 1, left + half : left + 3 * half + 1]
    xs, ys, rs = (_NUDGES + np.array([x - left, y - top, reach])).astype(np.float32).T
    best = {}
    for shape in SHAPES:
        ideal = coverage(shape, xs, ys, rs, side=len(window)) > 0.5
        both = (ideal & window).sum(axis=(1, 2))
        either = (ideal | window).sum(axis=(1, 2))
        best[shape] = float((both / either).max())
    return best
