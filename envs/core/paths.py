# SPDX-License-Identifier: Apache-2.0
"""Paths as people write them, and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

from edgegen.envs.core.errors import InputError

READ, WRITTEN = "read", "written"
"""What is to be done with a path, for sentences."""


def as_path(given: str | Path, what: str = "Path", use: str = READ) -> Path:
    """The path that a text means, with ``~`` as a home folder; whether there is anything is not asked.

    Args:
        given: What a person wrote.
        what: What it is, to begin a sentence with, for example ``Output file``.
        use: What is to be done with it, :data:`READ` or :data:`WRITTEN`.

    Raises:
        InputError: If it is empty, or can never be a path here: a name is too long, links go in circles, a folder on
            the way must not be entered, there is no such home folder.
    """
    path = _expanded(str(given), what, use)
    try:
        _look_up(path)
    except OSError as error:
        raise InputError(f"{what} '{path}' can not be {use}: {reason_of(error)}.") from None
    return path


def is_there(path: Path) -> bool:
    """Whether there is something at a path.

    Raises:
        OSError: If that can not be told.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def beside(file: Path, name: str) -> str:
    """The path that a file names: ``~`` is a home folder, and what is relative is looked for beside the file."""
    what = f"The path in '{file}'"
    return str(as_path(file.parent / _expanded(name, what, READ), what))


def reason_of(error: OSError) -> str:
    """What went wrong with a file, in the operating system's words."""
    return (error.strerror or str(error)).lower()


def _expanded(text: str, what: str, use: str) -> Path:
    if not text:
        raise InputError(f"{what} is an empty text, but must be a path.")
    if "\0" in text:
        raise InputError(f"{what} '{text}' can not be {use}: a path holds no NUL character.")
    # As a text, because to pathlib ./~ is the same as ~.
    expanded = os.path.expanduser(text)  # noqa: PTH111
    if text.startswith("~") and expanded == text:
        home = text.partition("/")[0]
        raise InputError(f"{what} '{text}' can not be {use}: there is no home folder '{home}'.")
    path = Path(expanded)
    return Path.cwd() / path if str(path).startswith("~") else path  # so that it means the same when asked again


def _look_up(path: Path) -> None:
    """Look every name of a path up.

    Names below what does not exist are looked up in the nearest folder that does: only there is it known how long a
    name may be.
    """
    if is_there(path):
        return
    nearest = path.parent
    while not is_there(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    for name in path.parts[len(nearest.parts) :]:
        is_there(nearest / name)


@contextlib.contextmanager
def replacing(path: str | Path, mode: Literal["w", "wb"] = "w") -> Iterator[IO[Any]]:
    """Open a file that takes the place of ``path`` when the block ends, and leaves nothing behind if it fails.

    The file is opened at once, so a place that can not be written to is noticed before the work is done.

    Args:
        path: Where to.
        mode: ``w`` for UTF-8 text, ``wb`` for bytes.

    Raises:
        InputError: If the file can not be written.
    """
    given = as_path(path, "Output file", WRITTEN)
    # Devices and pipes (/dev/stdout) must not be replaced by a file, and what they link to need not be a path.
    in_place = given.exists() and not given.is_file()
    target = given if in_place else given.resolve()  # a link to a file stays a link
    # The name is not that of the target with something added, which could be too long.
    written = target if in_place else target.with_name(f".edgegen-{secrets.token_hex(8)}.tmp")
    text = {"encoding": "utf-8", "newline": ""} if mode == "w" else {}
    opened: Literal["w", "wb", "x", "xb"] = mode if in_place else ("x" if mode == "w" else "xb")
    try:
        with written.open(opened, **text) as file:  # type: ignore[call-overload]  # text has these, bytes do not
            yield file
        if not in_place:
            written.replace(target)
    except OSError as error:
        raise InputError(f"Output file '{path}' can not be written: {reason_of(error)}.") from None
    finally:
        if not in_place:
            with contextlib.suppress(OSError):
                written.unlink(missing_ok=True)
