"""Files a command leaves behind: checked before the work starts, written in one step when it is done."""

from __future__ import annotations

import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

from edgegen.envs.errors import InputError


def check_writable_folder(folder: Path) -> None:
    """Refuse an output folder that can not be created or written, without leaving anything behind.

    Raises:
        InputError: If the folder, or the nearest parent that exists, can not be written.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        # A real attempt: permission bits say nothing about read-only mounts, full disks or a privileged user.
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"Output folder '{folder}' can not be written: {reason}.") from None


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
        real = Path(path).resolve()
        if real in seen and (real.is_file() or not real.exists()):
            raise InputError(f"'{path}' is both {seen[real]} and {what}, but they must be different files.")
        seen[real] = what


def check_writable_file(path: Path) -> None:
    """Refuse an output file that can not be written.

    Raises:
        InputError: If the path is a folder, or its own folder can not be written.
    """
    if path.is_dir():
        raise InputError(f"Output file '{path}' is a folder; give the name of a file.")
    check_writable_folder(path.parent)


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
    partial: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, because only a rename within one file system is a single step.
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
        ) as file:
            partial = Path(file.name)
            file.write(text)
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o666 & ~umask)  # temporary files are private; results need not be
        partial.replace(path)
    except OSError as error:
        if partial is not None:
            partial.unlink(missing_ok=True)
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"Output file '{path}' can not be written: {reason}.") from None


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
