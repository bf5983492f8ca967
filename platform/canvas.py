# SPDX-License-Identifier: Apache-2.0
"""The canvas that all plots are drawn on: edgegen's own, whatever a person's matplotlib is set up to.

Nothing else imports what matplotlib draws with, so that its backend, style files and ``text.usetex`` never matter here.
"""

from __future__ import annotations

import functools
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from edgegen.envs.core.errors import InputError, first_line
from edgegen.platform.files import plot_files, write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BACKEND = "MPLBACKEND"
"""The variable that matplotlib reads, and refuses to be imported for, when it is imported."""

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def _without_backend() -> Iterator[None]:
    """Hide the backend that somebody chose, and what matplotlib says of settings that are not used here."""
    chosen, logger = os.environ.pop(_BACKEND, None), logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        if chosen is not None:
            os.environ[_BACKEND] = chosen


try:
    with _without_backend():
        import matplotlib as mpl
        import matplotlib.style
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as _Figure
        from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter
except (ValueError, OSError) as error:  # a settings file that is no text, or can not be read
    raise InputError(f"matplotlib can not be loaded: {first_line(error)}.") from None


@contextmanager
def own_style() -> Iterator[None]:
    """Draw as matplotlib does when nobody has set anything up, for the length of a block."""
    with warnings.catch_warnings(), mpl.rc_context():
        warnings.simplefilter("ignore", UserWarning)  # glyphs a font lacks are drawn as boxes
        mpl.rcdefaults()
        # A $ in a name is a dollar, and no formula that may be wrong.
        mpl.rcParams.update({"svg.hashsalt": "edgegen", "text.parse_math": False})
        yield


def drawing(draw: Callable[P, R]) -> Callable[P, R]:
    """Let a function draw in :func:`own_style`."""

    @functools.wraps(draw)
    def drawn(*arguments: P.args, **options: P.kwargs) -> R:
        with own_style():
            return draw(*arguments, **options)

    return drawn


class _ShownFigure(_Figure):
    """A figure that a notebook shows, without pyplot."""

    def _repr_png_(self) -> bytes:
        data = io.BytesIO()
        with own_style():
            self.savefig(data, format="png", dpi=110)
        return data.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure with a canvas of its own.

    Args:
        width: Its width, inches.
        height: Its height, inches.
    """
    figure = _ShownFigure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def use_no_window() -> None:
    """Let libraries that draw through pyplot open no window, whatever screen there is."""
    mpl.use("Agg")


def save(figure: Figure, path: Path, tight: bool = False, endings: Sequence[str] | None = None) -> list[Path]:
    """Write a figure as PNG and as SVG beside each other, as one of them, or as PDF.

    Args:
        figure: The figure.
        path: Where to; .png, .svg or .pdf.
        tight: Cut off what is empty at the edges, and make room for what is outside.
        endings: Of the files, by which they are told apart; those that belong to the path if not given.

    Returns:
        The files written.

    Raises:
        InputError: If a file can not be written.
    """
    written = plot_files(path) if endings is None else [path.with_suffix(ending) for ending in endings]
    for target in written:
        kind = target.suffix.removeprefix(".")
        # The same figure is the same file: no date in it.
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
        data = io.BytesIO()
        with own_style():
            figure.savefig(data, format=kind, dpi=150, metadata=metadata, bbox_inches="tight" if tight else None)
        write_bytes(target, data.getvalue())
    return list(written)


def logarithmic(axes: Axes, which: Literal["x", "y"]) -> None:
    """Make an axis logarithmic, with plain numbers."""
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    plain_numbers(axis)


def plain_numbers(axis: Any, form: str = "g", minor: bool = False) -> None:
    """Write the numbers of an axis without powers of ten.

    Args:
        axis: The axis.
        form: How Python is to format a number.
        minor: Write those of the ticks in between as well.
    """
    axis.set_major_formatter(StrMethodFormatter(f"{{x:{form}}}"))
    if minor:
        axis.set_minor_formatter(StrMethodFormatter(f"{{x:{form}}}"))


def whole_numbers(axis: Any) -> None:
    """Put ticks at whole numbers only."""
    axis.set_major_locator(MaxNLocator(integer=True))


def no_minor_ticks(axis: Any) -> None:
    """Leave out the ticks between the numbers."""
    axis.set_minor_locator(NullLocator())


def grey_safe_colours(count: int) -> list[tuple[float, ...]]:
    """Colours that differ in luminance as well."""
    colours = mpl.colormaps["cividis"]
    return [tuple(colours(0.75 * n / max(1, count - 1))) for n in range(count)]
