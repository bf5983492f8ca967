# SPDX-License-Identifier: Apache-2.0
"""Files a command leaves behind: checked before the work starts, written in one step when it is done."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgegen.envs.core.errors import InputError, first_line
from edgegen.envs.core.named_files import existing
from edgegen.envs.core.paths import WRITTEN, as_path, is_there, reason_of, replacing

PNG = ".png"
PLOT_ENDINGS = (PNG, ".svg")
"""Kinds of files that a plot is drawn as, unless it is asked for in the form of papers."""
PDF = ".pdf"
TABLE_ENDINGS = (".csv", ".tex", ".md")
"""Kinds of files that a table is written as."""


def check_writable_folder(folder: str | Path) -> Path:
    """Refuse an output folder that can not be created or written, without leaving anything behind.

    Returns:
        The folder, with ``~`` as a home folder.

    Raises:
        InputError: If the folder, or the nearest parent that exists, can not be written.
    """
    folder = nearest = as_path(folder, "Output folder", WRITTEN)
    while not is_there(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    try:
        # A real attempt: permission bits say nothing about read-only mounts, full disks or a privileged user.
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise InputError(f"Output folder '{folder}' can not be written: {reason_of(error)}.") from None
    return folder


def refuse_same_file(paths: dict[str, str | Path | None]) -> None:
    """Refuse to write one file over another one of the run.

    Args:
        paths: By what each is, None for those there are not.

    Raises:
        InputError: If two are the same.
    """
    seen: dict[Path, str] = {}
    for what, path in paths.items():
        if path is None:
            continue
        real = as_path(path).resolve()
        if real in seen and (real.is_file() or not real.exists()):
            raise InputError(f"'{path}' is both {seen[real]} and {what}, but they must be different files.")
        seen[real] = what


def check_writable_file(path: str | Path) -> Path:
    """Refuse an output file that can not be written.

    Returns:
        The path, with ``~`` as a home folder.

    Raises:
        InputError: If the path is a folder, or its own folder can not be written.
    """
    path = as_path(path, "Output file", WRITTEN)
    if path.is_dir():
        raise InputError(f"Output file '{path}' is a folder; give the name of a file.")
    if not path.exists() or path.is_file():
        check_writable_folder(path.parent)
    elif not os.access(path, os.W_OK):  # a device or a pipe; opening one can wait for whoever reads it
        raise InputError(f"Output file '{path}' can not be written: permission denied.")
    return path


def plot_files(path: Path) -> tuple[Path, ...]:
    """The files that a plot is written to, given the name of one: PDF alone, PNG and SVG beside each other."""
    if path.suffix.lower() == PDF:
        return (path,)
    return tuple(path.with_suffix(ending) for ending in PLOT_ENDINGS)


def check_plot_path(path: str | Path) -> Path:
    """Refuse a plot file of a kind that is not drawn.

    Returns:
        The path, with ``~`` as a home folder.

    Raises:
        InputError: If the name does not end in .png, .svg or .pdf.
    """
    path = as_path(path, "Plot file", WRITTEN)
    if path.suffix.lower() not in (*PLOT_ENDINGS, PDF):
        raise InputError(
            f"Plot file '{path}' must end in .png or .svg, of which the other one is written beside it, or in .pdf."
        )
    return path


def check_table_path(path: str | Path) -> Path:
    """Refuse a table file of a kind that is not written, or that can not be written.

    Returns:
        The path, with ``~`` as a home folder.

    Raises:
        InputError: If the name does not end in .csv, .tex or .md, or the file can not be written.
    """
    path = as_path(path, "Table file", WRITTEN)
    if path.suffix.lower() not in TABLE_ENDINGS:
        raise InputError(f"Table file '{path}' must end in {', '.join(TABLE_ENDINGS[:-1])} or {TABLE_ENDINGS[-1]}.")
    return check_writable_file(path)


def check_png_path(path: str | Path) -> Path:
    """Refuse a picture file that is no PNG by its name, or can not be written.

    Returns:
        The path, with ``~`` as a home folder.

    Raises:
        InputError: If the name does not end in .png, or the file can not be written.
    """
    path = as_path(path, "Picture file", WRITTEN)
    if path.suffix != PNG:
        raise InputError(f"Picture file '{path}' must end in {PNG}.")
    return check_writable_file(path)


def draw_or_tell(draw: Callable[[], list[Path]], tell: Callable[[str], None]) -> list[Path]:
    """Draw a picture of a result; if it can not be drawn that is told, because the result is there all the same.

    Args:
        draw: Imports what it needs, draws, and returns the files written.
        tell: Called with a sentence.

    Returns:
        The files written.
    """
    try:
        return draw()
    except Exception as error:  # whatever a library or its set-up can raise
        reason = str(error).removesuffix(".") if isinstance(error, InputError) else first_line(error)
        tell(f"Warning: a picture is missing, because it could not be drawn: {reason}.")
        return []


def check_readable_file(path: str | Path, what: str, ending: str) -> Path:
    """Refuse an input file that is not there or can not be read.

    Args:
        path: The file.
        what: What it is, for example ``trace``.
        ending: How the names of such files end, for a suggestion.

    Returns:
        The path, with ``~`` as a home folder.

    Raises:
        InputError: If there is none, it is a folder, or it can not be read.
    """
    path = existing(path, what, ending)
    if not os.access(path, os.R_OK):
        raise InputError(f"{what.capitalize()} file '{path}' can not be read: permission denied.")
    return path


def write_json(path: Path, data: Any) -> None:
    """Write JSON in one step, so that a reader, or a crash half-way, never meets half a file.

    Numbers that JSON does not have (not-a-number, infinity) are written as null.

    Raises:
        InputError: If the file can not be written.
    """
    text = json.dumps(_plain(data), indent=2, allow_nan=False) + "\n"
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step.

    Raises:
        InputError: If the file can not be written.
    """
    write_bytes(path, text.encode("utf-8", "surrogateescape"))  # names of files need not be text


def write_text_if_changed(path: Path, text: str) -> bool:
    """Write a text file unless it holds that already; returns whether it was written.

    Raises:
        InputError: If the file can not be written.
    """
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    write_text(path, text)
    return True


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file in one step, in a folder that is made if need be.

    Raises:
        InputError: If the file can not be written.
    """
    path = as_path(path, "Output file", WRITTEN)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Output file '{path}' can not be written: {reason_of(error)}.") from None
    with replacing(path, "wb") as file:
        file.write(data)


def _plain(value: Any) -> Any:
    """Return nested plain values for JSON: paths as text, arrays as lists, non-finite numbers as None."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy arrays and scalars
        return _plain(value.tolist())
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
